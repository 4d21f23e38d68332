//! Extensions: an operator's own services, which an agent calls by name. The agent's arguments are posted to the URL that
//! the operator gave; what comes back is the result. Where it goes is the operator's word, and is not checked again.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Method, Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use serde::de::IgnoredAny;

use super::abi::AbiError;
use super::capabilities::{CallError, arguments};
use super::context::HostContext;
use super::network::{Endpoint, NetworkError};
use super::requests::{self, Patience};
use crate::security::policy::Permission;

/// Bytes of what an extension answers.
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// Calls an extension with JSON of the agent's; answers what it answers.
pub(crate) async fn invoke(
    context: &mut HostContext,
    permission: &Permission,
    bytes: &[u8],
) -> Result<Bytes, CallError> {
    arguments::<IgnoredAny>(bytes)?;
    let outbound = Arc::clone(context.outbound());
    outbound.decide(permission.capability())?;
    let grant = outbound.gate.grant();
    let endpoint = Endpoint::of_extension(permission, grant.offers())?;
    let path = grant.offers().path_of_extension(permission.capability());
    let wrong = |error: &dyn std::fmt::Display| CallError::new(AbiError::Unavailable, error.to_string());
    let mut request =
        Request::new(Full::new(Bytes::copy_from_slice(bytes)).map_err(|never| match never {}).boxed_unsync());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = path.parse::<Uri>().map_err(|error| wrong(&error))?;
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    // Who calls, for the extension to decide by; the agent has no say in it.
    tell(headers, "mentat-tenant", grant.tenant());
    tell(headers, "mentat-agent", grant.agent().unwrap_or_default());
    tell(headers, "mentat-execution", &grant.execution().map(|id| id.to_string()).unwrap_or_default());
    let response =
        requests::deliver(&outbound, outbound.open()?, &endpoint, request, Patience::default()).await?;
    let status = response.status();
    let answer = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
    let answer = answer.map_err(|error| match error.downcast::<NetworkError>() {
        Ok(error) => (*error).into(),
        Err(_) => CallError::new(
            AbiError::TooLarge,
            format!("the extension answered more than {MAX_ANSWER_BYTES} bytes"),
        ),
    })?;
    let answer = answer.to_bytes();
    if status.is_success() {
        return Ok(answer);
    }
    let said = String::from_utf8_lossy(&answer);
    let code = if status.is_client_error() { AbiError::Malformed } else { AbiError::Unavailable };
    Err(CallError::new(code, format!("the extension answered {status}: {said}")))
}

fn tell(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}
