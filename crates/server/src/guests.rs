//! The threads that guests compute on. They are not those of the doors: one instruction of a guest, such as filling a
//! gigabyte, can hold its thread for longer than a health check may take, and one that computes for a while takes from
//! those who only pass something on.
//!
//! But most executions end within microseconds, and two changes of thread are much beside that. So each begins where it was
//! asked for, and goes to the guests' threads when it yields for the first time.
//!
//! Invariant: one of the doors' threads at least has no guest on it, but such as were short many times in a row and have no
//! more fuel and memory now than they needed then.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use mentat_runtime::Expected;
use mentat_runtime::error::Error;
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

/// How far the guests' threads give way to others that want the processor, those of the doors among them (`nice(2)`).
const NICE: i32 = 5;
/// How often an execution that is over in a moment looks for its turn before it goes elsewhere.
const MAX_LOOKS: u32 = 32;

/// Where executions run.
#[derive(Clone, Debug)]
pub struct GuestThreads {
    handle: Handle,
    /// Counts executions, so that shutdown can wait for them.
    tasks: TaskTracker,
    /// Who may begin on a thread of the doors.
    turns: Arc<Turns>,
}

/// How many may begin on threads of the doors at the same time, and how many do now. Nobody waits in a queue for it, so that
/// it needs no lock. On a cache line of its own.
#[derive(Debug)]
#[repr(align(128))]
struct Turns {
    free: AtomicUsize,
    /// Whether there ever are any.
    exist: bool,
}

/// What the guests' threads belong to; ends them when dropped.
#[derive(Debug)]
pub struct GuestRuntime(Option<tokio::runtime::Runtime>);

/// The right to have a guest on a thread of the doors, until it is dropped.
#[derive(Debug)]
pub struct Turn<'a>(Option<&'a Turns>);

impl Turns {
    fn new(count: usize) -> Self {
        Self { free: AtomicUsize::new(count), exist: count > 0 }
    }

    fn try_take(&self) -> Option<Turn<'_>> {
        // Looked at before it is written to: most that find none look again.
        let mut free = self.free.load(Ordering::Relaxed);
        while free > 0 {
            match self.free.compare_exchange_weak(free, free - 1, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Some(Turn(Some(self))),
                Err(now) => free = now,
            }
        }
        None
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Some(turns) = self.0 {
            turns.free.fetch_add(1, Ordering::Release);
        }
    }
}

impl Turn<'_> {
    /// What may be executed by it.
    #[must_use]
    pub fn expected(&self) -> Expected {
        if self.0.is_some() { Expected::Brief } else { Expected::Short }
    }

    /// Has something done on this thread that is over in a moment.
    pub fn take<T>(self, attempt: impl FnOnce() -> Option<T>) -> Option<T> {
        // What panics is done once more, where it takes nobody along.
        catch_unwind(AssertUnwindSafe(attempt)).ok()?
    }
}

impl GuestThreads {
    /// Starts so many threads; 0 is as many as there are cores. To be called on a thread of the doors.
    ///
    /// # Errors
    /// `INTERNAL` when the system gives no threads.
    pub fn start(threads: u32, tasks: TaskTracker) -> Result<(Self, GuestRuntime), Error> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        if let Ok(threads @ 1..) = usize::try_from(threads) {
            builder.worker_threads(threads);
        }
        let runtime = builder
            .thread_name("mentat-guest")
            .on_thread_start(|| {
                // Of the calling thread alone, on Linux. Where it is refused, guests compute as doors do.
                let _ = rustix::process::nice(NICE);
            })
            .enable_all()
            .build()
            .map_err(|error| Error::internal("starting the guests' threads", error))?;
        let handle = runtime.handle().clone();
        let doors = Handle::try_current().map_or(1, |doors| doors.metrics().num_workers());
        let turns = Arc::new(Turns::new(doors.saturating_sub(1)));
        Ok((Self { handle, tasks, turns }, GuestRuntime(Some(runtime))))
    }

    /// The right to have a guest on a thread of the doors that is as short as what else is done for its request. It is had at
    /// once; `None` where these threads have no guests at all.
    #[must_use]
    pub fn short_turn(&self) -> Option<Turn<'_>> {
        self.turns.exist.then_some(Turn(None))
    }

    /// The right to have a guest on a thread of the doors that is over in a moment; `None` where it is not to be had soon.
    /// Whoever has it gives it back within microseconds, which others of this thread's tasks can have: to go to another
    /// thread costs more, and two guests that grow at the same time wait for each other in the kernel. Nobody queues, so
    /// that the right never waits for a task that is not running.
    pub async fn turn(&self) -> Option<Turn<'_>> {
        if !self.turns.exist {
            return None;
        }
        for _ in 0..MAX_LOOKS {
            if let Some(turn) = self.turns.try_take() {
                return Some(turn);
            }
            tokio::task::yield_now().await;
        }
        None
    }

    /// Has something done on the doors' threads that nobody waits for but shutdown.
    pub fn go_on(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(work);
    }

    /// Has an execution done that computes elsewhere, on the doors' threads, to its end even where this future is dropped.
    ///
    /// # Errors
    /// `INTERNAL` when it panics.
    pub async fn accompany<T: Send + 'static>(
        &self,
        execution: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Error> {
        let ended = self.tasks.spawn(execution).await;
        ended.map_err(|error| Error::internal("executing the agent", error))
    }

    /// Runs an execution to its end. Where this future is dropped, it goes on by itself, unless it has not yielded yet.
    ///
    /// # Errors
    /// `INTERNAL` when it panics.
    pub async fn run<T: Send + 'static>(
        &self,
        mut execution: Pin<Box<dyn Future<Output = T> + Send>>,
    ) -> Result<T, Error> {
        if let Some(_turn) = self.turns.try_take() {
            let begin = poll_fn(|context| {
                Poll::Ready(catch_unwind(AssertUnwindSafe(|| execution.as_mut().poll(context))))
            });
            match begin.await {
                Ok(Poll::Ready(ended)) => return Ok(ended),
                Ok(Poll::Pending) => {}
                Err(_) => return Err(Error::internal("executing the agent", "it panicked")),
            }
        }
        let ended = self.tasks.spawn_on(execution, &self.handle).await;
        ended.map_err(|error| Error::internal("executing the agent", error))
    }
}

impl Drop for GuestRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // What still runs ends at its next tick; nobody can wait for it here.
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn name() -> String {
        thread::current().name().unwrap_or_default().to_owned()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_ends_at_once_stays_and_what_yields_goes_to_the_guests_threads() {
        let (guests, _runtime) = GuestThreads::start(1, TaskTracker::new()).unwrap();
        assert_ne!(guests.run(Box::pin(async { name() })).await.unwrap(), "mentat-guest");
        let yields = async {
            let before = name();
            tokio::task::yield_now().await;
            (before, name())
        };
        let (before, after) = guests.run(Box::pin(yields)).await.unwrap();
        assert_ne!(before, "mentat-guest");
        assert_eq!(after, "mentat-guest");
        assert_eq!(guests.turns.free.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_single_thread_of_the_doors_has_no_guest_on_it() {
        let (guests, _runtime) = GuestThreads::start(1, TaskTracker::new()).unwrap();
        assert_eq!(guests.run(Box::pin(async { name() })).await.unwrap(), "mentat-guest");
        assert!(guests.short_turn().is_none() && guests.turn().await.is_none());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_panic_is_an_error_of_its_execution_alone() {
        let (guests, _runtime) = GuestThreads::start(1, TaskTracker::new()).unwrap();
        assert!(guests.run::<()>(Box::pin(async { panic!("as a test") })).await.is_err());
        let later = async {
            tokio::task::yield_now().await;
            panic!("as a test")
        };
        assert!(guests.run::<()>(Box::pin(later)).await.is_err());
        assert_eq!(guests.run(Box::pin(async { 1 })).await.unwrap(), 1);
    }
}
