//! What web pages may do here, and what browsers are told of the replies.
//!
//! A page of any site can post a form to a service on the reader's own machine, and the browser does not ask
//! first: so could a stranger's page load an agent over a loopback service that wants no credential. Browsers name
//! the page's site in `Origin`; programs do not send it. A request with an `Authorization` header is let through,
//! for a page can set that only where the service has allowed its site.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::IpAddr;
use std::task::{Context, Poll};

use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request, header};
use axum::response::{IntoResponse, Response};
use futures::future::{Either, MapOk, TryFutureExt};
use mentat_manifest::escape_untrusted;
use mentat_runtime::error::Error;
use tower::Service;

use super::reply::Reply;
use crate::door::HostNames;

const SAME_SITE: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// Stands before every handler.
#[derive(Clone, Debug)]
pub(crate) struct Guard<S> {
    names: HostNames,
    inner: S,
}

impl<S> Guard<S> {
    pub(super) fn new(names: HostNames, inner: S) -> Self {
        Self { names, inner }
    }
}

impl<S, B> Service<Request<B>> for Guard<S>
where
    S: Service<Request<B>, Response = Response, Error = Infallible>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = MapOk<Either<S::Future, Ready<Result<Response, Infallible>>>, fn(Response) -> Response>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let answer = match foreign_name(self.names, &request).or_else(|| foreign_page(&request)) {
            Some(error) => Either::Right(ready(Ok(Reply::from(error).into_response()))),
            None => Either::Left(self.inner.call(request)),
        };
        answer.map_ok(|mut response| {
            tell_browsers(response.headers_mut());
            response
        })
    }
}

/// An agent's output is what an agent likes; a browser must not guess it to be a page or a script, nor keep it. Nothing is
/// done where it was told before.
pub(super) fn tell_browsers(headers: &mut HeaderMap) {
    if [SAME_SITE, header::X_CONTENT_TYPE_OPTIONS, header::CACHE_CONTROL]
        .iter()
        .all(|name| headers.contains_key(name))
    {
        return;
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // A page of another site could show it or run it, though it cannot read it.
    headers.insert(SAME_SITE, HeaderValue::from_static("same-origin"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}

/// A page can have a name of its own mean the reader's machine, and so be of the same site as a service there
/// (DNS rebinding); the name gives it away.
fn foreign_name<B>(names: HostNames, request: &Request<B>) -> Option<Error> {
    let called = here(request);
    if names == HostNames::Any || called.is_empty() || is_local(called) {
        return None;
    }
    Some(Error::PolicyDenied {
        message: format!(
            "this server is called `{}`, but lets in without a credential only who calls it `localhost` or by its \
             loopback address; use that, or configure `auth`",
            escape_untrusted(called, 200)
        ),
    })
}

fn is_local(authority: &str) -> bool {
    // As most say it; the port is for whoever connects to find.
    let plain = authority.strip_prefix("127.0.0.1").or_else(|| authority.strip_prefix("localhost"));
    let is_port = |rest: &str| {
        rest.strip_prefix(':').is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
    };
    if plain.is_some_and(|rest| rest.is_empty() || is_port(rest)) {
        return true;
    }
    let Ok(authority) = authority.parse::<Authority>() else { return false };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// What the client calls this server: host, and port where it is not the usual one.
fn here<B>(request: &Request<B>) -> &str {
    match request.uri().authority() {
        Some(authority) => authority.as_str(),
        None => {
            let host = request.headers().get(header::HOST);
            host.map(|host| host.to_str().unwrap_or("?")).unwrap_or_default()
        }
    }
}

fn foreign_page<B>(request: &Request<B>) -> Option<Error> {
    let headers = request.headers();
    // Programs send none.
    let origin = headers.get(header::ORIGIN)?;
    // A page can read what comes by a WebSocket, though opening one looks harmless; and cannot set this header for it.
    let opens_socket = headers.contains_key(header::UPGRADE);
    if !opens_socket && (request.method().is_safe() || headers.contains_key(header::AUTHORIZATION)) {
        return None;
    }
    let origin = origin.to_str().unwrap_or_default();
    let here = here(request);
    let site = origin.split_once("://").map(|(_, site)| site);
    if site.is_some_and(|site| !site.is_empty() && site.eq_ignore_ascii_case(here)) {
        return None;
    }
    let origin = escape_untrusted(origin, 200);
    Some(Error::PolicyDenied {
        message: format!(
            "a web page of `{origin}` may not call this service; send an `Authorization` header"
        ),
    })
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::http::StatusCode;
    use axum::routing::any;
    use tower::ServiceExt;

    use super::*;

    async fn status_of(method: &str, headers: &[(&str, &str)]) -> StatusCode {
        status_at("127.0.0.1:8080", HostNames::Local, method, headers).await
    }

    async fn status_at(host: &str, names: HostNames, method: &str, headers: &[(&str, &str)]) -> StatusCode {
        let router = Guard::new(names, Router::new().route("/", any(|| async { "ok" })));
        let mut request = Request::builder().method(method).uri("/").header("host", host);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.headers()["x-content-type-options"], "nosniff");
        assert_eq!(response.headers()["cache-control"], "no-store");
        assert_eq!(response.headers()["cross-origin-resource-policy"], "same-origin");
        response.status()
    }

    #[tokio::test]
    async fn pages_of_other_sites_change_nothing() {
        for origin in
            ["https://evil.example", "http://127.0.0.1:9999", "null", "", "http://", "127.0.0.1:8080"]
        {
            assert_eq!(status_of("POST", &[("origin", origin)]).await, StatusCode::FORBIDDEN, "{origin}");
            assert_eq!(status_of("DELETE", &[("origin", origin)]).await, StatusCode::FORBIDDEN, "{origin}");
        }
    }

    #[tokio::test]
    async fn a_server_that_asks_nobody_answers_to_its_own_machines_names_only() {
        for host in ["localhost", "LOCALHOST:8080", "127.0.0.1", "127.1.2.3:80", "[::1]:8080"] {
            assert_eq!(status_at(host, HostNames::Local, "GET", &[]).await, StatusCode::OK, "{host}");
        }
        for host in
            ["evil.example", "evil.example:8080", "localhost.evil.example", "10.0.0.1", "[::2]", "a b"]
        {
            assert_eq!(status_at(host, HostNames::Local, "GET", &[]).await, StatusCode::FORBIDDEN, "{host}");
            let page = [("origin", "http://evil.example")];
            assert_eq!(
                status_at(host, HostNames::Local, "POST", &page).await,
                StatusCode::FORBIDDEN,
                "{host}"
            );
            assert_eq!(status_at(host, HostNames::Any, "GET", &[]).await, StatusCode::OK, "{host}");
        }
    }

    #[tokio::test]
    async fn programs_own_pages_and_callers_with_a_key_are_let_through() {
        for headers in [
            &[][..],
            &[("origin", "http://127.0.0.1:8080")],
            &[("origin", "https://console.example"), ("authorization", "Bearer key")],
        ] {
            assert_eq!(status_of("POST", headers).await, StatusCode::OK, "{headers:?}");
        }
        assert_eq!(status_of("GET", &[("origin", "https://evil.example")]).await, StatusCode::OK);
    }
}
