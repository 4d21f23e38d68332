//! What executed agents that have both a module and an image.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use super::Metrics;
use crate::rollout::Choice;

/// Executions of such agents.
pub(super) type RolloutMetrics = Family<RolloutLabels, Counter>;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RolloutLabels {
    runtime: &'static str,
    reason: &'static str,
}

impl Metrics {
    /// Counts an execution of an agent that has both a module and an image.
    pub fn chosen(&self, choice: Choice) {
        let runtime = choice.runtime.as_str();
        let labels = RolloutLabels { runtime, reason: choice.reason.as_str() };
        self.rollout.get_or_create_owned(&labels).inc();
    }
}

#[cfg(test)]
mod tests {
    use mentat_manifest::RuntimeKind;

    use super::*;
    use crate::rollout::ChoiceReason;

    #[test]
    fn each_choice_is_counted_with_its_reason() {
        let metrics = Metrics::new();
        let choice = Choice { runtime: RuntimeKind::Container, reason: ChoiceReason::Listed };
        metrics.chosen(choice);
        metrics.chosen(choice);
        let labels = RolloutLabels { runtime: "container", reason: "listed" };
        assert_eq!(metrics.rollout.get_or_create_owned(&labels).get(), 2);
    }
}
