//! Who may run now: permits, and a bounded queue for those who wait. Every execution holds a
//! [`Permit`] from before its store is made until after it is dropped, so there are never more live
//! instances than the engine's pool has slots for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::Error;

/// How long the queue is and how long anyone stands in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PoolConfig {
    /// Callers that may wait for a permit; one more is refused.
    pub queue_length: u32,
    /// Milliseconds that a caller waits at most.
    pub queue_timeout_ms: u64,
}

/// Hands out the right to be one live execution, or to do whatever else there are only so many places for.
#[derive(Debug)]
pub struct Pool {
    places_for: &'static str,
    running: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    size: u32,
    config: PoolConfig,
}

/// The right to be one live execution; only [`Pool::admit`] makes one.
#[derive(Debug)]
pub struct Permit {
    queued: Duration,
    _running: OwnedSemaphorePermit,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self { queue_length: 10_000, queue_timeout_ms: 10_000 }
    }
}

impl Pool {
    /// A pool of `size` places; `places_for` names what they are for, in the refusals.
    #[must_use]
    pub fn new(places_for: &'static str, size: u32, config: PoolConfig) -> Self {
        Self {
            places_for,
            running: Arc::new(Semaphore::new(count(size))),
            waiting: Arc::new(Semaphore::new(count(config.queue_length))),
            size,
            config,
        }
    }

    /// Takes `places` if they are free.
    #[must_use]
    pub fn admit_now(&self, places: u32) -> Option<Permit> {
        let running = Arc::clone(&self.running).try_acquire_many_owned(places.min(self.size)).ok()?;
        Some(Permit { queued: Duration::ZERO, _running: running })
    }

    /// Waits for `places`, in the order of asking; who wants more than there are gets all.
    ///
    /// # Errors
    /// `OVERLOADED` when the queue is full, or not enough came free within the queue's time.
    pub async fn admit(&self, places: u32) -> Result<Permit, Error> {
        let places = places.min(self.size);
        if let Some(permit) = self.admit_now(places) {
            return Ok(permit);
        }
        let Ok(_place_in_queue) = self.waiting.try_acquire() else {
            return Err(self.overloaded("the queue is full"));
        };
        let since = Instant::now();
        let patience = Duration::from_millis(self.config.queue_timeout_ms);
        match tokio::time::timeout(patience, Arc::clone(&self.running).acquire_many_owned(places)).await {
            Ok(Ok(running)) => Ok(Permit { queued: since.elapsed(), _running: running }),
            Ok(Err(_closed)) => Err(self.overloaded("the runtime is shutting down")),
            Err(_elapsed) => Err(self.overloaded("no place came free in time")),
        }
    }

    /// Whether anybody waits for a place.
    pub(crate) fn is_awaited(&self) -> bool {
        self.waiting.available_permits() < count(self.config.queue_length)
    }

    /// Places that are taken now.
    #[must_use]
    pub fn active(&self) -> u32 {
        self.size.saturating_sub(u32::try_from(self.running.available_permits()).unwrap_or(u32::MAX))
    }

    /// Places in all.
    #[must_use]
    pub fn size(&self) -> u32 {
        self.size
    }

    fn overloaded(&self, why: &str) -> Error {
        Error::Overloaded {
            message: format!(
                "the {} places for {} are taken and {why}; try again later",
                self.size, self.places_for
            ),
            retry_after: Duration::from_secs(1),
        }
    }
}

impl Permit {
    /// For another holder, who did not wait.
    pub(crate) fn again(self) -> Self {
        Self { queued: Duration::ZERO, ..self }
    }

    /// How long its holder waited.
    #[must_use]
    pub fn queued(&self) -> Duration {
        self.queued
    }
}

fn count(places: u32) -> usize {
    usize::try_from(places).unwrap_or(Semaphore::MAX_PERMITS).min(Semaphore::MAX_PERMITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn refuses_when_the_queue_is_full_and_admits_when_a_place_comes_free() {
        let pool = Pool::new("executions", 1, PoolConfig { queue_length: 0, queue_timeout_ms: 1_000 });
        let permit = pool.admit(1).await.unwrap();
        assert_eq!(pool.active(), 1);
        assert!(matches!(pool.admit(1).await, Err(Error::Overloaded { .. })));
        drop(permit);
        pool.admit(1).await.unwrap();
    }

    #[tokio::test]
    async fn waits_no_longer_than_the_queue_allows() {
        let pool = Pool::new("executions", 1, PoolConfig { queue_length: 8, queue_timeout_ms: 20 });
        let _permit = pool.admit(1).await.unwrap();
        assert!(matches!(pool.admit(1).await, Err(Error::Overloaded { .. })));
    }

    #[tokio::test]
    async fn who_takes_more_places_leaves_fewer_and_nobody_waits_for_more_than_there_are() {
        let pool = Pool::new("executions", 4, PoolConfig { queue_length: 0, queue_timeout_ms: 1_000 });
        let large = pool.admit(3).await.unwrap();
        let small = pool.admit(1).await.unwrap();
        assert!(matches!(pool.admit(1).await, Err(Error::Overloaded { .. })));
        drop((large, small));
        let _whole = pool.admit(100).await.unwrap();
        assert_eq!(pool.active(), 4);
    }
}
