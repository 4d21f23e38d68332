//! What the service takes when nobody asks for anything.

use std::time::Duration;

use crate::figures::{Row, Samples, Target, Unit, rows};
use crate::measure::Plan;
use crate::server::Server;

/// When a server has nothing left to do that belongs to its start.
const SETTLED: Duration = Duration::from_secs(1);
const MOST_BYTES: f64 = 40.0 * 1024.0 * 1024.0;

pub(crate) fn idle(plan: &Plan) -> anyhow::Result<Vec<Row>> {
    let mut floor = Samples::new("resident: an engine of wasmtime and its pool", Unit::Bytes);
    let mut ours = Samples::new("resident: mentat serve without agents", Unit::Bytes)
        .aiming_at(Target::AtMost(MOST_BYTES));
    for _ in 0..plan.slow().rounds {
        let (alone, mentat) = (Server::floor(&["engine"])?, Server::mentat(&[])?);
        std::thread::sleep(SETTLED);
        floor.push(alone.resident_bytes()?);
        ours.push(mentat.resident_bytes()?);
    }
    Ok(rows(&[floor, ours]))
}
