//! What a second thread brings: the tiny module, executed by one thread and by two at once, by Wasmtime alone and by the
//! library. What serialises threads (locks of ours, the kernel's of the address space) shows here and nowhere else.

use std::time::{Duration, Instant};

use anyhow::anyhow;

use crate::figures::{Row, Target};
use crate::measure::{Load, Plan};
use crate::modules;
use crate::raw::{Raw, Settings};
use crate::workshop::{Clocks, PLACES, Workshop};

/// Executions between two looks at the clock.
const BATCH: u32 = 200;
/// Scaling that ours may have, as a part of Wasmtime's own.
const PART: f64 = 0.9;

pub(crate) fn scaling(plan: &Plan) -> anyhow::Result<Vec<Row>> {
    let workshop = Workshop::open(Clocks::Running)?;
    let work = modules::tiny()?;
    let raw = Raw::new(&work.module, Settings::ours(PLACES))?;
    let place = workshop.bare(&work)?;
    place.ensure_same(&raw)?;
    let alone = || workshop.threads.handle().block_on(raw.execute(&work.input, BATCH));
    let ours = || place.execute_granted(BATCH);
    let measured = plan.long().measure_loads(vec![
        Load::new("wasmtime alone: one thread", |time| on_threads(1, time, &alone)),
        Load::new("wasmtime alone: two threads", |time| on_threads(2, time, &alone)),
        Load::new("by the library: one thread", |time| on_threads(1, time, &ours)),
        Load::new("by the library: two threads", |time| on_threads(2, time, &ours)),
    ])?;
    let mut rows = crate::figures::rows(&measured);
    if let [raw_one, raw_two, our_one, our_two] = measured.as_slice() {
        let raw = raw_two.over(raw_one, "wasmtime alone: two threads to one");
        let ours = our_two.over(our_one, "by the library: two threads to one");
        rows.extend([raw.row(None), ours.aiming_at(Target::RatioAtLeast(PART)).row(Some(&raw))]);
    }
    Ok(rows)
}

/// How often a second the batches' executions are done, in all.
fn on_threads(
    threads: u32,
    time: Duration,
    batch: &(dyn Fn() -> anyhow::Result<()> + Sync),
) -> anyhow::Result<f64> {
    let one = || {
        let (mut executions, started) = (0u32, Instant::now());
        while started.elapsed() < time {
            batch()?;
            executions += BATCH;
        }
        anyhow::Ok(f64::from(executions) / started.elapsed().as_secs_f64())
    };
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
        let rates =
            running.into_iter().map(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?);
        rates.sum()
    })
}
