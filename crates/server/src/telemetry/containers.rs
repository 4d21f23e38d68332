//! What containers cost, and whether their engine answers.

use std::sync::atomic::Ordering;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use super::{ExecutionLabels, InstanceLabels};

/// What there is of containers now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ContainerLevels {
    /// Places that are taken.
    pub active: u32,
    /// Places in all; none without an engine.
    pub places: u32,
    /// Whether the engine did what it was asked for lately.
    pub engine_up: bool,
    /// Containers that were left and swept away, so far.
    pub swept: u64,
    /// Containers that wait for the next execution of their agent.
    pub warm: usize,
    /// Executions that one of those served, so far.
    pub reused: u64,
    /// Those that were removed for others, for their age, or for what they did, so far.
    pub recycled: u64,
    /// Of those, the ones that computed while they waited.
    pub busy: u64,
}

/// The metrics of that.
#[derive(Debug)]
pub(super) struct ContainerMetrics {
    pub(super) places: Family<InstanceLabels, Gauge>,
    pub(super) engine_up: Gauge,
    pub(super) swept: Counter,
    pub(super) warm: Gauge,
    pub(super) reused: Counter,
    pub(super) recycled: Counter,
    pub(super) busy: Counter,
    pub(super) start: Histogram,
    pub(super) execution: Family<ExecutionLabels, Histogram>,
}

impl Default for ContainerMetrics {
    fn default() -> Self {
        Self {
            places: Family::default(),
            engine_up: Gauge::default(),
            swept: Counter::default(),
            warm: Gauge::default(),
            reused: Counter::default(),
            recycled: Counter::default(),
            busy: Counter::default(),
            start: Histogram::new(seconds()),
            execution: Family::new_with_constructor(|| Histogram::new(seconds())),
        }
    }
}

impl ContainerMetrics {
    pub(super) fn set(&self, levels: &ContainerLevels) {
        let place = |status| self.places.get_or_create_owned(&InstanceLabels { status });
        place("active").set(i64::from(levels.active));
        place("idle").set(i64::from(levels.places.saturating_sub(levels.active)));
        self.engine_up.set(i64::from(levels.engine_up));
        self.swept.inner().store(levels.swept, Ordering::Relaxed);
        self.warm.set(i64::try_from(levels.warm).unwrap_or(i64::MAX));
        self.reused.inner().store(levels.reused, Ordering::Relaxed);
        self.recycled.inner().store(levels.recycled, Ordering::Relaxed);
        self.busy.inner().store(levels.busy, Ordering::Relaxed);
    }
}

/// From what a quick engine takes to start a container, to an hour.
fn seconds() -> impl Iterator<Item = f64> {
    [0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 600.0, 3_600.0].into_iter()
}
