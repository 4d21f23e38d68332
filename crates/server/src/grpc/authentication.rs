//! Whose call it is, asked before a byte of its message is read: a stranger makes this server hold nothing.

use mentat_runtime::error::Error;
use mentat_runtime::model::Caller;
use tonic::service::Interceptor;
use tonic::{Request, Status};

use super::status::status;
use crate::door::DoorState;
use crate::transport::Peer;

/// Lets calls in whose credential is known, and marks each with its caller.
#[derive(Clone, Debug)]
pub(super) struct Authentication {
    state: DoorState,
}

impl Authentication {
    pub(super) fn new(state: DoorState) -> Self {
        Self { state }
    }
}

impl Interceptor for Authentication {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let header = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        let peer = request.extensions().get::<Peer>();
        let caller = self.state.authenticator.authenticate(header, peer).map_err(|error| status(&error))?;
        request.extensions_mut().insert(caller);
        Ok(request)
    }
}

/// Whose call it is; the first thing that every method asks.
///
/// # Errors
/// `INTERNAL` for a call that did not come through [`Authentication`], which only a bug lets happen.
pub(super) fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    let known = request.extensions().get::<Caller>().cloned();
    known.ok_or_else(|| {
        status(&Error::Internal { message: "the call was not authenticated".into(), source: None })
    })
}
