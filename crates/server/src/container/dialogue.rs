//! One execution of a program that reads many inputs: a line of JSON goes in, and lines come out, of which those that report
//! are events and the first other one is the answer. The program then waits for the next line.
//!
//! Invariant: an answer is the first line of output behind an input, and what is written behind it keeps the container from
//! being used again. What a program writes to stderr is the log of the execution that it answers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use mentat_manifest::InputForm;
use mentat_runtime::error::{Error, TimeLimit};
use mentat_runtime::model::{Answer, HostCalls, Invocation, Outcome, Usage};
use mentat_runtime::security::policy::Grant;
use mentat_runtime::{Permit, StandardStreams};
use tokio::io::AsyncWriteExt;

use super::egress::{self, Outlet};
use super::engine::{Attached, Engine, Piece};
use super::execution::{
    Started, Talked, end_seen, input, judge, leave_out_what_is_gone, lost, start, way_out,
};
use super::process::PeakMemory;
use super::sandbox::Sandbox;
use super::warm::{Purpose, WarmContainer};
use super::{ContainerAgent, Containers, Live};

/// Silence behind an answer by which it is the last that comes: log lines have a way of their own, and may be behind it.
const SETTLE: Duration = Duration::from_millis(3);
/// How long that is waited for.
const SETTLE_WITHIN: Duration = Duration::from_millis(100);
/// Connections that are taken and dropped at once; the system keeps no more of them waiting.
const MAX_FORGOTTEN: usize = 4_096;

/// What became of the container of an execution.
enum Used {
    /// There was none.
    None,
    /// It has answered, and is as it was before.
    Fit(Box<WarmContainer>),
    /// It is not to be used again.
    Spent(Live),
}

/// What a program said to an input.
enum Said {
    /// Its answer, and whether it was silent afterwards.
    Answer { is_quiet: bool },
    /// None.
    Nothing(Talked),
}

/// Executes an agent once, in a container that waits for it, or in a new one.
pub(super) async fn execute(
    engine: &Engine,
    containers: &Arc<Containers>,
    agent: &ContainerAgent<'_>,
    grant: &Grant,
    invocation: Invocation,
    permit: Permit,
) -> Outcome {
    let streams = StandardStreams::new(grant, invocation.events.clone());
    let mut usage = Usage { queued: permit.queued(), ..Usage::default() };
    let (result, used) = run(engine, containers, agent, grant, &invocation, &streams, &mut usage).await;
    match used {
        Used::None => {}
        Used::Fit(container) => containers.warm.keep(*container),
        Used::Spent(live) => live.remove_holding(permit),
    }
    let written = streams.finish(result.is_ok());
    let result = result.map(|exit_code| Answer { output: written.output, exit_code });
    let (logs, logs_dropped) = (written.logs, written.logs_dropped);
    Outcome { result, host_calls: HostCalls::default(), usage, logs, logs_dropped }
}

async fn run(
    engine: &Engine,
    containers: &Arc<Containers>,
    agent: &ContainerAgent<'_>,
    grant: &Grant,
    invocation: &Invocation,
    streams: &StandardStreams,
    usage: &mut Usage,
) -> (Result<i32, Error>, Used) {
    let began = Instant::now();
    let asked = Sandbox::ask(grant, agent.manifest.capabilities(), streams);
    let (mut sandbox, line) = match asked.and_then(|sandbox| Ok((sandbox, line(agent, invocation)?))) {
        Ok(ready) => ready,
        Err(error) => return (Err(error), Used::None),
    };
    leave_out_what_is_gone(&mut sandbox, streams).await;
    let purpose = Purpose::new(&invocation.caller.tenant, agent, grant, sandbox);
    let mut container = match containers.warm.take(engine, &purpose).await {
        Some(container) => container,
        None => {
            let live = Live::new(containers);
            match start(engine, &live, agent, purpose.sandbox(), invocation).await {
                Ok(started) => WarmContainer::new(purpose, started, live),
                Err(error) => return (Err(error), Used::Spent(live)),
            }
        }
    };
    let since = Instant::now();
    usage.instantiation = since.duration_since(began);
    let limit = container.purpose.sandbox().limits.timeout;
    let WarmContainer { purpose, started, live, .. } = &mut container;
    let Started { id, attached, listener, memory, .. } = started;
    // Without its way out an execution is told so, and the next one in a container of its own.
    let can_be_kept = !matches!(listener, Some(Err(_)));
    // By the grant of this execution, whoever had the container before.
    let outlet = match way_out(live, listener.take(), grant, purpose.sandbox(), streams) {
        Ok(outlet) => outlet,
        Err(error) => return (Err(error), Used::Spent(container.live)),
    };
    forget_connections(outlet.as_ref());
    let said = tokio::select! {
        said = ask(engine, id, attached, line, streams, memory) => said,
        error = egress::serve(outlet.as_ref()) => Said::Nothing(Talked::Failed(error)),
        () = invocation.cancel.cancelled() => Said::Nothing(Talked::Failed(Error::Cancelled)),
        () = tokio::time::sleep(limit) => {
            Said::Nothing(Talked::Failed(Error::Timeout { limit, clock: TimeLimit::Wall }))
        }
    };
    usage.execution = since.elapsed();
    usage.peak_memory = memory.look();
    *listener = outlet.map(|outlet| Ok(outlet.listener));
    match said {
        Said::Answer { is_quiet } => {
            container.has_answered();
            if is_quiet && can_be_kept {
                return (Ok(0), Used::Fit(Box::new(container)));
            }
            if !is_quiet {
                streams.warn(
                    "it wrote more after its answer, or ended; its container is not used again. A program that reads many \
                     inputs answers each with one line",
                );
            }
            (Ok(0), Used::Spent(container.live))
        }
        Said::Nothing(talked) => {
            let result =
                judge(talked, container.purpose.sandbox(), &container.started.memory).and_then(unanswered);
            (result, Used::Spent(container.live))
        }
    }
}

/// What was connected to between executions belongs to none of them.
fn forget_connections(outlet: Option<&Outlet>) {
    let Some(Outlet { listener, .. }) = outlet else { return };
    for _ in 0..MAX_FORGOTTEN {
        // Whatever else this task has done since it was woken.
        let accepted = tokio::task::coop::unconstrained(listener.accept()).now_or_never();
        if !matches!(accepted, Some(Ok(_))) {
            return;
        }
    }
}

/// The input as one line.
fn line(agent: &ContainerAgent<'_>, invocation: &Invocation) -> Result<Bytes, Error> {
    let line = input(InputForm::JsonLine, invocation.input.clone());
    if serde_json::from_slice::<serde::de::IgnoredAny>(&line).is_err() {
        let message = format!(
            "agent `{}` reads one line of JSON for each execution (`instances: reuse`), and the input is no JSON",
            agent.manifest.id
        );
        return Err(Error::InvalidRequest { message });
    }
    Ok(line)
}

/// A program that ends in place of an answer gives its verdict by its exit code; one that has none gives nothing.
fn unanswered(exit_code: i32) -> Result<i32, Error> {
    if exit_code != 0 {
        return Ok(exit_code);
    }
    let message = "its program ended without an answer; one that reads many inputs answers each with a line on stdout, \
                   and waits for the next"
        .into();
    Err(Error::Trap { message, backtrace: Vec::new() })
}

/// Gives a program an input, and takes what it says until it has answered.
async fn ask(
    engine: &Engine,
    id: &str,
    attached: &mut Attached,
    line: Bytes,
    streams: &StandardStreams,
    memory: &mut PeakMemory,
) -> Said {
    let Attached { pieces, input } = attached;
    let mut writing = std::pin::pin!(async move {
        // Who does not read is told by the end of what it writes, or by the clock.
        let _ = input.write_all(&line).await;
        let _ = input.flush().await;
    });
    let mut is_written = false;
    loop {
        let piece = tokio::select! {
            () = &mut writing, if !is_written => {
                is_written = true;
                continue;
            }
            piece = pieces.next() => piece,
        };
        match piece {
            Some(Ok(Piece::Output(bytes))) => match streams.stdout_line(bytes).await {
                Ok(None) => {}
                // Who answers what it has not read yet has answered something else.
                Ok(Some(behind)) => {
                    let is_quiet = is_written && behind.is_empty() && settles(attached, streams).await;
                    return Said::Answer { is_quiet };
                }
                Err(error) => return Said::Nothing(Talked::Failed(error)),
            },
            Some(Ok(Piece::Log(bytes))) => streams.stderr(&bytes),
            Some(Err(error)) => return Said::Nothing(lost(engine, &error)),
            None => return Said::Nothing(end_seen(engine, id, memory).await),
        }
    }
}

/// Whether a program is silent after its answer. What it logs until then belongs to the execution.
async fn settles(attached: &mut Attached, streams: &StandardStreams) -> bool {
    let since = Instant::now();
    while since.elapsed() < SETTLE_WITHIN {
        match tokio::time::timeout(SETTLE, attached.pieces.next()).await {
            Err(_) => return true,
            Ok(Some(Ok(Piece::Log(bytes)))) => streams.stderr(&bytes),
            Ok(None | Some(Ok(Piece::Output(_)) | Err(_))) => return false,
        }
    }
    false
}
