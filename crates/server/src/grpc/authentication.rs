//! Whose call it is, asked before a byte of its message is read: a stranger makes this server hold nothing.

use mentat_runtime::error::Error;
use mentat_runtime::model::Caller;
use tonic::codegen::http;
use tonic::{Request, Status};

use super::status::status;
use crate::door::Door;
use crate::transport::Peer;

/// Marks a call with its caller.
///
/// # Errors
/// `UNAUTHENTICATED` where its credential is not known.
pub(super) fn authenticate<B>(door: &Door, request: &mut http::Request<B>) -> Result<(), Status> {
    let header = request.headers().get("authorization").and_then(|value| value.to_str().ok());
    let peer = request.extensions().get::<Peer>();
    let caller = door.authenticator.authenticate(header, peer).map_err(|error| status(&error))?;
    request.extensions_mut().insert(caller);
    Ok(())
}

/// Whose call it is; the first thing that every method asks.
///
/// # Errors
/// `INTERNAL` for a call that did not come through [`authenticate`], which only a bug lets happen.
pub(super) fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    let known = request.extensions().get::<Caller>().cloned();
    known.ok_or_else(|| {
        status(&Error::Internal { message: "the call was not authenticated".into(), source: None })
    })
}
