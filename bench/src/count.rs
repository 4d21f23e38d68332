//! Executions for counting instructions: `count-executions` does one kind of them so often and nothing by the clock, so that
//! two runs of different length differ by executions alone. `cargo xtask bench --counts` runs it under callgrind.
//! `count-requests` has the service itself run under callgrind, and asks it so often.

use std::path::Path;

use clap::ValueEnum;
use mentat_manifest::Metering;

use crate::client::{GrpcClient, HttpClient, Question, threads};
use crate::modules;
use crate::raw::{Raw, Settings};
use crate::server::Server;
use crate::workshop::{Clocks, PLACES, Workshop};

/// What the service is started with: few places, since callgrind cannot reserve as much as there is otherwise, and clocks
/// that do next to nothing.
const COUNTED: [&str; 7] = [
    "compile.tiers=optimized",
    "engine.max_executions=20",
    "engine.memory_reservation=64MB",
    "engine.max_memory=64MB",
    "limits.ceiling.memory=64MB",
    "engine.epoch_tick_ms=1000",
    "audit.checkpoint_ms=600000",
];

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

/// Where the service is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Door {
    /// By HTTP, input and output as they are
    Http,
    /// By gRPC
    Grpc,
}

/// Asks the service so often, one time after the other; callgrind writes its counts to that file.
pub(crate) fn requests(door: Door, times: u32, counts: &Path) -> anyhow::Result<()> {
    let (threads, work) = (threads()?, modules::tiny()?);
    let server = Server::mentat(&COUNTED)?;
    let raw = Raw::new(&work.module, Settings::ours(PLACES))?;
    let expected = threads.block_on(raw.output(work.input.clone()))?.into();
    let question = Question { agent: "bench.tiny".into(), input: work.input, expected };
    threads.block_on(async {
        GrpcClient::connect(&server, 1).await?.load(&question.agent, &work.module, "").await
    })?;
    let server = server.counted(counts, &COUNTED)?;
    threads.block_on(async {
        match door {
            Door::Http => HttpClient::new(&server, 1, &question)?.ask_times(times).await,
            Door::Grpc => {
                let mut channel = GrpcClient::connect(&server, 1).await?.channel(0)?;
                for _ in 0..times {
                    let asked = GrpcClient::ask(&mut channel, &question).await?;
                    asked.map_err(|reason| anyhow::anyhow!("a call failed: {reason}"))?;
                }
                Ok(())
            }
        }
    })?;
    server.end()
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
