//! How an agent is told by a proxy that it was refused, or why it failed: a status, the word for it of RFC 9209, and the
//! sentence that stands in its log.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::{BodyExt, Full};

use super::NetworkError;
use crate::host::requests::Received;

/// RFC 9209, section 2.
const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

pub(super) fn response(error: &NetworkError) -> Response<Received> {
    let (status, word) = kind(error);
    let text = Bytes::from(format!("{}\n", error.tell()));
    let mut response = Response::new(Full::new(text).map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(PROXY_STATUS, HeaderValue::from_static(word));
    response
}

fn kind(error: &NetworkError) -> (StatusCode, &'static str) {
    match error {
        NetworkError::Denied(_) => (StatusCode::FORBIDDEN, "mentat; error=http_request_denied"),
        NetworkError::Prohibited(_) => (StatusCode::FORBIDDEN, "mentat; error=destination_ip_prohibited"),
        NetworkError::Malformed(_) | NetworkError::UnfitSecret(_) => {
            (StatusCode::BAD_REQUEST, "mentat; error=http_request_error")
        }
        NetworkError::NoSuchName(_) | NetworkError::LookUp { .. } => {
            (StatusCode::BAD_GATEWAY, "mentat; error=dns_error")
        }
        NetworkError::TooMany(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, "mentat; error=connection_limit_reached")
        }
        NetworkError::Timeout { what: "connecting" | "agreeing on encryption", .. } => {
            (StatusCode::GATEWAY_TIMEOUT, "mentat; error=connection_timeout")
        }
        NetworkError::Timeout { .. } => (StatusCode::GATEWAY_TIMEOUT, "mentat; error=http_response_timeout"),
        NetworkError::Unreachable { source, .. }
            if source.kind() == std::io::ErrorKind::ConnectionRefused =>
        {
            (StatusCode::BAD_GATEWAY, "mentat; error=connection_refused")
        }
        NetworkError::Unreachable { .. } => {
            (StatusCode::BAD_GATEWAY, "mentat; error=destination_unavailable")
        }
        NetworkError::Tls { .. } => (StatusCode::BAD_GATEWAY, "mentat; error=tls_certificate_error"),
        NetworkError::Http(_) => (StatusCode::BAD_GATEWAY, "mentat; error=http_protocol_error"),
        NetworkError::TooLarge { what: "request", .. } => {
            (StatusCode::PAYLOAD_TOO_LARGE, "mentat; error=http_request_error")
        }
        NetworkError::TooLarge { .. } => (StatusCode::BAD_GATEWAY, "mentat; error=http_response_body_size"),
        NetworkError::Encoded(_) => (StatusCode::BAD_GATEWAY, "mentat; error=http_response_content_coding"),
    }
}
