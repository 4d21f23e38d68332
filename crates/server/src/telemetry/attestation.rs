//! What is counted of signatures.

use std::time::Duration;

use mentat_runtime::security::principal::Trust;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use crate::signatures::StandingCounts;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ResultLabels {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct TrustLabels {
    trust: &'static str,
}

/// The metrics of that.
#[derive(Debug)]
pub(super) struct AttestationMetrics {
    pub(super) verification: Family<ResultLabels, Histogram, fn() -> Histogram>,
    pub(super) agents: Family<TrustLabels, Gauge>,
    pub(super) unenforced: Counter,
}

impl Default for AttestationMetrics {
    fn default() -> Self {
        let histogram: fn() -> Histogram =
            || Histogram::new([1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0]);
        Self {
            verification: Family::new_with_constructor(histogram),
            agents: Family::default(),
            unenforced: Counter::default(),
        }
    }
}

impl AttestationMetrics {
    pub(super) fn verified(&self, result: &'static str, took: Duration) {
        self.verification.get_or_create_owned(&ResultLabels { result }).observe(took.as_secs_f64());
    }

    pub(super) fn set(&self, counts: &StandingCounts) {
        let tell = |trust, count| {
            let gauge = self.agents.get_or_create_owned(&TrustLabels { trust });
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        };
        for (level, count) in Trust::ALL.into_iter().zip(counts.trusted) {
            tell(level.as_str(), count);
        }
        tell("refused", counts.refused);
    }
}
