//! A client of registries: what it may ask, what it knows, how long it waits.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mentat_manifest::ByteCount;

use crate::artifact::Artifact;
use crate::connection::Connector;
use crate::credentials::Credentials;
use crate::error::OciError;
use crate::pull::{self, Pulled};
use crate::push::{self, Pushed};
use crate::reference::Reference;
use crate::rules::Rules;

/// How long is waited.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Until a connection stands, encryption included.
    pub connect: Duration,
    /// While nothing comes and nothing is taken.
    pub silence: Duration,
    /// For all of it.
    pub total: Duration,
}

/// Is told how many bytes are done, and of how many.
pub type Progress = Arc<dyn Fn(u64, u64) + Send + Sync>;

/// A client of registries.
#[derive(Debug)]
pub struct Client {
    pub(crate) rules: Rules,
    pub(crate) credentials: Credentials,
    pub(crate) connector: Connector,
    pub(crate) max_module: ByteCount,
    patience: Patience,
}

impl Client {
    /// A client; `roots` is a PEM file of roots beside the system's, `max_module` how large a module may be.
    ///
    /// # Errors
    /// When the roots cannot be read.
    pub fn new(
        rules: Rules,
        credentials: Credentials,
        roots: Option<&Path>,
        patience: Patience,
        max_module: ByteCount,
    ) -> Result<Self, OciError> {
        Ok(Self { rules, credentials, connector: Connector::new(roots, patience)?, max_module, patience })
    }

    /// Pulls an agent. What it answers is what the digest names.
    ///
    /// # Errors
    /// What is not allowed, not there, not in time, or not what it is said to be.
    pub async fn pull(&self, reference: &Reference, progress: &Progress) -> Result<Pulled, OciError> {
        self.in_time(reference, pull::pull(self, reference, progress)).await
    }

    /// Pushes an agent under a tag; what the registry has already is not sent again.
    ///
    /// # Errors
    /// What is not allowed, or not taken.
    pub async fn push(
        &self,
        reference: &Reference,
        artifact: &Artifact,
        progress: &Progress,
    ) -> Result<Pushed, OciError> {
        self.in_time(reference, push::push(self, reference, artifact, progress)).await
    }

    async fn in_time<T>(
        &self,
        reference: &Reference,
        work: impl Future<Output = Result<T, OciError>>,
    ) -> Result<T, OciError> {
        let late = |_| {
            let (registry, total) = (&reference.registry, self.patience.total);
            OciError::Unavailable(format!("`{registry}` was not done within {total:?}"))
        };
        tokio::time::timeout(self.patience.total, work).await.map_err(late)?
    }
}
