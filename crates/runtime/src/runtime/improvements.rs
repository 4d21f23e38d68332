//! The modules that run on baseline code and wait for better: which is next, and how much waits at most.
//!
//! Invariant: tenants take turns, so that nobody's modules wait behind all of another's. Where there is no room for one
//! more, a module of the tenant that has most waiting goes without.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use mentat_manifest::ModuleDigest;
use parking_lot::Mutex;

use super::loader::ModuleKey;

/// Modules `M` that wait.
#[derive(Debug)]
pub(super) struct Improvements<M> {
    /// Bytes of all that wait at most: they are held in memory.
    limit: usize,
    waiting: Mutex<Waiting<M>>,
}

#[derive(Debug)]
struct Waiting<M> {
    /// In the order of their turns.
    tenants: VecDeque<TenantQueue<M>>,
    is_worked_on: bool,
}

#[derive(Debug)]
struct TenantQueue<M> {
    tenant: Arc<str>,
    bytes: usize,
    modules: VecDeque<Improvement<M>>,
}

/// A module that waits.
#[derive(Debug)]
pub(super) struct Improvement<M> {
    /// Who brought it.
    pub(super) tenant: Arc<str>,
    pub(super) key: ModuleKey,
    /// Where nobody has it any more, there is nothing to do.
    pub(super) module: Weak<M>,
    pub(super) bytes: Bytes,
    /// How often it was tried in vain.
    pub(super) failures: u32,
}

/// The one who makes better code, module by module. Dropped before it is done, it leaves the rest to the next one.
#[derive(Debug)]
pub(super) struct Worker<M> {
    improvements: Arc<Improvements<M>>,
    is_done: bool,
}

impl<M> Improvements<M> {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        let waiting = Waiting { tenants: VecDeque::new(), is_worked_on: false };
        Arc::new(Self { limit, waiting: Mutex::new(waiting) })
    }

    /// Lets a module wait; answers which go without in its favour, itself among them where its tenant has most waiting.
    pub(super) fn add(&self, improvement: Improvement<M>) -> Vec<ModuleDigest> {
        let mut waiting = self.waiting.lock();
        let needed = improvement.bytes.len();
        let own = waiting.of(&improvement.tenant).map_or(0, |queue| queue.bytes).saturating_add(needed);
        let mut given_up = Vec::new();
        while waiting.bytes().saturating_add(needed) > self.limit {
            let most = waiting.tenants.iter_mut().max_by_key(|queue| queue.bytes);
            // Its latest: the others have waited for longer.
            match most.filter(|queue| queue.bytes > own).and_then(TenantQueue::give_up) {
                Some(digest) => given_up.push(digest),
                None => {
                    given_up.push(improvement.key.digest);
                    return given_up;
                }
            }
        }
        match waiting.of(&improvement.tenant) {
            Some(queue) => queue.push(improvement),
            None => {
                let tenant = Arc::clone(&improvement.tenant);
                let mut queue = TenantQueue { tenant, bytes: 0, modules: VecDeque::new() };
                queue.push(improvement);
                waiting.tenants.push_back(queue);
            }
        }
        given_up
    }

    /// The right to work on them, unless somebody does.
    pub(super) fn worker(self: &Arc<Self>) -> Option<Worker<M>> {
        let is_worked_on = std::mem::replace(&mut self.waiting.lock().is_worked_on, true);
        (!is_worked_on).then(|| Worker { improvements: Arc::clone(self), is_done: false })
    }
}

impl<M> Worker<M> {
    /// The next module; at the end of them, the work is given up in the same moment.
    pub(super) fn next(&mut self) -> Option<Improvement<M>> {
        let mut waiting = self.improvements.waiting.lock();
        while let Some(mut queue) = waiting.tenants.pop_front() {
            let next = queue.pop();
            if !queue.modules.is_empty() {
                waiting.tenants.push_back(queue);
            }
            if let Some(next) = next.filter(|next| next.module.strong_count() > 0) {
                return Some(next);
            }
        }
        waiting.is_worked_on = false;
        self.is_done = true;
        None
    }
}

impl<M> Drop for Worker<M> {
    fn drop(&mut self) {
        // Where it is done, another may have begun.
        if !self.is_done {
            self.improvements.waiting.lock().is_worked_on = false;
        }
    }
}

impl<M> Waiting<M> {
    fn bytes(&self) -> usize {
        self.tenants.iter().map(|queue| queue.bytes).sum()
    }

    fn of(&mut self, tenant: &Arc<str>) -> Option<&mut TenantQueue<M>> {
        self.tenants.iter_mut().find(|queue| queue.tenant == *tenant)
    }
}

impl<M> TenantQueue<M> {
    fn push(&mut self, improvement: Improvement<M>) {
        self.bytes = self.bytes.saturating_add(improvement.bytes.len());
        self.modules.push_back(improvement);
    }

    fn pop(&mut self) -> Option<Improvement<M>> {
        let next = self.modules.pop_front()?;
        self.bytes = self.bytes.saturating_sub(next.bytes.len());
        Some(next)
    }

    fn give_up(&mut self) -> Option<ModuleDigest> {
        let last = self.modules.pop_back()?;
        self.bytes = self.bytes.saturating_sub(last.bytes.len());
        Some(last.key.digest)
    }
}

#[cfg(test)]
mod tests {
    use mentat_manifest::Metering;

    use super::*;

    /// Modules that somebody has.
    struct Kept(Vec<Arc<Named>>);

    #[derive(Debug)]
    struct Named(&'static str);

    impl Kept {
        fn waiting(&mut self, tenant: &str, name: &'static str, bytes: usize) -> Improvement<Named> {
            let module = Arc::new(Named(name));
            self.0.push(Arc::clone(&module));
            let key = ModuleKey { digest: digest(name), metering: Metering::Fuel, init: None };
            let (tenant, bytes) = (tenant.into(), vec![0; bytes].into());
            Improvement { tenant, key, module: Arc::downgrade(&module), bytes, failures: 0 }
        }
    }

    fn digest(name: &str) -> ModuleDigest {
        ModuleDigest::of(name.as_bytes())
    }

    fn names(worker: &mut Worker<Named>) -> Vec<&'static str> {
        std::iter::from_fn(|| worker.next())
            .filter_map(|next| next.module.upgrade().map(|module| module.0))
            .collect()
    }

    #[test]
    fn tenants_take_turns_whoever_came_first_with_whatever_many() {
        let (improvements, mut kept) = (Improvements::new(1000), Kept(Vec::new()));
        for name in ["a1", "a2", "a3"] {
            assert!(improvements.add(kept.waiting("a", name, 10)).is_empty());
        }
        improvements.add(kept.waiting("b", "b1", 10));
        improvements.add(kept.waiting("c", "c1", 10));
        improvements.add(kept.waiting("b", "b2", 10));
        assert_eq!(names(&mut improvements.worker().unwrap()), ["a1", "b1", "c1", "a2", "b2", "a3"]);
    }

    #[test]
    fn room_is_taken_of_who_has_most_waiting() {
        let (improvements, mut kept) = (Improvements::new(100), Kept(Vec::new()));
        for name in ["a1", "a2", "a3"] {
            improvements.add(kept.waiting("a", name, 30));
        }
        assert_eq!(improvements.add(kept.waiting("a", "a4", 30)), [digest("a4")]);
        assert_eq!(improvements.add(kept.waiting("b", "b1", 40)), [digest("a3")]);
        assert_eq!(
            improvements.add(kept.waiting("b", "b2", 40)),
            [digest("b2")],
            "it would have more than others"
        );
        assert_eq!(improvements.add(kept.waiting("c", "c1", 101)), [digest("c1")]);
        assert_eq!(names(&mut improvements.worker().unwrap()), ["a1", "b1", "a2"]);
    }

    #[test]
    fn one_works_at_a_time_and_who_leaves_early_is_followed_by_another() {
        let (improvements, mut kept) = (Improvements::new(100), Kept(Vec::new()));
        improvements.add(kept.waiting("a", "a1", 1));
        improvements.add(kept.waiting("a", "a2", 1));
        let mut worker = improvements.worker().unwrap();
        assert!(improvements.worker().is_none());
        assert!(worker.next().is_some());
        drop(worker);
        let mut second = improvements.worker().unwrap();
        assert_eq!(names(&mut second), ["a2"]);
        let third = improvements.worker().unwrap();
        drop(second);
        assert!(improvements.worker().is_none(), "the third still works");
        drop(third);
    }

    #[test]
    fn what_nobody_has_any_more_is_passed_over() {
        let (improvements, mut kept) = (Improvements::new(100), Kept(Vec::new()));
        improvements.add(kept.waiting("a", "gone", 1));
        kept.0.clear();
        improvements.add(kept.waiting("a", "kept", 1));
        assert_eq!(names(&mut improvements.worker().unwrap()), ["kept"]);
    }
}
