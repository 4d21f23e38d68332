//! What comes of agents that are to be pulled from registries.

use mentat_runtime::error::Error;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use super::Metrics;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct PullLabels {
    result: &'static str,
}

/// Pulls by what came of them.
pub(super) type PullMetrics = Family<PullLabels, Counter>;

impl Metrics {
    /// Counts an agent that was pulled, or why it was not.
    pub fn pulled<T>(&self, pulled: &Result<T, Error>) {
        let result = match pulled {
            Ok(_) => "pulled",
            Err(Error::PolicyDenied { .. }) => "denied",
            Err(Error::Unavailable { .. }) => "unavailable",
            Err(Error::Overloaded { .. }) => "overloaded",
            Err(_) => "refused",
        };
        self.pulls.get_or_create(&PullLabels { result }).inc();
    }
}
