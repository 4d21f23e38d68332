//! What the events of all executions may take together, and those of executions that have ended, until they are too old
//! or their room is needed.
//!
//! Invariant: where there is too much, that goes first which nobody waits for: of the tenant that says more, and where all
//! together have too much, of whoever has most. What somebody waits for to read goes for the same tenant's readers to wait less
//! only when their writer has waited, and for other tenants where its own has more than twice as much.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::{EventBuffer, LEAST_BYTES, State};
use crate::model::ExecutionId;

/// What the buffer of an execution takes of memory without its events, and its place among those that are kept, about.
pub(crate) const BUFFER_BYTES: usize = 1 << 10;

/// Bytes that are let go of at a time at most, and which part of what there is: those who have most are looked for among all.
const BATCH_BYTES: usize = 256 << 10;
const BATCH_PART: usize = 8;
/// How long nothing is looked for again where nothing was found.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// Executions of a tenant from which on those that are gone are taken out of the list.
const FEW: usize = 64;

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
    /// Those that have said something, and may go on; some of them are gone.
    live: Vec<Weak<Mutex<State>>>,
    /// How many are in the list when it is next looked through for those that are gone.
    crowded: usize,
    /// When something was last looked for in vain: what nobody waits for, and whatever there is.
    in_vain: [Option<Instant>; 2],
}

/// What may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// What no reader waits for.
    OfNobody,
    /// Of readers too.
    OfReaders,
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

    pub(super) fn share(&self, tenant: &Arc<str>, events: &Arc<Mutex<State>>) -> Share {
        let own = {
            let mut tenants = self.tenants.lock();
            let tenant = tenants.entry(Arc::clone(tenant)).or_default();
            tenant.take_in(events);
            Arc::clone(&tenant.bytes)
        };
        let share = Share { limits: self.limits, own, total: Arc::clone(&self.total) };
        share.take_anyway(BUFFER_BYTES);
        share
    }

    /// Lets go of something for so many bytes of a tenant's; answers whether there was anything that can make room for them.
    ///
    /// Not while a buffer is locked: each may be among those that have to go.
    pub(super) fn make_room(&self, tenant: &Arc<str>, bytes: usize, loss: Loss) -> bool {
        if self.make_room_of(tenant, bytes, loss) {
            return true;
        }
        if self.bytes().saturating_add(bytes) <= self.limits.total_bytes {
            // It is the tenant's own room that is full.
            return false;
        }
        let Some((largest, loss)) = self.larger_than(tenant) else { return false };
        self.make_room_of(&largest, bytes, loss)
    }

    /// The tenant that has most, where that is another which has more, and what of it may go.
    fn larger_than(&self, tenant: &Arc<str>) -> Option<(Arc<str>, Loss)> {
        let tenants = self.tenants.lock();
        let bytes = |tenant: &Tenant| tenant.bytes.load(Ordering::Relaxed);
        let own = tenants.get(tenant).map_or(0, bytes);
        let (name, largest) = tenants.iter().max_by_key(|(_, tenant)| bytes(tenant))?;
        let loss = if bytes(largest) / 2 > own { Loss::OfReaders } else { Loss::OfNobody };
        (bytes(largest) > own).then(|| (Arc::clone(name), loss))
    }

    fn make_room_of(&self, name: &Arc<str>, bytes: usize, loss: Loss) -> bool {
        let (forgotten, live) = {
            let mut tenants = self.tenants.lock();
            let Some(tenant) = tenants.get_mut(name) else { return false };
            match tenant.forget_unread() {
                Some(forgotten) => (Some(forgotten), None),
                None => (None, tenant.live(loss)),
            }
        };
        if let Some(events) = forgotten {
            events.forget();
            return true;
        }
        if live.as_ref().is_some_and(|live| self.shrink_largest(live, bytes, Loss::OfNobody)) {
            return true;
        }
        if loss == Loss::OfReaders {
            let oldest = self.tenants.lock().get_mut(name).and_then(Tenant::forget_oldest);
            if let Some(events) = oldest {
                events.forget();
                return true;
            }
            if live.as_ref().is_some_and(|live| self.shrink_largest(live, bytes, Loss::OfReaders)) {
                return true;
            }
        }
        if live.is_some()
            && let Some(tenant) = self.tenants.lock().get_mut(name)
        {
            tenant.looked_in_vain(loss);
        }
        false
    }

    /// Lets go of the oldest events of whoever has most.
    fn shrink_largest(&self, live: &[Arc<Mutex<State>>], bytes: usize, loss: Loss) -> bool {
        let spare = |state: &Arc<Mutex<State>>| state.lock().spare(loss == Loss::OfReaders);
        let Some(largest) = live.iter().max_by_key(|state| spare(state)) else { return false };
        let mut state = largest.lock();
        let batch = (state.bytes / BATCH_PART).min(BATCH_BYTES).max(bytes);
        let enough = state.bytes.saturating_sub(batch).max(LEAST_BYTES);
        let mut has_shrunk = false;
        while state.bytes > enough && state.spare(loss == Loss::OfReaders) > 0 {
            state.drop_oldest();
            self.count_dropped();
            has_shrunk = true;
        }
        has_shrunk
    }
}

impl Tenant {
    fn take_in(&mut self, events: &Arc<Mutex<State>>) {
        if self.live.len() >= self.crowded.max(FEW) {
            self.live.retain(|live| live.strong_count() > 0);
            self.crowded = self.live.len().saturating_mul(2);
        }
        self.live.push(Arc::downgrade(events));
    }

    /// Those that may have something to let go of; `None` where that was looked for in vain just now.
    fn live(&self, loss: Loss) -> Option<Vec<Arc<Mutex<State>>>> {
        let looked = if loss == Loss::OfReaders { self.in_vain[1] } else { self.in_vain[0] };
        if looked.is_some_and(|looked| looked.elapsed() < LOOK_AGAIN) {
            return None;
        }
        Some(self.live.iter().filter_map(Weak::upgrade).collect())
    }

    fn looked_in_vain(&mut self, loss: Loss) {
        let [of_nobody, of_readers] = &mut self.in_vain;
        let now = Some(Instant::now());
        *of_nobody = now;
        if loss == Loss::OfReaders {
            *of_readers = now;
        }
    }

    /// Takes out the oldest that nobody reads.
    fn forget_unread(&mut self) -> Option<Arc<EventBuffer>> {
        let is_unread = |events: &Arc<EventBuffer>| events.state.lock().readers.is_empty();
        let place = self.order.iter().position(|(_, id)| self.ended.get(id).is_some_and(is_unread))?;
        let (_, execution) = self.order.remove(place)?;
        self.ended.remove(&execution)
    }

    fn forget_oldest(&mut self) -> Option<Arc<EventBuffer>> {
        let (_, execution) = self.order.pop_front()?;
        self.ended.remove(&execution)
    }
}
