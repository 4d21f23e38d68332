//! What web pages may do here, and what browsers are told of the replies.
//!
//! A page of any site can post a form to a service on the reader's own machine, and the browser does not ask
//! first: so could a stranger's page load an agent over a loopback service that wants no credential. Browsers name
//! the page's site in `Origin`; programs do not send it. A request with an `Authorization` header is let through,
//! for a page can set that only where the service has allowed its site.

use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use mentat_manifest::escape_untrusted;
use mentat_runtime::error::Error;

use super::reply::Reply;

/// Stands before every handler.
pub(super) async fn guard(request: Request, next: Next) -> Response {
    let mut response = match refusal(&request) {
        Some(error) => Reply::from(error).into_response(),
        None => next.run(request).await,
    };
    let headers = response.headers_mut();
    // An agent's output is what an agent likes; a browser must not guess it to be a page or a script.
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

fn refusal(request: &Request) -> Option<Error> {
    let headers = request.headers();
    if request.method().is_safe() || headers.contains_key(header::AUTHORIZATION) {
        return None;
    }
    let origin = headers.get(header::ORIGIN)?.to_str().unwrap_or_default();
    let here = match request.uri().authority() {
        Some(authority) => authority.as_str(),
        None => headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default(),
    };
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
        let router = Router::new().route("/", any(|| async { "ok" })).layer(axum::middleware::from_fn(guard));
        let mut request = Request::builder().method(method).uri("/").header("host", "127.0.0.1:8080");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.headers()["x-content-type-options"], "nosniff");
        assert_eq!(response.headers()["cache-control"], "no-store");
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
