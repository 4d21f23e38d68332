//! The console: a page for people, and the files that it is made of, which are part of the program.
//!
//! The files are the same for everybody and hold nothing of anybody, so that they need no credential; what the page shows, it
//! asks for by the same verbs as any other client. Invariant: nothing but these files can be loaded or run by the page, and
//! nothing can be sent but to this server, whatever an agent writes into its name, its log or its output.

use axum::Router;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::door::DoorState;

/// With trusted types, a script that would make markup out of text fails where browsers know them.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

/// What browsers are told of each file; that it is kept nowhere, and is of the type that it says, they are told of every reply.
const HEADERS: [(HeaderName, HeaderValue); 3] = [
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
];

/// The page and its files.
pub(super) fn pages() -> Router<DoorState> {
    const SCRIPT: &str = "text/javascript; charset=utf-8";
    Router::new()
        .route("/", get(|| file("text/html; charset=utf-8", include_str!("index.html"))))
        .route("/console/page.css", get(|| file("text/css; charset=utf-8", include_str!("page.css"))))
        .route("/console/page.js", get(|| file(SCRIPT, include_str!("page.js"))))
        .route("/console/server.js", get(|| file(SCRIPT, include_str!("server.js"))))
        .route("/console/stream.js", get(|| file(SCRIPT, include_str!("stream.js"))))
        .route("/console/text.js", get(|| file(SCRIPT, include_str!("text.js"))))
        .route("/console/icon.svg", get(|| file("image/svg+xml", include_str!("icon.svg"))))
}

async fn file(kind: &'static str, content: &'static str) -> Response {
    (HEADERS, [(header::CONTENT_TYPE, kind)], content).into_response()
}
