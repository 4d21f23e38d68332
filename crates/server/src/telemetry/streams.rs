//! What there is of streams: told when the metrics are read, and not counted one by one.

use std::sync::atomic::Ordering;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

/// What is kept of streams, and who follows them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamLevels {
    /// Events so far.
    pub events: u64,
    /// Of those, gone to make room.
    pub dropped: u64,
    /// Bytes that are kept.
    pub bytes: usize,
    /// WebSockets.
    pub sockets: usize,
    /// Open streams of agents elsewhere.
    pub published: usize,
}

/// The metrics of that.
#[derive(Debug, Default)]
pub(super) struct StreamMetrics {
    pub(super) events: Counter,
    pub(super) dropped: Counter,
    pub(super) bytes: Gauge,
    pub(super) sockets: Gauge,
    pub(super) published: Gauge,
}

impl StreamMetrics {
    pub(super) fn set(&self, levels: &StreamLevels) {
        let level = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.events.inner().store(levels.events, Ordering::Relaxed);
        self.dropped.inner().store(levels.dropped, Ordering::Relaxed);
        self.bytes.set(level(levels.bytes));
        self.sockets.set(level(levels.sockets));
        self.published.set(level(levels.published));
    }
}
