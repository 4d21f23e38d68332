//! Whose call it is, asked before a byte of its message is read: a stranger makes this server hold nothing.

use std::sync::Arc;

use mentat_runtime::error::Error;
use mentat_runtime::model::Caller;
use tonic::codegen::http;
use tonic::{Request, Status};

use super::status::status;
use crate::door::Door;
use crate::transport::{Charge, Peer, RequestBody};

/// What a call is marked with, all at once: each mark has memory of its own.
#[derive(Clone)]
struct Mark {
    caller: Caller,
    charge: Arc<Charge>,
}

/// Marks a call with its caller.
///
/// # Errors
/// `UNAUTHENTICATED` where its credential is not known.
pub(super) fn authenticate(door: &Door, request: &mut http::Request<RequestBody>) -> Result<(), Status> {
    let header = request.headers().get("authorization").and_then(|value| value.to_str().ok());
    let peer = request.extensions().get::<Peer>();
    let caller = door.authenticator.authenticate(header, peer).map_err(|error| status(&error))?;
    let charge = Arc::clone(request.body().charge());
    request.extensions_mut().insert(Mark { caller, charge });
    Ok(())
}

/// Whose call it is; the first thing that every method asks.
///
/// # Errors
/// `INTERNAL` for a call that did not come through [`authenticate`], which only a bug lets happen.
pub(super) fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    let mark = request.extensions().get::<Mark>();
    mark.map(|mark| mark.caller.clone()).ok_or_else(|| {
        status(&Error::Internal { message: "the call was not authenticated".into(), source: None })
    })
}

/// Where the call's reply is counted among what is on its way.
pub(super) fn charge<T>(request: &Request<T>) -> Option<Arc<Charge>> {
    request.extensions().get::<Mark>().map(|mark| Arc::clone(&mark.charge))
}
