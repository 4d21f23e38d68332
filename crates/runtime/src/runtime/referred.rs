//! Executions whose input is a reference: the object is opened before there is a place for the execution, and what came of
//! it is stored when the place is free again, each within the execution's own time.

use std::time::Duration;

use bytes::Bytes;

use super::Runtime;
use super::module::Module;
use crate::error::{Error, TimeLimit};
use crate::host::abi::AbiError;
use crate::host::capabilities::CallError;
use crate::host::media::{self, ObjectStdin};
use crate::model::{Answer, Invocation, Outcome};
use crate::security::policy::{Grant, OnViolation};

/// When to ask again what the store could not do.
const RETRY_AFTER: Duration = Duration::from_secs(5);

impl Runtime {
    /// Whether the input is a reference to what the agent is to be given.
    pub(super) fn refers(&self, grant: &Grant, input: &Bytes) -> bool {
        media::refers(grant, input)
    }

    /// Executes a module on an object, and makes an object of its output where the manifest has it so.
    pub(super) async fn execute_referred(
        &self,
        module: &Module,
        grant: &Grant,
        invocation: Invocation,
    ) -> Outcome {
        let (reference, cancel) = (invocation.input.clone(), invocation.cancel.clone());
        let store = self.host.media.as_ref();
        let opening = async {
            let object = media::open_input(store, grant, &reference).await?;
            if module.code().entry.is_command() {
                return Ok((Bytes::new(), Some(ObjectStdin::new(object))));
            }
            // All others are given it whole, in their own memory.
            Ok((object.whole(grant.limits().memory_bytes).await?, None))
        };
        let opened = tokio::select! {
            opened = within(grant, opening) => opened,
            () = cancel.cancelled() => Err(Error::Cancelled),
        };
        let (input, stdin) = match opened {
            Ok(opened) => opened,
            Err(error) => return Outcome::failed(error),
        };
        let outcome = self.execute_anywhere(module, grant, Invocation { input, ..invocation }, stdin).await;
        let output = match &outcome.result {
            Ok(answer) if answer.exit_code == 0 => answer.output.clone(),
            _ => return outcome,
        };
        let stored = tokio::select! {
            stored = within(grant, media::store_output(store, grant, &output)) => stored,
            () = cancel.cancelled() => Err(Error::Cancelled),
        };
        let output = stored.map(|reference| reference.map_or(output, Bytes::from));
        Outcome { result: output.map(|output| Answer { output, exit_code: 0 }), ..outcome }
    }
}

async fn within<T>(grant: &Grant, doing: impl Future<Output = Result<T, CallError>>) -> Result<T, Error> {
    let limit = grant.limits().timeout;
    match tokio::time::timeout(limit, doing).await {
        Ok(done) => done.map_err(|error| told(grant, error)),
        Err(_) => Err(Error::Timeout { limit, clock: TimeLimit::Wall }),
    }
}

/// What a caller is told of what a guest would have been told.
fn told(grant: &Grant, error: CallError) -> Error {
    match error.code {
        AbiError::NotInManifest | AbiError::Denied if grant.on_violation() == OnViolation::Terminate => {
            Error::SecurityViolation { message: error.message }
        }
        _ => told_to_caller(error),
    }
}

/// What a caller is told of what went wrong with an object.
pub(super) fn told_to_caller(error: CallError) -> Error {
    let message = error.message;
    match error.code {
        AbiError::NotInManifest | AbiError::Denied => Error::PolicyDenied { message },
        AbiError::Exhausted | AbiError::TimedOut | AbiError::Unavailable => {
            Error::Overloaded { message, retry_after: RETRY_AFTER }
        }
        AbiError::Malformed
        | AbiError::NotFound
        | AbiError::TooLarge
        | AbiError::BadHandle
        | AbiError::Closed
        | AbiError::NoResult
        | AbiError::Unsupported => Error::InvalidRequest { message },
    }
}
