//! Work that is not left in the middle. Whoever drops a call into the file system leaves a thread behind that goes on with
//! it; a turn that went with the call would let the next in before that thread is done.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::task::unconstrained;

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
            futures::executor::block_on(unconstrained(work));
        }
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
    async fn what_was_not_begun_is_not_done() {
        let done = AtomicBool::new(false);
        drop(uninterrupted(async { done.store(true, Ordering::SeqCst) }));
        assert!(!done.load(Ordering::SeqCst));
        assert_eq!(uninterrupted(async { 1 }).await, 1);
    }
}
