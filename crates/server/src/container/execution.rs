//! One execution in a container: made, attached to, started, spoken with, looked at, removed. A container serves one
//! execution and goes with it.
//!
//! Invariant: whatever the agent and the engine do, the execution ends at the grant's wall clock, which runs from when the
//! container has started; and what cannot be removed then is left to the sweep.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use futures::StreamExt;
use mentat_manifest::{ByteCount, InputForm, MilliCpus};
use mentat_runtime::StandardStreams;
use mentat_runtime::error::{Error, Shortage, TimeLimit};
use mentat_runtime::model::{Answer, HostCalls, Invocation, Outcome, Usage};
use mentat_runtime::security::policy::Grant;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::body::Surroundings;
use super::egress::Outlet;
use super::engine::{Attached, ContainerState, Engine, EngineError, Piece};
use super::process::{PeakMemory, Process, ProcessorTime};
use super::sandbox::{Bind, Sandbox};
use super::sweep::{AGENT_LABEL, EXECUTION_LABEL, RUN_LABEL, SERVER_LABEL};
use super::{ContainerAgent, Containers, Image, Live, RETRY_AFTER, body, egress, image, unavailable};
use crate::config::PullPolicy;

/// How long to wait before looking again whether a container has ended that writes nothing any more: at first, and at most.
const FIRST_LOOK: Duration = Duration::from_millis(5);
const LAST_LOOK: Duration = Duration::from_millis(250);
/// A container that has ended by so much later than what it wrote was cut off: engines tell of an end at once, on a busy machine
/// in less than this.
const LATE_END: Duration = Duration::from_secs(1);
/// And one that goes on for so long.
const MAX_SILENCE: Duration = Duration::from_secs(5);
/// How often it is looked at how much memory a container has had.
const LOOK_AT_MEMORY: Duration = Duration::from_millis(100);
/// What a program ends with that was killed: 128 and the number of the signal.
const KILLED: i64 = 128 + 9;
/// How near to its limit a control group comes at least before the kernel kills for want of memory: what it asks for in one go
/// is far less.
const NEAR_LIMIT: u64 = 1 << 20;
/// How long the end of a container's first process is waited for once all that it wrote is there, which is then seen in its control group
/// before that goes; and in what steps.
const ENDS_WITHIN: u32 = 20;
const END_STEP: Duration = Duration::from_millis(1);

/// A container that has started.
pub(super) struct Started {
    pub(super) id: String,
    pub(super) attached: Attached,
    /// Where its way out begins, where it was to have one.
    pub(super) listener: Option<io::Result<TcpListener>>,
    pub(super) memory: PeakMemory,
    pub(super) processor_time: ProcessorTime,
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
        let Started { id, attached, listener, mut memory, .. } =
            start(engine, live, agent, &sandbox, &invocation).await?;
        let since = Instant::now();
        usage.instantiation = since.duration_since(began);
        let outlet = way_out(live, listener, grant, &sandbox, &streams)?;
        let input = input(agent.manifest.input_form(), invocation.input.clone());
        let talked = tokio::select! {
            talked = talk(engine, &id, attached, input, &streams, &mut memory) => talked,
            error = egress::serve(outlet.as_ref()) => Talked::Failed(error),
            () = invocation.cancel.cancelled() => Talked::Failed(Error::Cancelled),
            () = tokio::time::sleep(sandbox.limits.timeout) => {
                Talked::Failed(Error::Timeout { limit: sandbox.limits.timeout, clock: TimeLimit::Wall })
            }
        };
        usage.execution = since.elapsed();
        usage.peak_memory = memory.look();
        judge(talked, &sandbox, &memory)
    }
    .await;
    let written = streams.finish(result.is_ok());
    let result = result.map(|exit_code| Answer { output: written.output, exit_code });
    let (logs, logs_dropped) = (written.logs, written.logs_dropped);
    Outcome { result, host_calls: HostCalls::default(), usage, logs, logs_dropped }
}

/// The way out of a container, for the execution that it serves. Where none could be made, it has none, and is told so.
pub(super) fn way_out(
    live: &Live,
    listener: Option<io::Result<TcpListener>>,
    grant: &Grant,
    sandbox: &Sandbox,
    streams: &StandardStreams,
) -> Result<Option<Outlet>, Error> {
    match listener {
        Some(Ok(listener)) => {
            let egress = live.containers.runtime.egress(grant, streams);
            Ok(Some(Outlet { listener, egress }))
        }
        Some(Err(error)) => {
            tracing::warn!(%error, "a container's network cannot be entered, so that it has no way out");
            sandbox.refuse_network(grant, streams).map(|()| None)
        }
        None => Ok(None),
    }
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

/// Makes a container and starts it, behind the execution: who is cancelled meanwhile is let go at once, and the container is
/// made all the same, for before that it has no name by which it could be removed.
pub(super) async fn start(
    engine: &Engine,
    live: &Live,
    agent: &ContainerAgent<'_>,
    sandbox: &Sandbox,
    invocation: &Invocation,
) -> Result<Started, Error> {
    let manifest = agent.manifest;
    let labels = HashMap::from([
        (SERVER_LABEL.to_owned(), live.containers.server.to_string()),
        (RUN_LABEL.to_owned(), live.run.clone()),
        (EXECUTION_LABEL.to_owned(), invocation.execution_id.to_string()),
        (AGENT_LABEL.to_owned(), format!("{}@{}", manifest.id, manifest.version)),
    ]);
    let user = live.user(sandbox)?;
    let making = Making {
        engine: engine.clone(),
        containers: Arc::clone(&live.containers),
        id: Arc::clone(&live.id),
        image: agent.image.clone(),
        sandbox: sandbox.clone(),
        cpus: manifest.cpus(),
        user,
        labels,
    };
    let (sender, started) = oneshot::channel();
    let task = live.containers.tasks.spawn(async move {
        let started = making.start(&sender).await;
        let _ = sender.send(started);
    });
    *live.making.lock() = Some(task);
    tokio::select! {
        started = started => started.unwrap_or(Err(Error::Cancelled)),
        () = invocation.cancel.cancelled() => Err(Error::Cancelled),
    }
}

/// A container that is being made.
struct Making {
    engine: Engine,
    containers: Arc<Containers>,
    /// Where its name goes.
    id: Arc<OnceLock<String>>,
    image: Image,
    sandbox: Sandbox,
    cpus: Option<MilliCpus>,
    /// Whom it runs as.
    user: String,
    labels: HashMap<String, String>,
}

impl Making {
    /// Makes and starts it, unless nobody waits for it any more.
    async fn start(self, waiting: &oneshot::Sender<Result<Started, Error>>) -> Result<Started, Error> {
        let is_wanted = || if waiting.is_closed() { Err(Error::Cancelled) } else { Ok(()) };
        let engine = &self.engine;
        let id = self.create().await?;
        let _ = self.id.set(id.clone());
        is_wanted()?;
        let attached = engine.attach(&id).await.map_err(|error| not_started(engine, &error))?;
        is_wanted()?;
        // Podman has made its process by now, which waits to be started; Docker makes it then.
        let mut process = self.process(&id).await?;
        let mut listener = self.listen(process.as_ref()).await;
        engine.start(&id).await.map_err(|error| not_started(engine, &error))?;
        if process.is_none() {
            process = self.process(&id).await?;
            listener = self.listen(process.as_ref()).await;
        }
        let process = process.and_then(Result::ok);
        let memory = process.as_ref().map_or_else(PeakMemory::unknown, Process::memory);
        let processor_time = process.as_ref().map_or_else(ProcessorTime::unknown, Process::processor_time);
        Ok(Started { id, attached, listener, memory, processor_time })
    }

    async fn create(&self) -> Result<String, Error> {
        let (engine, section) = (&self.engine, &self.containers.section);
        let failed = |error: EngineError| match error {
            error if error.is_missing() => gone(&self.image),
            error => unavailable(engine, "making a container", &error),
        };
        let kind = engine.kind().await.map_err(failed)?;
        let cpus = self.cpus.unwrap_or(section.cpus).min(section.max_cpus);
        let surroundings = Surroundings { section, files: &self.containers.files, kind };
        let image = self.image.id.to_string();
        let mut body = body::container(image, &self.sandbox, cpus, surroundings, self.labels.clone());
        body.user = Some(self.user.clone());
        match engine.create(body.clone()).await {
            Err(error) if error.is_missing() && section.pull == PullPolicy::Missing => {
                // By its name again, which must still mean what it meant.
                let found = image::find(engine, section, &self.image.name).await?;
                if found.id != self.image.id {
                    return Err(gone(&self.image));
                }
                engine.create(body).await.map_err(failed)
            }
            created => created.map_err(failed),
        }
    }

    /// Its first process, if it has one.
    async fn process(&self, id: &str) -> Result<Option<io::Result<Process>>, Error> {
        match self.engine.look(id).await {
            Ok(ContainerState::Running { process: Some(number) }) => Ok(Some(Process::of(number, id))),
            Ok(_) => Ok(None),
            // What comes next finds out.
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(unavailable(&self.engine, "looking at a container", &error)),
        }
    }

    /// Opens its way out, where it is to have one and has a process.
    async fn listen(&self, process: Option<&io::Result<Process>>) -> Option<io::Result<TcpListener>> {
        if !self.sandbox.has_way_out() {
            return None;
        }
        match process? {
            Ok(process) => Some(process.listen(egress::PORT).await),
            Err(error) => Some(Err(io::Error::other(error.to_string()))),
        }
    }
}

fn gone(image: &Image) -> Error {
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
async fn talk(
    engine: &Engine,
    id: &str,
    attached: Attached,
    input: Bytes,
    streams: &StandardStreams,
    memory: &mut PeakMemory,
) -> Talked {
    let Attached { mut pieces, input: mut stdin } = attached;
    let mut writing = Box::pin(async move {
        // Who does not read its input has no use for it; that is no error.
        let _ = stdin.write_all(&input).await;
        let _ = stdin.shutdown().await;
        stdin
    });
    // Kept open until the end: some engines end the whole connection with it.
    let mut written = None;
    let mut looks = tokio::time::interval(LOOK_AT_MEMORY);
    loop {
        let piece = tokio::select! {
            stdin = &mut writing, if written.is_none() => {
                written = Some(stdin);
                continue;
            }
            _ = looks.tick() => {
                memory.look();
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
            None => {
                return end_seen(engine, id, memory).await;
            }
        }
    }
}

/// What was lost between the container and here, nobody knows.
pub(super) fn lost(engine: &Engine, error: &EngineError) -> Talked {
    Talked::Failed(unavailable(engine, "handing over what a container writes", error))
}

/// Waits for the end of a container that writes nothing any more, as it is with one that ends. Where it goes on, or went on
/// since, it is the engine that has stopped to tell what it writes.
pub(super) async fn end_of(engine: &Engine, id: &str) -> Talked {
    end_seen(engine, id, &mut PeakMemory::unknown()).await
}

/// The same, with a look at its memory for as long as its control group is there, which goes soon.
pub(super) async fn end_seen(engine: &Engine, id: &str, memory: &mut PeakMemory) -> Talked {
    let (silent, since) = (SystemTime::now(), Instant::now());
    for _ in 0..ENDS_WITHIN {
        memory.look();
        if memory.is_over() {
            break;
        }
        tokio::time::sleep(END_STEP).await;
    }
    let mut pause = FIRST_LOOK;
    loop {
        memory.look();
        match engine.look(id).await {
            Ok(ContainerState::Ended { at, .. }) if at.is_some_and(|at| at > silent + LATE_END) => {
                return cut(engine);
            }
            Ok(ContainerState::Ended { exit_code, out_of_memory, .. }) => {
                return Talked::Ended { exit_code, out_of_memory };
            }
            Ok(ContainerState::Running { .. }) if since.elapsed() > MAX_SILENCE => return cut(engine),
            Ok(ContainerState::Running { .. }) => {}
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

fn cut(engine: &Engine) -> Talked {
    tracing::warn!(socket = %engine.socket(), "the engine stopped to hand over what a container writes, which went on");
    let message = "the container engine broke off the connection on which it hands over what the agent writes, and the agent \
                   went on; what it wrote since is lost"
        .into();
    Talked::Failed(Error::Unavailable { message, retry_after: RETRY_AFTER })
}

/// What came of it. A program can hardly be killed but from outside its container, and who does that is the kernel, for
/// want of memory: not every engine says so. Where its control group was seen last when it had ended, and was not near its
/// limit, it was something else.
pub(super) fn judge(talked: Talked, sandbox: &Sandbox, memory: &PeakMemory) -> Result<i32, Error> {
    let (exit_code, out_of_memory) = match talked {
        Talked::Failed(error) => return Err(error),
        Talked::Ended { exit_code, out_of_memory } => (exit_code, out_of_memory),
    };
    let limit = sandbox.limits.memory_bytes;
    let had_enough = |peak: ByteCount| peak.0.saturating_add(NEAR_LIMIT) < limit.0;
    if exit_code == KILLED && !out_of_memory && memory.at_end().is_some_and(had_enough) {
        let message = format!(
            "it ended with {KILLED}, as one that was killed from outside its container, or that says so itself; it had memory to \
             spare"
        );
        return Err(Error::Trap { message, backtrace: Vec::new() });
    }
    if exit_code == KILLED || (out_of_memory && exit_code != 0) {
        let trap = match out_of_memory {
            true => None,
            false => Some("the container was killed, and the engine does not say for what".into()),
        };
        return Err(Error::MemoryLimit { shortage: Shortage::Container(limit), trap });
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
