//! What executions cost, put aside where no execution waits for another, and counted many at a time.
//!
//! Invariant: what was put aside is counted before the metrics are told.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mentat_manifest::{AgentId, ByteCount};
use parking_lot::Mutex;

/// Heaps, so many that threads seldom share one.
const HEAPS: usize = 32;
/// Samples that a heap holds before whoever adds the next one has them counted.
const HEAP_SAMPLES: usize = 256;

/// What one execution cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) agent: AgentId,
    /// The label of how it ended.
    pub(super) outcome: &'static str,
    pub(super) instantiation: Duration,
    pub(super) execution: Duration,
    pub(super) fuel: u64,
    pub(super) peak_memory: ByteCount,
}

/// Samples that are not counted yet.
#[derive(Debug, Default)]
pub(super) struct Samples([Heap; HEAPS]);

/// On cache lines of its own, which no other thread's heap is on.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Heap(Mutex<Vec<Sample>>);

/// Threads that have a heap by now.
static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// The number of this thread.
    static THREAD: usize = THREADS.fetch_add(1, Ordering::Relaxed);
}

impl Samples {
    /// Puts a sample aside; answers those that are to be counted, where there are enough of them.
    pub(super) fn add(&self, sample: Sample) -> Option<Vec<Sample>> {
        let mut heap = self.own_heap().0.lock();
        heap.push(sample);
        (heap.len() >= HEAP_SAMPLES).then(|| std::mem::replace(&mut *heap, Vec::with_capacity(HEAP_SAMPLES)))
    }

    /// All that are not counted yet.
    pub(super) fn take(&self) -> Vec<Sample> {
        self.0.iter().flat_map(|heap| std::mem::take(&mut *heap.0.lock())).collect()
    }

    fn own_heap(&self) -> &Heap {
        let Self(heaps @ [first, ..]) = self;
        heaps.get(THREAD.with(|thread| thread % HEAPS)).unwrap_or(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_between_threads_and_full_heaps() {
        const EACH: u64 = 1_000;
        let sample = |fuel| Sample {
            agent: "a.b".parse().unwrap(),
            outcome: "ok",
            instantiation: Duration::ZERO,
            execution: Duration::ZERO,
            fuel,
            peak_memory: ByteCount(0),
        };
        let (samples, counted) = (Samples::default(), Mutex::new(Vec::new()));
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let (samples, counted) = (&samples, &counted);
                scope.spawn(move || {
                    for number in 0..EACH {
                        let full = samples.add(sample(thread * EACH + number)).unwrap_or_default();
                        assert!(full.is_empty() || full.len() >= HEAP_SAMPLES);
                        counted.lock().extend(full);
                    }
                });
            }
        });
        let mut counted = counted.into_inner();
        counted.extend(samples.take());
        let mut fuel: Vec<u64> = counted.into_iter().map(|sample| sample.fuel).collect();
        fuel.sort_unstable();
        assert_eq!(fuel, (0..8 * EACH).collect::<Vec<_>>());
        assert!(samples.take().is_empty());
    }
}
