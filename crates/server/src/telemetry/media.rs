//! What agents do with the media store: told when the metrics are read, and not counted one by one.

use std::sync::atomic::Ordering;

use mentat_runtime::MediaCounts;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct MediaLabels {
    what: &'static str,
}

/// The metrics of that.
#[derive(Debug, Default)]
pub(super) struct MediaMetrics {
    pub(super) objects: Family<MediaLabels, Counter>,
    pub(super) bytes: Family<MediaLabels, Counter>,
    pub(super) failures: Counter,
}

impl MediaMetrics {
    pub(super) fn set(&self, counts: &MediaCounts) {
        let MediaCounts { read, read_bytes, stored, stored_bytes, damaged, failed, expired } = *counts;
        let tell = |family: &Family<MediaLabels, Counter>, what, count| {
            family.get_or_create_owned(&MediaLabels { what }).inner().store(count, Ordering::Relaxed);
        };
        for (what, count) in [("read", read), ("stored", stored), ("expired", expired), ("damaged", damaged)]
        {
            tell(&self.objects, what, count);
        }
        tell(&self.bytes, "read", read_bytes);
        tell(&self.bytes, "stored", stored_bytes);
        self.failures.inner().store(failed, Ordering::Relaxed);
    }
}
