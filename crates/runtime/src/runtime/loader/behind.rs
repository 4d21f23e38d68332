//! Optimised code for modules that run already, which nobody waits for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Loader;
use crate::error::Error;
use crate::runtime::compile::Priority;
use crate::runtime::improvements::{Improvement, Worker};
use crate::runtime::module::Module;

/// How long after a failure that is not the module's own better code is tried for again; each time for twice as long.
const FIRST_RETRY: Duration = Duration::from_secs(10);
/// How often it is tried in all.
const MAX_ATTEMPTS: u32 = 5;

impl Loader {
    /// Lets optimised code be made behind a module that runs on baseline code.
    pub(super) fn improve(self: &Arc<Self>, improvement: Improvement<Module>) {
        for module in self.improvements.add(improvement) {
            tracing::warn!(%module, "too many modules wait for optimised code; this one goes without until it is loaded again");
        }
        if let Some(worker) = self.improvements.worker() {
            // Nobody waits for it: what is not done when the process ends is begun anew by the next one.
            self.behind.spawn(Arc::clone(self).improve_all(worker));
        }
    }

    async fn improve_all(self: Arc<Self>, mut worker: Worker<Module>) {
        while let Some(next) = worker.next() {
            let Some(info) = next.module.upgrade().map(|module| module.info().clone()) else { continue };
            let (key, started) = (next.key, Instant::now());
            match self.optimized(&key, &info, next.bytes.clone(), Priority::Behind).await {
                Ok(linked) => {
                    tracing::debug!(module = %key.digest, took = ?started.elapsed(), "optimised code takes over");
                    if let Some(module) = next.module.upgrade() {
                        module.improve(linked);
                    }
                }
                Err(error) => self.try_again_later(next, &error),
            }
        }
    }

    /// What is the module's own fault stays so; of a machine that had no room, say, that may be over soon.
    fn try_again_later(self: &Arc<Self>, failed: Improvement<Module>, error: &Error) {
        let failures = failed.failures.saturating_add(1);
        let module = failed.key.digest;
        if matches!(error, Error::InvalidModule { .. }) || failures >= MAX_ATTEMPTS {
            tracing::warn!(%module, %error, "no optimised code; the module stays on baseline code");
            return;
        }
        let pause = FIRST_RETRY.saturating_mul(1 << (failures - 1));
        tracing::warn!(%module, %error, ?pause, "no optimised code; it is tried again");
        let this = Arc::clone(self);
        self.behind.spawn(async move {
            tokio::time::sleep(pause).await;
            this.improve(Improvement { failures, ..failed });
        });
    }
}
