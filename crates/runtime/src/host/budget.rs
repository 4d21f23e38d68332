//! The budget of a running execution, which a `compute` grant can raise, and the clock that holds it to its time.

use std::time::Duration;

use mentat_manifest::{ByteCount, Fuel, Limits};
use parking_lot::Mutex;
use tokio::time::Instant;

/// What an execution may cost, as it stands.
#[derive(Debug)]
pub(crate) struct Budget(Mutex<Limits>);

impl Budget {
    pub(crate) fn new(limits: Limits) -> Self {
        Self(Mutex::new(limits))
    }

    /// The budget as it stands.
    pub(crate) fn limits(&self) -> Limits {
        self.0.lock().clone()
    }

    /// Raises what is given and larger than what there is.
    pub(crate) fn raise(&self, memory: Option<ByteCount>, fuel: Option<Fuel>, time: Option<Duration>) {
        let mut limits = self.0.lock();
        limits.memory_bytes = limits.memory_bytes.max(memory.unwrap_or(ByteCount(0)));
        limits.fuel = limits.fuel.max(fuel.unwrap_or(Fuel(0)));
        limits.timeout = limits.timeout.max(time.unwrap_or_default());
    }

    /// Comes back when an execution that began at `started` has used up its time, raises included.
    pub(crate) async fn run_out(&self, started: Instant) {
        loop {
            let timeout = self.0.lock().timeout;
            tokio::time::sleep_until(started + timeout).await;
            if self.0.lock().timeout <= timeout {
                return;
            }
        }
    }
}

/// Time that an execution may spend asleep, in all: one that sleeps takes memory and a place from others.
#[derive(Debug)]
pub(crate) struct Sleep {
    limit: Duration,
    left: Duration,
}

/// The marker error by which a guest ends that has slept too long.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("asleep for more than {} ms", .0.as_millis())]
pub(crate) struct Overslept(pub(crate) Duration);

impl Sleep {
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, left: limit }
    }

    /// Waits for something, and counts the time.
    ///
    /// # Errors
    /// [`Overslept`] when the time is used up first.
    pub(crate) async fn through<T>(&mut self, waiting: impl Future<Output = T>) -> Result<T, Overslept> {
        let began = Instant::now();
        let waited = tokio::time::timeout(self.left, waiting).await;
        self.left = self.left.saturating_sub(began.elapsed());
        waited.map_err(|_| Overslept(self.limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn time_that_is_raised_while_the_clock_runs_counts() {
        let budget = Budget::new(Limits { timeout: Duration::from_millis(50), ..Limits::DEFAULT });
        let started = Instant::now();
        let raise = async {
            budget.raise(None, None, Some(Duration::from_millis(300)));
            budget.raise(None, None, Some(Duration::from_millis(200)));
        };
        tokio::join!(budget.run_out(started), raise);
        assert!(started.elapsed() >= Duration::from_millis(300));
    }
}
