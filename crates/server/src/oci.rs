//! Agents out of OCI registries, for callers who have the service load them from there: which registries, the operator says;
//! which agent, the caller, by its digest.
//!
//! Invariant: what comes from here goes the way of every other agent, `Registry::load`; nothing of it is believed for where it
//! came from.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mentat_oci::{Client, OciError, Reference};
use mentat_runtime::error::Error;
use tokio::sync::Semaphore;

/// When a caller may try again whose registry does not answer, or for whom there was no place.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// The way to the registries that the operator allows.
#[derive(Debug)]
pub struct OciRegistries {
    client: Client,
    places: Semaphore,
    size: u32,
}

/// An agent as it came.
#[derive(Debug)]
pub struct PulledAgent {
    /// Its manifest's YAML text.
    pub manifest: String,
    /// Its module.
    pub module: Bytes,
}

impl OciRegistries {
    /// So many agents are pulled at one time, each of which is held in memory.
    #[must_use]
    pub fn new(client: Client, concurrent: u32) -> Self {
        let size = concurrent.max(1);
        let places = usize::try_from(size).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Self { client, places: Semaphore::new(places), size }
    }

    /// Pulls the agent that a reference names.
    ///
    /// # Errors
    /// `INVALID_REQUEST` for a reference without a digest, and for what is no agent; `POLICY_DENIED` for a registry that the
    /// operator does not allow, or that does not let the service in; `UNAVAILABLE` for one that does not answer; `OVERLOADED`
    /// when as many are pulled already as may be.
    pub async fn pull(&self, reference: &str) -> Result<PulledAgent, Error> {
        let reference: Reference =
            reference.parse().map_err(|error: mentat_oci::ReferenceError| invalid(error.to_string()))?;
        if reference.digest().is_none() {
            return Err(invalid(format!(
                "`{reference}` has no digest, and what a tag means can change; name the agent by `@sha256:…`, as `mentat push` \
                 and `mentat pull` print it"
            )));
        }
        let _place = self.places.try_acquire().map_err(|_| Error::Overloaded {
            message: format!(
                "{} agents are being pulled from registries, the limit (`oci.concurrent`)",
                self.size
            ),
            retry_after: RETRY_AFTER,
        })?;
        let pulled = self.client.pull(&reference, &(Arc::new(|_, _| ()) as _)).await.map_err(told)?;
        let manifest = pulled.manifest.ok_or_else(|| {
            invalid(format!("`{reference}` is a module alone; push it with a manifest, by `mentat push`"))
        })?;
        tracing::info!(%reference, "agent pulled");
        Ok(PulledAgent { manifest, module: pulled.module })
    }
}

fn told(error: OciError) -> Error {
    match error {
        OciError::Invalid(message) | OciError::NotFound(message) | OciError::Untrusted(message) => {
            Error::InvalidRequest { message }
        }
        OciError::Denied(message) | OciError::Unauthorized(message) => Error::PolicyDenied { message },
        OciError::Unavailable(message) => Error::Unavailable { message, retry_after: RETRY_AFTER },
        OciError::Local(message) => Error::internal("reaching the registry", std::io::Error::other(message)),
    }
}

fn invalid(message: String) -> Error {
    Error::InvalidRequest { message }
}
