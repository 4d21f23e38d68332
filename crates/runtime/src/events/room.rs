//! What the events of all executions may take together, and those of executions that have ended, until they are too old
//! or their room is needed.
//!
//! Invariant: what a tenant says takes the room of what it has said before, and of others' only where all together have too
//! much: then of whoever has most. What is said now by others is never touched.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::EventBuffer;
use crate::model::ExecutionId;

/// What the buffer of an execution takes of memory without its events, and its place among those that are kept, about.
pub(crate) const BUFFER_BYTES: usize = 1 << 10;

/// What all events may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoomLimits {
    /// Bytes of a tenant's, about.
    pub tenant_bytes: usize,
    /// Bytes of all, about.
    pub total_bytes: usize,
    /// How long those of an execution are kept after its end.
    pub retention: Duration,
}

/// The room that all events have.
#[derive(Debug)]
pub struct EventRoom {
    limits: RoomLimits,
    total: Arc<AtomicUsize>,
    events: AtomicU64,
    dropped: AtomicU64,
    tenants: Mutex<HashMap<Arc<str>, Tenant>>,
}

#[derive(Debug, Default)]
struct Tenant {
    bytes: Arc<AtomicUsize>,
    /// Those of executions that have ended.
    ended: HashMap<ExecutionId, Arc<EventBuffer>>,
    /// In the order of their ends, with the times.
    order: VecDeque<(Instant, ExecutionId)>,
}

/// Where the bytes of one execution's events are counted.
#[derive(Clone, Debug)]
pub(super) struct Share {
    limits: RoomLimits,
    own: Arc<AtomicUsize>,
    total: Arc<AtomicUsize>,
}

impl Default for RoomLimits {
    fn default() -> Self {
        Self {
            // Eight executions that say as much as is kept of one.
            tenant_bytes: 32 << 20,
            total_bytes: 128 << 20,
            // Enough for a client that lost its connection, or its machine, and comes back.
            retention: Duration::from_secs(300),
        }
    }
}

impl Default for EventRoom {
    fn default() -> Self {
        Self::new(RoomLimits::default())
    }
}

impl Share {
    /// Counts bytes, unless they are too many.
    pub(super) fn take(&self, bytes: usize) -> bool {
        let own = self.own.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        let total = self.total.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        let fits = own <= self.limits.tenant_bytes && total <= self.limits.total_bytes;
        if !fits {
            self.give_back(bytes);
        }
        fits
    }

    /// Counts bytes that are kept in any case.
    pub(super) fn take_anyway(&self, bytes: usize) {
        self.own.fetch_add(bytes, Ordering::Relaxed);
        self.total.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn give_back(&self, bytes: usize) {
        self.own.fetch_sub(bytes, Ordering::Relaxed);
        self.total.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl EventRoom {
    /// A room.
    #[must_use]
    pub fn new(limits: RoomLimits) -> Self {
        let (events, dropped) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { limits, total: Arc::default(), events, dropped, tenants: Mutex::default() }
    }

    /// Events that were written, and those of them that went to make room for later ones.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (self.events.load(Ordering::Relaxed), self.dropped.load(Ordering::Relaxed))
    }

    pub(super) fn count_event(&self) {
        self.events.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// Bytes that are kept now, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }

    /// Keeps the events of an execution that has ended.
    pub fn keep(&self, tenant: &Arc<str>, execution: ExecutionId, events: Arc<EventBuffer>) {
        let mut tenants = self.tenants.lock();
        let kept = tenants.entry(Arc::clone(tenant)).or_default();
        if kept.ended.insert(execution, events).is_some() {
            // An id that was used again; what stood there before is gone.
            kept.order.retain(|(_, id)| *id != execution);
        }
        kept.order.push_back((Instant::now(), execution));
    }

    /// The events of a tenant's execution that has ended, while they are kept.
    #[must_use]
    pub fn find(&self, tenant: &Arc<str>, execution: ExecutionId) -> Option<Arc<EventBuffer>> {
        self.tenants.lock().get(tenant)?.ended.get(&execution).cloned()
    }

    /// Forgets the events that have been kept for long enough, and the tenants that have none.
    pub fn sweep(&self) {
        let now = Instant::now();
        let mut old = Vec::new();
        self.tenants.lock().retain(|_, tenant| {
            while let Some((ended, _)) = tenant.order.front()
                && now.saturating_duration_since(*ended) > self.limits.retention
            {
                old.extend(tenant.forget_oldest());
            }
            // Others may count by it.
            !tenant.order.is_empty() || Arc::strong_count(&tenant.bytes) > 1
        });
        // Out of the lock: whoever waits for them is woken.
        old.iter().for_each(|events| events.forget());
    }

    pub(super) fn share(&self, tenant: &Arc<str>) -> Share {
        let own = Arc::clone(&self.tenants.lock().entry(Arc::clone(tenant)).or_default().bytes);
        let share = Share { limits: self.limits, own, total: Arc::clone(&self.total) };
        share.take_anyway(BUFFER_BYTES);
        share
    }

    /// Forgets the oldest events that are kept of an execution which has ended, for so many bytes of a tenant's; answers
    /// whether there were any that can make room for them.
    pub(super) fn make_room(&self, tenant: &Arc<str>, bytes: usize) -> bool {
        let mut tenants = self.tenants.lock();
        let own = tenants.get_mut(tenant).and_then(Tenant::forget_oldest);
        let oldest = own.or_else(|| {
            if self.bytes().saturating_add(bytes) <= self.limits.total_bytes {
                // It is the tenant's own room that is full.
                return None;
            }
            let with_ended = tenants.values_mut().filter(|tenant| !tenant.order.is_empty());
            let largest = with_ended.max_by_key(|tenant| tenant.bytes.load(Ordering::Relaxed));
            largest.and_then(Tenant::forget_oldest)
        });
        drop(tenants);
        oldest.inspect(|events| events.forget()).is_some()
    }
}

impl Tenant {
    fn forget_oldest(&mut self) -> Option<Arc<EventBuffer>> {
        let (_, execution) = self.order.pop_front()?;
        self.ended.remove(&execution)
    }
}
