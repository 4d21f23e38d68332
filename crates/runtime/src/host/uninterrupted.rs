//! Work that is not left in the middle. Whoever drops a call into the file system leaves a thread behind that goes on with
//! it; a turn that went with the call would let the next in before that thread is done.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use tokio::task::unconstrained;

/// How long whoever drops it waits for work at most: a disk that takes longer keeps everybody waiting in any case.
const WAIT_AT_MOST: Duration = Duration::from_secs(1);

/// Does something to its end: dropped before, it waits there for what it has begun. That must need no more than threads of
/// its own, as calls into the file system do, and is over in the time of one such call.
pub(crate) fn uninterrupted<F: Future>(work: F) -> Uninterrupted<F> {
    Uninterrupted { work: Some(Box::pin(work)), has_begun: false }
}

/// What [`uninterrupted`] answers.
pub(crate) struct Uninterrupted<F: Future> {
    work: Option<Pin<Box<F>>>,
    has_begun: bool,
}

impl<F: Future> Future for Uninterrupted<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        self.has_begun = true;
        // It is gone when it is done, and not polled again.
        let Some(work) = &mut self.work else { return Poll::Pending };
        let done = work.as_mut().poll(context);
        if done.is_ready() {
            self.work = None;
        }
        done
    }
}

impl<F: Future> Drop for Uninterrupted<F> {
    fn drop(&mut self) {
        if let Some(work) = self.work.take_if(|_| self.has_begun) {
            // This thread has spent what it may do at one time, which would keep it here for ever.
            wait_for(unconstrained(work));
        }
    }
}

/// Waits for something on this thread.
fn wait_for(work: impl Future) {
    let (mut work, until) = (pin!(work), Instant::now() + WAIT_AT_MOST);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    while work.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            tracing::warn!("a call into the file system goes on without the execution that made it");
            return;
        }
        std::thread::park_timeout(left);
    }
}

/// Wakes a thread that waits.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn what_was_begun_is_done_when_its_caller_goes_away() {
        let done = Arc::new(AtomicBool::new(false));
        let set = Arc::clone(&done);
        let slow = move || {
            std::thread::sleep(Duration::from_millis(100));
            set.store(true, Ordering::SeqCst);
        };
        let work = uninterrupted(async { tokio::task::spawn_blocking(slow).await.unwrap() });
        let waited = tokio::time::timeout(Duration::from_millis(1), work).await;
        assert!(waited.is_err());
        assert!(done.load(Ordering::SeqCst));
    }

    #[tokio::test]
    async fn nobody_waits_for_ever() {
        let (never, waits) = std::sync::mpsc::channel::<()>();
        let work = uninterrupted(async { tokio::task::spawn_blocking(move || waits.recv()).await.unwrap() });
        let waited = tokio::time::timeout(Duration::from_millis(1), work).await;
        assert!(waited.is_err());
        drop(never);
    }

    #[tokio::test]
    async fn what_was_not_begun_is_not_done() {
        let done = AtomicBool::new(false);
        drop(uninterrupted(async { done.store(true, Ordering::SeqCst) }));
        assert!(!done.load(Ordering::SeqCst));
        assert_eq!(uninterrupted(async { 1 }).await, 1);
    }
}
