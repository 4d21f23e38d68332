//! The user numbers of containers, one each while it is there. The kernel bounds some things by user and not by container, such
//! as watches of files, memory of pipes and signals that wait: what one container used up, all others of its user would lack.
//!
//! Invariant: a number that was taken is given again only when its container is gone.

use std::collections::HashSet;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::config::ContainerUsersConfig;

/// The numbers, and which of them are taken.
#[derive(Debug)]
pub(super) struct Users {
    config: ContainerUsersConfig,
    numbers: Mutex<Numbers>,
}

#[derive(Debug, Default)]
struct Numbers {
    /// Where to look for the next one, counted from the first of all.
    next: u32,
    taken: HashSet<u32>,
    /// Those among them whose containers could not be removed yet.
    left: HashSet<u32>,
}

/// A user number that is one container's. Given back when this is dropped.
#[derive(Debug)]
pub(super) struct User {
    number: u32,
    users: Arc<Users>,
}

impl Users {
    /// Begins anywhere: who begins again does not give the numbers of what it left, and another server gives others.
    pub(super) fn new(config: ContainerUsersConfig) -> Arc<Self> {
        let anywhere = RandomState::new().build_hasher().finish();
        let next = u32::try_from(anywhere % u64::from(config.count.max(1))).unwrap_or_default();
        Arc::new(Self { config, numbers: Mutex::new(Numbers { next, ..Numbers::default() }) })
    }

    /// A number that no container has, and none has had for as long as can be; `None` where all are taken.
    pub(super) fn take(self: &Arc<Self>) -> Option<User> {
        let mut numbers = self.numbers.lock();
        // One of so many is free, unless there are no more.
        for _ in 0..=numbers.taken.len() {
            let number = self.config.first.saturating_add(numbers.next);
            numbers.next = numbers.next.saturating_add(1).checked_rem(self.config.count)?;
            if numbers.taken.insert(number) {
                return Some(User { number, users: Arc::clone(self) });
            }
        }
        None
    }

    /// Those whose containers could not be removed.
    pub(super) fn left(&self) -> HashSet<u32> {
        self.numbers.lock().left.clone()
    }

    /// Their containers are gone by now.
    pub(super) fn forget(&self, gone: &HashSet<u32>) {
        let mut numbers = self.numbers.lock();
        numbers.taken.retain(|number| !gone.contains(number));
        numbers.left.retain(|number| !gone.contains(number));
    }
}

impl User {
    /// The number.
    pub(super) fn number(&self) -> u32 {
        self.number
    }

    /// Its container may be there still.
    pub(super) fn leave(self) {
        self.users.numbers.lock().left.insert(self.number);
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let mut numbers = self.users.numbers.lock();
        if !numbers.left.contains(&self.number) {
            numbers.taken.remove(&self.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users(count: u32) -> Arc<Users> {
        Users::new(ContainerUsersConfig { first: 70_000, count })
    }

    #[test]
    fn nobody_has_the_number_of_another_and_the_last_that_was_given_back_comes_last() {
        let users = users(4);
        let mut taken: Vec<User> = (0..4).map(|_| users.take().unwrap()).collect();
        let numbers: HashSet<u32> = taken.iter().map(User::number).collect();
        assert_eq!(numbers, (70_000..70_004).collect());
        let (last, first) = (taken.pop().unwrap(), taken.remove(0));
        let (again, then) = (first.number(), last.number());
        drop((first, last));
        let (one, two) = (users.take().unwrap(), users.take().unwrap());
        assert_eq!((one.number(), two.number()), (again, then));
        assert!(users.take().is_none());
    }

    #[test]
    fn the_number_of_a_container_that_is_left_is_given_when_that_is_gone() {
        let users = users(1);
        users.take().unwrap().leave();
        assert!(users.take().is_none());
        let left = users.left();
        assert_eq!(left, HashSet::from([70_000]));
        users.forget(&left);
        assert_eq!(users.take().unwrap().number(), 70_000);
        assert!(Users::new(ContainerUsersConfig { first: 1, count: 0 }).take().is_none());
    }

    #[test]
    fn servers_begin_at_different_numbers() {
        let firsts: HashSet<u32> = (0..16).map(|_| users(1_000_000).take().unwrap().number()).collect();
        assert!(firsts.len() > 12, "{firsts:?}");
    }
}
