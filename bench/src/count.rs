//! Executions for counting instructions: `count-executions` does one kind of them so often and nothing by the clock, so that
//! two runs of different length differ by executions alone. `cargo xtask bench --counts` runs it under callgrind.

use clap::ValueEnum;
use mentat_manifest::Metering;

use crate::modules;
use crate::raw::{Raw, Settings};
use crate::workshop::{Clocks, PLACES, Workshop};

/// How the tiny module is executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Way {
    /// By Wasmtime alone
    Raw,
    /// By the library, with a grant at hand
    Granted,
    /// Decided on
    Decided,
    /// Decided on and recorded
    Recorded,
}

pub(crate) fn executions(way: Way, times: u32) -> anyhow::Result<()> {
    let work = modules::tiny()?;
    let workshop = Workshop::open(Clocks::Stopped)?;
    match way {
        Way::Raw => {
            let raw = Raw::new(&work.module, Settings::ours(PLACES))?;
            workshop.threads.block_on(raw.execute(&work.input, times))
        }
        Way::Granted => workshop.bare(&work)?.execute_granted(times),
        Way::Decided => workshop.bare(&work)?.execute(times),
        Way::Recorded => {
            let recorder = workshop.recorder("count", Clocks::Stopped)?;
            let place = workshop.place(&work, Metering::Fuel, "", Some(recorder.clone()))?;
            place.execute(times)?;
            recorder.close();
            Ok(())
        }
    }
}
