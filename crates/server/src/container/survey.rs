//! What an image is, and what its program does when it is executed once, for those who want to know whether it could be a
//! module. The program is held to what a container agent without capabilities is held to, and is looked at from outside.
//!
//! Knows nothing of agents; what follows from what is seen, others say.

mod owner;
mod program;
mod trace;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures::StreamExt;
use mentat_manifest::{ByteCount, Limits, escape_untrusted};
use mentat_runtime::error::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStderr, Command};

pub use self::program::Program;
use self::trace::Trace;
pub use self::trace::{FileUse, Seen};
use super::body::Surroundings;
use super::engine::{Attached, Engine, EngineError, Piece};
use super::execution::{Talked, end_of};
use super::files::PlainFiles;
use super::sandbox::{Sandbox, Scratch};
use super::{RETRY_AFTER, body};
use crate::config::ContainerSection;

/// Until when a container of a survey may be there, in seconds since 1970: what a killed one has left, the next one removes.
const SURVEY_LABEL: &str = "mentat.survey";
/// Which process made it: when that is gone, it is removed before its time.
const OWNER_LABEL: &str = "mentat.survey.process";
/// What a survey may take besides the run of the program.
const MARGIN: Duration = Duration::from_secs(120);
/// Bytes of a program's output that are kept.
const MAX_OUTPUT_BYTES: usize = 64 << 10;
/// Bytes of one line of the record, and lines of it.
const MAX_LINE_BYTES: usize = 8 << 10;
const MAX_LINES: usize = 500_000;
/// How long a program has to end that writes nothing any more.
const ENDING: Duration = Duration::from_secs(5);
/// How long the tracer has to take hold of the program.
const TAKE_HOLD: Duration = Duration::from_secs(10);

/// Looks at images of one engine.
#[derive(Debug)]
pub struct Survey {
    engine: Engine,
    section: ContainerSection,
}

/// What an image says of itself. All texts are as they stand there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageFacts {
    /// The engine's id of it.
    pub id: String,
    /// Such as `amd64`.
    pub architecture: String,
    /// Such as `linux`.
    pub os: String,
    /// Whom it wants to run as; empty for root.
    pub user: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Where it begins.
    pub folder: String,
    /// Its variables, `NAME=VALUE`.
    pub env: Vec<String>,
    /// What it listens at, such as `8080/tcp`.
    pub ports: Vec<String>,
    /// Directories that it wants for itself.
    pub volumes: Vec<String>,
    /// Its size.
    pub size: ByteCount,
}

/// What was seen of one run.
#[derive(Debug)]
pub struct Recording {
    /// Of its calls.
    pub seen: Seen,
    /// Its exit code; `None` where it was ended.
    pub exit_code: Option<i64>,
    /// The beginning of its output.
    pub output: Bytes,
    /// How long it ran.
    pub took: Duration,
}

impl Survey {
    /// Looks at images of the engine that listens there.
    #[must_use]
    pub fn new(socket: PathBuf) -> Self {
        let section = ContainerSection { socket: socket.clone(), ..ContainerSection::default() };
        Self { engine: Engine::new(socket, Duration::from_millis(section.engine_ms)), section }
    }

    /// What an image says of itself.
    ///
    /// # Errors
    /// `INVALID_REQUEST` where it is not there; `UNAVAILABLE` where the engine does not answer.
    pub async fn image(&self, name: &str) -> Result<ImageFacts, Error> {
        let found = self.engine.image(name).await.map_err(|error| self.unavailable(&error))?;
        let Some(image) = found else {
            let name = escape_untrusted(name, 200);
            return Err(Error::InvalidRequest {
                message: format!(
                    "image `{name}` is not in the container engine, and no folder is called so; put it there (`podman pull`, \
                     `podman build`), or name the folder of the source"
                ),
            });
        };
        let config = image.config.unwrap_or_default();
        let command = config.entrypoint.unwrap_or_default().into_iter().chain(config.cmd.unwrap_or_default());
        Ok(ImageFacts {
            id: image.id.unwrap_or_default(),
            architecture: image.architecture.unwrap_or_default(),
            os: image.os.unwrap_or_default(),
            user: config.user.unwrap_or_default(),
            command: command.collect(),
            folder: config.working_dir.filter(|folder| !folder.is_empty()).unwrap_or_else(|| "/".into()),
            env: config.env.unwrap_or_default(),
            ports: config.exposed_ports.unwrap_or_default(),
            volumes: config.volumes.unwrap_or_default(),
            size: ByteCount(image.size.and_then(|size| u64::try_from(size).ok()).unwrap_or_default()),
        })
    }

    /// What an image's program is.
    ///
    /// # Errors
    /// `UNAVAILABLE` where the engine does not do its part.
    pub async fn program(&self, image: &ImageFacts) -> Result<Program, Error> {
        let Some(name) = image.command.first() else {
            return Ok(Program::Missing("it names none; build it with `ENTRYPOINT` or `CMD`".into()));
        };
        // Never started, so that nothing has to lie on the engine's machine for it.
        let id = self.create(image, Duration::ZERO, &PlainFiles::default()).await?;
        let found = program::find(&self.engine, &id, image, name).await;
        self.remove(&id).await?;
        Ok(found)
    }

    /// Executes an image's program once, without any capability but `/tmp`, and records what it asks the kernel for. It is held to
    /// the same list of system calls as that of any container agent: its tracer is outside, and asks on its own behalf.
    ///
    /// # Errors
    /// `INVALID_REQUEST` where that cannot be recorded here; `UNAVAILABLE` where the engine does not do its part; `TRAP` where
    /// the program cannot be started; `INTERNAL` where the disk refuses the container's files.
    pub async fn record(
        &self,
        image: &ImageFacts,
        input: Bytes,
        within: Duration,
    ) -> Result<Recording, Error> {
        let folder = tempfile::tempdir()
            .map_err(|error| Error::internal("the folder of a container's files".to_owned(), error))?;
        let files = PlainFiles::write(folder.path())?;
        let id = self.create(image, within, &files).await?;
        let recorded = self.record_in(&id, image, input, within).await;
        // Ends what is left of the program, too.
        self.remove(&id).await?;
        recorded
    }

    async fn record_in(
        &self,
        id: &str,
        image: &ImageFacts,
        input: Bytes,
        within: Duration,
    ) -> Result<Recording, Error> {
        let failed = |error: EngineError| self.unavailable(&error);
        let attached = self.engine.attach(id).await.map_err(failed)?;
        // Made ready, and not begun: nothing of the program is missed.
        let process = self.engine.prepare(id).await.map_err(|error| match error {
            error if error.is_missing() => Error::InvalidRequest {
                message: "this engine cannot make a container ready without starting it, so that its beginning would be \
                          missed; Podman can"
                    .into(),
            },
            error => self.not_started(error),
        })?;
        let mut tracer = Tracer::take_hold(process, image).await?;
        self.engine.start(id).await.map_err(|error| self.not_started(error))?;
        let since = std::time::Instant::now();
        let (talk, trace) = (talk(attached, input), tracer.read());
        let (output, is_over) = {
            tokio::pin!(talk);
            let both = async {
                let output = tokio::select! {
                    output = &mut talk => output,
                    // It has said more to the kernel than is kept.
                    () = trace => return (Bytes::new(), false),
                };
                (output, true)
            };
            tokio::time::timeout(within, both).await.unwrap_or((Bytes::new(), false))
        };
        let took = since.elapsed();
        // Who has closed its streams is about to end; that is looked at, and not waited for without end.
        let exit_code = match is_over.then(|| tokio::time::timeout(ENDING, end_of(&self.engine, id))) {
            Some(ending) => match ending.await {
                Ok(Talked::Ended { exit_code, .. }) => Some(exit_code),
                Ok(Talked::Failed(_)) | Err(_) => None,
            },
            None => None,
        };
        Ok(Recording { seen: tracer.finish().await, exit_code, output, took })
    }

    /// Makes a container for a while, after those are removed whose time is over, or whose maker is gone.
    async fn create(
        &self,
        image: &ImageFacts,
        within: Duration,
        files: &PlainFiles,
    ) -> Result<String, Error> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        for (id, labels) in
            self.engine.labelled(SURVEY_LABEL).await.map_err(|error| self.unavailable(&error))?
        {
            let until: u64 =
                labels.get(SURVEY_LABEL).and_then(|until| until.parse().ok()).unwrap_or_default();
            if until < now.as_secs() || labels.get(OWNER_LABEL).is_some_and(|label| owner::is_gone(label)) {
                // Another survey may be at it; what stays is the next one's.
                let _ = self.remove(&id).await;
            }
        }
        let until = (now + within + MARGIN).as_secs().to_string();
        let sandbox = Sandbox {
            limits: Limits { memory_bytes: self.section.memory, ..Limits::DEFAULT },
            env: BTreeMap::new(),
            mounts: BTreeMap::new(),
            scratch: Scratch::Writable,
            network: Vec::new(),
        };
        let owner = owner::own().map(|owner| (OWNER_LABEL.to_owned(), owner));
        let labels: HashMap<_, _> = [(SURVEY_LABEL.to_owned(), until)].into_iter().chain(owner).collect();
        let kind = self.engine.kind().await.map_err(|error| self.unavailable(&error))?;
        let surroundings = Surroundings { section: &self.section, files, kind };
        let body = body::container(image.id.clone(), &sandbox, self.section.cpus, surroundings, labels);
        self.engine.create(body).await.map_err(|error| self.unavailable(&error))
    }

    async fn remove(&self, id: &str) -> Result<(), Error> {
        self.engine.remove(id).await.map_err(|error| self.unavailable(&error))
    }

    /// The error of a program that the engine does not start.
    fn not_started(&self, error: EngineError) -> Error {
        match error {
            EngineError::Refused { message, .. } => Error::Trap {
                message: format!("its program could not be started: {message}"),
                backtrace: Vec::new(),
            },
            error => self.unavailable(&error),
        }
    }

    fn unavailable(&self, error: &EngineError) -> Error {
        let message = format!("the container engine at `{}`: {error}", self.engine.socket());
        Error::Unavailable { message, retry_after: RETRY_AFTER }
    }
}

/// Gives a program its input, and takes the beginning of what it writes, until it ends.
async fn talk(attached: Attached, input: Bytes) -> Bytes {
    let Attached { mut pieces, input: mut stdin } = attached;
    let mut writing = Box::pin(async move {
        let _ = stdin.write_all(&input).await;
        let _ = stdin.shutdown().await;
        stdin
    });
    let (mut written, mut output) = (None, Vec::new());
    loop {
        tokio::select! {
            stdin = &mut writing, if written.is_none() => written = Some(stdin),
            piece = pieces.next() => match piece {
                Some(Ok(Piece::Output(bytes))) => {
                    let room = MAX_OUTPUT_BYTES - output.len();
                    output.extend_from_slice(bytes.get(..room.min(bytes.len())).unwrap_or_default());
                }
                Some(Ok(Piece::Log(_))) => {}
                Some(Err(_)) | None => return output.into(),
            },
        }
    }
}

/// `strace`, which holds a program and tells what it asks for.
struct Tracer {
    child: Child,
    told: BufReader<ChildStderr>,
    line: Vec<u8>,
    lines: usize,
    trace: Trace,
}

impl Tracer {
    /// Takes hold of a process that waits for its start.
    async fn take_hold(process: i64, image: &ImageFacts) -> Result<Self, Error> {
        let calls = "trace=%file,%network,%process";
        let mut strace = Command::new("strace");
        strace.args(["-f", "-s", "512", "-e", calls, "-e", "signal=none", "-p", &process.to_string()]);
        strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let wrong = |message: String| Error::InvalidRequest { message };
        let mut child = strace.spawn().map_err(|error| {
            wrong(format!("a run is recorded by `strace`, which cannot be started: {error}; install it (Debian: `strace`)"))
        })?;
        let Some(told) = child.stderr.take() else {
            return Err(wrong("`strace` has no stderr".into()));
        };
        let trace = Trace::in_folder(&image.folder);
        let mut tracer = Self { child, told: BufReader::new(told), line: Vec::new(), lines: 0, trace };
        let mut said = String::new();
        let held = async {
            while let Some(line) = tracer.next_line().await {
                if line.contains(" attached") {
                    return true;
                }
                said = line;
            }
            false
        };
        match tokio::time::timeout(TAKE_HOLD, held).await {
            Ok(true) => Ok(tracer),
            _ => {
                let said = escape_untrusted(&said, 200);
                Err(wrong(format!(
                    "`strace` cannot look at the container: {said}; record as root, on the engine's machine"
                )))
            }
        }
    }

    /// Reads until there is no more, or more than is kept.
    async fn read(&mut self) {
        while self.lines < MAX_LINES {
            let Some(line) = self.next_line().await else {
                // It is over; what the program writes tells that.
                return std::future::pending().await;
            };
            self.lines += 1;
            self.trace.take(&line);
        }
        self.trace.cut();
    }

    /// Reads what is left, for as long as that comes at once.
    async fn finish(mut self) -> Seen {
        let _ = tokio::time::timeout(Duration::from_millis(500), async {
            while self.lines < MAX_LINES
                && let Some(line) = self.next_line().await
            {
                self.lines += 1;
                self.trace.take(&line);
            }
        })
        .await;
        let _ = self.child.start_kill();
        let _ = self.child.wait().await;
        self.trace.into_seen()
    }

    /// The next line, cut to its bound. To be given up at any time: what was read stays.
    async fn next_line(&mut self) -> Option<String> {
        loop {
            let mut byte = [0];
            match self.told.read(&mut byte).await {
                Ok(1) if byte == [b'\n'] => {
                    let line = String::from_utf8_lossy(&self.line).into_owned();
                    self.line.clear();
                    return Some(line);
                }
                Ok(1) if self.line.len() < MAX_LINE_BYTES => self.line.extend(byte),
                Ok(1) => {}
                _ => return None,
            }
        }
    }
}
