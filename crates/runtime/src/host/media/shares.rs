//! How much each tenant has stored. What is being stored counts before it is there, so that no two uploads share the last
//! room.
//!
//! Invariant: stored and taken together are at most the limit, but for what others put into the store.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use mentat_manifest::ByteCount;
use parking_lot::Mutex;
use tokio::sync::{MutexGuard, OnceCell};

use super::error::MediaError;

/// Objects of one tenant, of different names, that can come to be at one time.
const ALONE: usize = 32;

/// The shares of all tenants; there are as many as the operator has given credentials to.
#[derive(Debug)]
pub(super) struct Shares {
    limit: ByteCount,
    tenants: Mutex<BTreeMap<String, Arc<Share>>>,
}

/// What one tenant has.
#[derive(Debug)]
pub(super) struct Share {
    limit: ByteCount,
    counted: OnceCell<()>,
    amounts: Mutex<Amounts>,
    /// Those of one name come to be one after the other.
    alone: [tokio::sync::Mutex<()>; ALONE],
    hashing: RandomState,
}

#[derive(Debug, Default)]
struct Amounts {
    stored: u64,
    taken: u64,
}

/// Room that one upload has taken; given back when it comes to nothing.
#[derive(Debug)]
pub(super) struct Taken {
    share: Arc<Share>,
    bytes: u64,
    /// What need not be taken, since it is stored.
    replaced: u64,
}

impl Shares {
    pub(super) fn new(limit: ByteCount) -> Self {
        Self { limit, tenants: Mutex::default() }
    }

    pub(super) fn of(&self, tenant: &str) -> Arc<Share> {
        let mut tenants = self.tenants.lock();
        if let Some(share) = tenants.get(tenant) {
            return Arc::clone(share);
        }
        let share = Share {
            limit: self.limit,
            counted: OnceCell::new(),
            amounts: Mutex::default(),
            alone: std::array::from_fn(|_| tokio::sync::Mutex::default()),
            hashing: RandomState::new(),
        };
        Arc::clone(tenants.entry(tenant.to_owned()).or_insert(Arc::new(share)))
    }
}

impl Share {
    /// Counts what is there, unless that was done before.
    pub(super) async fn ensure_counted(
        &self,
        counting: impl Future<Output = Result<u64, MediaError>>,
    ) -> Result<(), MediaError> {
        let count = async { counting.await.map(|stored| self.amounts.lock().stored = stored) };
        self.counted.get_or_try_init(|| count).await.copied()
    }

    /// Says what is there.
    pub(super) fn recount(&self, stored: u64) {
        self.amounts.lock().stored = stored;
        // Fails where that was said before, or is being counted.
        let _ = self.counted.set(());
    }

    /// Waits until nobody else makes an object of that name.
    pub(super) async fn alone_with(&self, name: &str) -> Option<MutexGuard<'_, ()>> {
        let place = self.hashing.hash_one(name) % (ALONE as u64);
        Some(self.alone.get(usize::try_from(place).ok()?)?.lock().await)
    }

    /// Begins to take room, for what will be in place of so many bytes that are there.
    pub(super) fn begin(self: Arc<Self>, replaced: u64) -> Taken {
        Taken { share: self, bytes: 0, replaced }
    }
}

impl Taken {
    /// Whose room it is.
    pub(super) fn share(&self) -> Arc<Share> {
        Arc::clone(&self.share)
    }

    /// Takes room.
    pub(super) fn take(&mut self, bytes: u64) -> Result<(), MediaError> {
        let (asked, replaced) = (bytes, self.replaced);
        let bytes = asked.saturating_sub(replaced);
        let mut amounts = self.share.amounts.lock();
        let wanted = amounts.stored.saturating_add(amounts.taken).saturating_add(bytes);
        if wanted > self.share.limit.0 {
            return Err(MediaError::Full(self.share.limit));
        }
        amounts.taken = amounts.taken.saturating_add(bytes);
        self.bytes = self.bytes.saturating_add(bytes);
        self.replaced = replaced.saturating_sub(asked);
        Ok(())
    }

    /// What was taken is used, in place of so many bytes that were there.
    pub(super) fn keep(mut self, replaced: u64) {
        let mut amounts = self.share.amounts.lock();
        amounts.taken = amounts.taken.saturating_sub(self.bytes);
        amounts.stored = amounts.stored.saturating_add(self.bytes).saturating_sub(replaced);
        drop(amounts);
        self.bytes = 0;
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut amounts = self.share.amounts.lock();
        amounts.taken = amounts.taken.saturating_sub(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_taken_than_there_is_and_what_comes_to_nothing_is_given_back() {
        let shares = Shares::new(ByteCount(100));
        shares.of("a").recount(40);
        let mut first = shares.of("a").begin(0);
        first.take(50).unwrap();
        let mut second = shares.of("a").begin(0);
        assert!(matches!(second.take(11), Err(MediaError::Full(ByteCount(100)))));
        drop(first);
        second.take(60).unwrap();
        // In place of something that was there.
        second.keep(40);
        let mut third = shares.of("a").begin(0);
        assert!(third.take(41).is_err());
        third.take(40).unwrap();
        // The same where it was known from the beginning.
        let mut fourth = shares.of("a").begin(60);
        fourth.take(50).unwrap();
        assert!(fourth.take(11).is_err());
        shares.of("b").begin(0).take(100).unwrap();
    }
}
