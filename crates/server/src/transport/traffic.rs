//! How many bytes of bodies are on their way: requests that are being read or worked on, replies that are being sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mentat_manifest::ByteCount;

/// The bytes on their way, over all connections.
#[derive(Debug)]
pub(crate) struct Traffic {
    limit: u64,
    bytes: AtomicU64,
}

/// What one request has on its way, its reply included; given back when dropped. Doors ask the request's body for it, or
/// find it among the request's extensions where bodies are of another type, to count what the transport cannot see.
#[derive(Debug)]
pub(crate) struct Charge {
    traffic: Arc<Traffic>,
    bytes: AtomicU64,
}

impl Traffic {
    pub(crate) fn new(limit: ByteCount) -> Arc<Self> {
        Arc::new(Self { limit: limit.0, bytes: AtomicU64::new(0) })
    }

    /// Counts bytes that are about to be sent, until what is answered is dropped; `None` where they would be too many.
    pub(crate) fn hold(self: &Arc<Self>, bytes: usize) -> Option<Charge> {
        let charge = Charge::new(self);
        charge.try_add(bytes).then_some(charge)
    }

    /// Bytes on their way now.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl Charge {
    pub(super) fn new(traffic: &Arc<Traffic>) -> Self {
        Self { traffic: Arc::clone(traffic), bytes: AtomicU64::new(0) }
    }

    /// Counts bytes that are about to be kept, unless they would be too many.
    pub(super) fn try_add(&self, bytes: usize) -> bool {
        let before = self.traffic.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        before.saturating_add(bytes as u64) <= self.traffic.limit
    }

    /// Counts bytes that are there already.
    pub(crate) fn add(&self, bytes: usize) {
        self.try_add(bytes);
    }

    /// Gives back bytes that were counted, and are kept no longer.
    pub(crate) fn give_back(&self, bytes: usize) {
        let bytes = bytes as u64;
        let less = |held: u64| held.checked_sub(bytes);
        if self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok() {
            self.traffic.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// Gives everything back.
    pub(super) fn remove_all(&self) {
        self.traffic.bytes.fetch_sub(self.bytes.swap(0, Ordering::Relaxed), Ordering::Relaxed);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.remove_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_is_on_its_way_and_gives_it_back() {
        let traffic = Traffic::new(ByteCount(10));
        let first = Charge::new(&traffic);
        assert!(first.try_add(6));
        let second = Charge::new(&traffic);
        assert!(!second.try_add(6));
        drop(second);
        first.remove_all();
        assert!(first.try_add(10));
        first.add(5);
        first.give_back(12);
        first.give_back(12);
        assert_eq!(traffic.bytes(), 3, "no more is given back than was counted");
        drop(first);
        let held = traffic.hold(10).unwrap();
        assert!(traffic.hold(1).is_none());
        drop(held);
        assert_eq!(traffic.bytes(), 0);
    }
}
