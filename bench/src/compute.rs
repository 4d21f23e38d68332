//! What computing costs inside a guest: the same source by the library, by Wasmtime alone with several ways of bounding it,
//! and natively. An execution's own cost vanishes in it.

use std::hint::black_box;

use anyhow::ensure;
use bytes::Bytes;
use mentat_manifest::Metering;

use crate::figures::{Row, Target, rows};
use crate::measure::{Plan, Subject};
use crate::modules;
use crate::raw::{self, Raw, Settings};
use crate::workshop::{Clocks, PLACES, Workshop};

#[path = "../guests/kernels.rs"]
mod kernels;

pub(crate) fn compute(plan: &Plan) -> anyhow::Result<Vec<Row>> {
    let workshop = Workshop::open(Clocks::Running)?;
    let mut all = Vec::new();
    for program in ["sha256", "product"] {
        let work = modules::kernel(program)?;
        let metered = |metering| Raw::new(&work.module, Settings { metering, ..Settings::ours(PLACES) });
        let same = metered(raw::Metering::FuelAndEpochs)?;
        let fuel = metered(raw::Metering::Fuel)?;
        let epochs = metered(raw::Metering::Epochs)?;
        let unmetered = metered(raw::Metering::Nothing)?;
        let by_fuel = workshop.bare(&work)?;
        let by_epochs = workshop.place(&work, Metering::Epoch, "", None)?;
        by_fuel.ensure_same(&same)?;
        by_epochs.ensure_same(&epochs)?;
        let native = Bytes::from(kernels::answer(program.as_bytes()));
        ensure!(workshop.threads.block_on(same.output(work.input.clone()))? == native, "not as natively");
        let alone = |raw: &Raw, count| workshop.threads.block_on(raw.execute(&work.input, count));
        let measured = plan.longer().measure(vec![
            Subject::new(format!("{program}: wasmtime alone, fuel and epochs"), |count| alone(&same, count)),
            Subject::new(format!("{program}: by the library"), |count| by_fuel.execute_granted(count))
                .aiming_at(Target::RatioAtMost(1.02)),
            Subject::new(format!("{program}: by the library, metered by epochs"), |count| {
                by_epochs.execute_granted(count)
            }),
            Subject::new(format!("{program}: wasmtime alone, fuel"), |count| alone(&fuel, count)),
            Subject::new(format!("{program}: wasmtime alone, epochs"), |count| alone(&epochs, count)),
            Subject::new(format!("{program}: wasmtime alone, unmetered"), |count| alone(&unmetered, count)),
            Subject::new(format!("{program}: natively"), |count| {
                for _ in 0..count {
                    black_box(kernels::answer(black_box(program.as_bytes())));
                }
                Ok(())
            }),
        ])?;
        all.extend(rows(&measured));
    }
    Ok(all)
}
