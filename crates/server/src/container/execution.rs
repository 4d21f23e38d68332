//! One execution in a container: made, attached to, started, spoken with, looked at, removed. A container serves one
//! execution and goes with it.
//!
//! Invariant: whatever the agent and the engine do, the execution ends at the grant's wall clock, which runs from when the
//! container has started; and what cannot be removed then is left to the sweep.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use mentat_manifest::{InputForm, MilliCpus};
use mentat_runtime::StandardStreams;
use mentat_runtime::error::{Error, Shortage, TimeLimit};
use mentat_runtime::model::{Answer, HostCalls, Invocation, Outcome, Usage};
use mentat_runtime::security::policy::Grant;
use tokio::io::AsyncWriteExt;

use super::engine::{Attached, ContainerState, Engine, EngineError, Piece};
use super::sandbox::{Bind, Sandbox};
use super::sweep::{AGENT_LABEL, EXECUTION_LABEL, RUN_LABEL, SERVER_LABEL};
use super::{ContainerAgent, Live, RETRY_AFTER, body, image, unavailable};
use crate::config::PullPolicy;

/// How long to wait before looking again whether a container has ended that writes nothing any more: at first, and at most.
const FIRST_LOOK: Duration = Duration::from_millis(5);
const LAST_LOOK: Duration = Duration::from_millis(250);
/// What a program ends with that was killed: 128 and the number of the signal.
const KILLED: i64 = 128 + 9;

/// A container that has started.
pub(super) struct Started {
    pub(super) id: String,
    pub(super) attached: Attached,
}

/// How a conversation with a container came to its end.
pub(super) enum Talked {
    Ended { exit_code: i64, out_of_memory: bool },
    Failed(Error),
}

/// Executes an agent once.
pub(super) async fn run(
    engine: &Engine,
    live: &Live,
    agent: &ContainerAgent<'_>,
    grant: &Grant,
    invocation: Invocation,
    queued: Duration,
) -> Outcome {
    let streams = StandardStreams::new(grant, invocation.events.clone());
    let began = Instant::now();
    let mut usage = Usage { queued, ..Usage::default() };
    let result = async {
        let mut sandbox = Sandbox::ask(grant, agent.manifest.capabilities(), &streams)?;
        leave_out_what_is_gone(&mut sandbox, &streams).await;
        // Not to be cut off: a container that is being made has no name yet to remove it by.
        let started = start(engine, live, agent, &sandbox, &invocation).await?;
        let since = Instant::now();
        usage.instantiation = since.duration_since(began);
        let input = input(agent.manifest.input_form(), invocation.input.clone());
        let talked = tokio::select! {
            talked = talk(engine, started, input, &streams) => talked,
            () = invocation.cancel.cancelled() => Talked::Failed(Error::Cancelled),
            () = tokio::time::sleep(sandbox.limits.timeout) => {
                Talked::Failed(Error::Timeout { limit: sandbox.limits.timeout, clock: TimeLimit::Wall })
            }
        };
        usage.execution = since.elapsed();
        judge(talked, &sandbox)
    }
    .await;
    let written = streams.finish(result.is_ok());
    let result = result.map(|exit_code| Answer { output: written.output, exit_code });
    let (logs, logs_dropped) = (written.logs, written.logs_dropped);
    Outcome { result, host_calls: HostCalls::default(), usage, logs, logs_dropped }
}

/// What is mounted must be there; where it lies is the operator's business.
pub(super) async fn leave_out_what_is_gone(sandbox: &mut Sandbox, streams: &StandardStreams) {
    let mounts: Vec<(String, Bind)> = std::mem::take(&mut sandbox.mounts).into_iter().collect();
    for (guest, bind) in mounts {
        match tokio::fs::metadata(&bind.host).await {
            Ok(_) => drop(sandbox.mounts.insert(guest, bind)),
            Err(error) => {
                streams.warn(&format!("the directory of `{guest}` cannot be opened: {}", error.kind()));
            }
        }
    }
}

/// The input as the agent reads it.
pub(super) fn input(form: InputForm, input: Bytes) -> Bytes {
    if form == InputForm::Bytes || serde_json::from_slice::<serde::de::IgnoredAny>(&input).is_err() {
        return input;
    }
    // Between the tokens of JSON a newline is as good as a space, and in a string there is none.
    let mut line = Vec::with_capacity(input.len() + 1);
    line.extend(input.trim_ascii().iter().map(|byte| if b"\r\n".contains(byte) { b' ' } else { *byte }));
    line.push(b'\n');
    line.into()
}

/// Makes a container and starts it.
pub(super) async fn start(
    engine: &Engine,
    live: &Live,
    agent: &ContainerAgent<'_>,
    sandbox: &Sandbox,
    invocation: &Invocation,
) -> Result<Started, Error> {
    let section = &live.containers.section;
    let cpus: MilliCpus = agent.manifest.cpus().unwrap_or(section.cpus).min(section.max_cpus);
    let manifest = agent.manifest;
    let labels = HashMap::from([
        (SERVER_LABEL.to_owned(), live.containers.server.to_string()),
        (RUN_LABEL.to_owned(), live.run.clone()),
        (EXECUTION_LABEL.to_owned(), invocation.execution_id.to_string()),
        (AGENT_LABEL.to_owned(), format!("{}@{}", manifest.id, manifest.version)),
    ]);
    let body = body::container(agent.image.id.to_string(), sandbox, cpus, section, labels);
    let created = match engine.create(body.clone()).await {
        Err(error) if error.is_missing() && section.pull == PullPolicy::Missing => {
            // By its name again, which must still mean what it meant.
            let found = image::find(engine, section, &agent.image.name).await?;
            if found.id != agent.image.id {
                return Err(gone(agent));
            }
            engine.create(body).await
        }
        created => created,
    };
    let id = created.map_err(|error| match error {
        error if error.is_missing() => gone(agent),
        error => unavailable(engine, "making a container", &error),
    })?;
    live.made(&id);
    let attached = engine.attach(&id).await.map_err(|error| not_started(engine, &error))?;
    engine.start(&id).await.map_err(|error| not_started(engine, &error))?;
    Ok(Started { id, attached })
}

fn gone(agent: &ContainerAgent<'_>) -> Error {
    let image = agent.image;
    let message = format!(
        "image `{}` ({}) is no longer in the container engine; put it there again, or load the agent anew",
        image.name, image.id
    );
    Error::Unavailable { message, retry_after: RETRY_AFTER }
}

/// Where the engine answers that it cannot start a container that it has made, the image is to blame: its program is not
/// there, or none for this machine. What is before that in the engine's words is of the machine, and for the log.
fn not_started(engine: &Engine, error: &EngineError) -> Error {
    let EngineError::Refused { message, .. } = error else {
        return unavailable(engine, "starting a container", error);
    };
    tracing::warn!(socket = %engine.socket(), %error, "a container could not be started");
    let why = message.split_once("exec: ").map_or("the server's log says why", |(_, why)| why);
    let message = format!("its image's program could not be started: {why}");
    Error::Trap { message, backtrace: Vec::new() }
}

/// Gives a container its input, takes what it writes, and waits for its end.
async fn talk(engine: &Engine, started: Started, input: Bytes, streams: &StandardStreams) -> Talked {
    let Started { id, attached: Attached { mut pieces, input: mut stdin } } = started;
    let mut writing = Box::pin(async move {
        // Who does not read its input has no use for it; that is no error.
        let _ = stdin.write_all(&input).await;
        let _ = stdin.shutdown().await;
        stdin
    });
    // Kept open until the end: some engines end the whole connection with it.
    let mut written = None;
    loop {
        let piece = tokio::select! {
            stdin = &mut writing, if written.is_none() => {
                written = Some(stdin);
                continue;
            }
            piece = pieces.next() => piece,
        };
        match piece {
            Some(Ok(Piece::Output(bytes))) => {
                if let Err(error) = streams.stdout(bytes).await {
                    return Talked::Failed(error);
                }
            }
            Some(Ok(Piece::Log(bytes))) => streams.stderr(&bytes),
            Some(Err(error)) => return lost(engine, &error),
            None => return end_of(engine, &id).await,
        }
    }
}

/// What was lost between the container and here, nobody knows.
pub(super) fn lost(engine: &Engine, error: &EngineError) -> Talked {
    Talked::Failed(unavailable(engine, "handing over what a container writes", error))
}

/// Waits for the end of a container that writes nothing any more.
pub(super) async fn end_of(engine: &Engine, id: &str) -> Talked {
    let mut pause = FIRST_LOOK;
    loop {
        match engine.look(id).await {
            Ok(ContainerState::Ended { exit_code, out_of_memory }) => {
                return Talked::Ended { exit_code, out_of_memory };
            }
            Ok(ContainerState::Running) => {}
            Err(error) if error.is_missing() => {
                let message = "its container was removed from outside".into();
                return Talked::Failed(Error::Trap { message, backtrace: Vec::new() });
            }
            Err(error) => return Talked::Failed(unavailable(engine, "running a container", &error)),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LAST_LOOK);
    }
}

/// What came of it. A program can hardly be killed but from outside its container, and who does that is the kernel, for
/// want of memory: not every engine says so.
pub(super) fn judge(talked: Talked, sandbox: &Sandbox) -> Result<i32, Error> {
    let (exit_code, out_of_memory) = match talked {
        Talked::Failed(error) => return Err(error),
        Talked::Ended { exit_code, out_of_memory } => (exit_code, out_of_memory),
    };
    if exit_code == KILLED || (out_of_memory && exit_code != 0) {
        let trap = match out_of_memory {
            true => None,
            false => Some("the container was killed, and the engine does not say for what".into()),
        };
        return Err(Error::MemoryLimit { shortage: Shortage::Memory(sandbox.limits.memory_bytes), trap });
    }
    Ok(i32::try_from(exit_code).unwrap_or(i32::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn json_becomes_one_line_and_anything_else_stays() {
        let line = |text: &'static str| input(InputForm::JsonLine, Bytes::from_static(text.as_bytes()));
        assert_eq!(
            line("{\n  \"a\": \"x\\ny\",\r\n  \"b\": [1]\n}\n"),
            "{   \"a\": \"x\\ny\",    \"b\": [1] }\n"
        );
        assert_eq!(line("plain\ntext"), "plain\ntext");
        assert_eq!(line(""), "");
        assert_eq!(input(InputForm::Bytes, Bytes::from_static(b"{\n}")), "{\n}");
    }

    proptest! {
        #[test]
        fn a_line_of_json_means_what_it_meant(text in "[\\[\\]{}:,\"0-9a-z \\n\\r\\\\]{0,40}") {
            let line = input(InputForm::JsonLine, text.clone().into());
            match serde_json::from_str::<serde_json::Value>(&text) {
                Ok(value) => {
                    prop_assert_eq!(serde_json::from_slice::<serde_json::Value>(&line).unwrap(), value);
                    prop_assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
                }
                Err(_) => prop_assert_eq!(line, text),
            }
        }
    }
}
