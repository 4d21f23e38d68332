//! What an execution costs beyond what Wasmtime alone needs for the same module, and what recording it, a mounted
//! directory and a grant add to that.

use std::time::Duration;

use bytes::Bytes;
use mentat_manifest::Metering;

use crate::figures::{Row, Target, rows};
use crate::measure::{Plan, Subject};
use crate::modules::{self, Work};
use crate::raw::{Raw, Settings};
use crate::workshop::{Clocks, PLACES, Workshop};

/// What recording may add to an execution.
const RECORDING_LIMIT: Duration = Duration::from_micros(5);
/// Grants that one execution asks for, where their cost is measured.
const REQUESTS: u32 = 1000;

const COMMAND: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_prestat_get" (func (param i32 i32) (result i32)))
    (memory (export "memory") 1)
    (func (export "_start")))"#;
const ASKS: &str = r#"(module
    (import "mentat" "request_capability" (func $request (param i32 i32) (result i32)))
    (import "mentat" "release_capability" (func $release (param i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 0) "filesystem:read:/data/a")
    (func (export "process") (result i32)
      (local $left i32)
      (local.set $left (i32.const 1000))
      (loop $again
        (drop (call $release (call $request (i32.const 0) (i32.const 23))))
        (local.set $left (i32.sub (local.get $left) (i32.const 1)))
        (br_if $again (local.get $left)))
      (i32.const 0)))"#;

/// The floor that an agent is compared with, and how near to it is wanted.
#[derive(Clone, Copy)]
enum Floor {
    /// Wasmtime set up as ours is.
    Same(Target),
    /// Wasmtime set up as is best for it.
    Best(Option<Target>),
}

/// Executions of agents of several sizes: by Wasmtime alone, by the library, and as the service does, decided on and
/// recorded.
pub(crate) fn executions(plan: &Plan) -> anyhow::Result<Vec<Row>> {
    let workshop = Workshop::open(Clocks::Running)?;
    let mut all = Vec::new();
    for (work, floor) in [
        (modules::tiny()?, Floor::Same(Target::RatioAtMost(1.3))),
        (modules::text()?, Floor::Best(Some(Target::RatioAtMost(1.2)))),
        (modules::rust()?, Floor::Best(None)),
        (modules::go()?, Floor::Best(Some(Target::RatioAtMost(1.2)))),
    ] {
        all.extend(agent(plan, &workshop, &work, floor)?);
    }
    Ok(all)
}

fn agent(plan: &Plan, workshop: &Workshop, work: &Work, floor: Floor) -> anyhow::Result<Vec<Row>> {
    let Work { name, module, input } = work;
    let same = Raw::new(module, Settings::ours(PLACES))?;
    let best = Raw::new(module, Settings::best(PLACES))?;
    let recorder = workshop.recorder(name, Clocks::Running)?;
    let bare = workshop.bare(work)?;
    let recorded = workshop.place(work, Metering::Fuel, "", Some(recorder.clone()))?;
    bare.ensure_same(&same)?;
    let same_subject = Subject::new(format!("{name}: wasmtime alone, set up the same"), |count| {
        workshop.threads.block_on(same.execute(input, count))
    });
    let best_subject = Subject::new(format!("{name}: wasmtime alone, set up best"), |count| {
        workshop.threads.block_on(best.execute(input, count))
    });
    let (mut subjects, target) = match floor {
        Floor::Same(target) => (vec![same_subject], Some(target)),
        Floor::Best(target) => (vec![best_subject, same_subject], target),
    };
    subjects.extend([
        Subject::new(format!("{name}: by the library"), |count| bare.execute_granted(count))
            .aiming_at(target),
        Subject::new(format!("{name}: decided on"), |count| bare.execute(count)),
        Subject::new(format!("{name}: decided on and recorded"), |count| recorded.execute(count)),
    ]);
    let mut measured = match floor {
        Floor::Same(_) => plan.measure(subjects)?,
        Floor::Best(_) => plan.longer().measure(subjects)?,
    };
    recorder.close();
    // Of longer ones, the noise is larger than what recording adds.
    if let (Floor::Same(_), [.., decided, recorded]) = (floor, measured.as_slice()) {
        let recording = recorded.less(decided, &format!("{name}: what recording adds"), RECORDING_LIMIT);
        measured.push(recording);
    }
    Ok(rows(&measured))
}

/// A WASI command with a directory and without.
pub(crate) fn sandboxes(plan: &Plan) -> anyhow::Result<Vec<Row>> {
    let workshop = Workshop::open(Clocks::Running)?;
    let work = Work { name: "command", module: wat::parse_str(COMMAND)?, input: Bytes::new() };
    let bare = workshop.bare(&work)?;
    let mounted = workshop.place(&work, Metering::Fuel, "\"filesystem:read:/data\"", None)?;
    let measured = plan.measure(vec![
        Subject::new("a WASI command without a directory", |count| bare.execute(count)),
        Subject::new("a WASI command with a directory", |count| mounted.execute(count)),
    ])?;
    Ok(rows(&measured))
}

/// Asking for a grant and giving it back, from inside a guest.
pub(crate) fn requests(plan: &Plan) -> anyhow::Result<Vec<Row>> {
    let workshop = Workshop::open(Clocks::Running)?;
    let work = Work { name: "asks", module: wat::parse_str(ASKS)?, input: Bytes::new() };
    let asks = workshop.place(&work, Metering::Fuel, "\"filesystem:read:/data\"", None)?;
    let measured = plan.measure(vec![
        Subject::new("request_capability and release_capability in a guest", |count| {
            asks.execute(count / REQUESTS)
        })
        .in_steps_of(REQUESTS),
    ])?;
    Ok(rows(&measured))
}
