//! The container engine, Docker's or Podman's, by way of its socket: what is asked of it, each with a time that it has for
//! that. The engine belongs to the operator and is believed; that it answers is not.
//!
//! Knows nothing of agents, grants and executions.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::{Duration, SystemTime};

use bollard::container::LogOutput;
use bollard::errors::Error as DockerError;
use bollard::models::{ContainerCreateBody, ContainerInspectResponse, ImageInspect};
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, CreateContainerOptions, CreateImageOptionsBuilder,
    DownloadFromContainerOptionsBuilder, InspectContainerOptions, KillContainerOptionsBuilder,
    ListContainersOptionsBuilder, RemoveContainerOptionsBuilder, StartContainerOptions,
};
use bollard::{API_DEFAULT_VERSION, Docker};
use bytes::Bytes;
use chrono::DateTime;
use futures::{Stream, StreamExt, TryStreamExt};
use mentat_manifest::escape_untrusted;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Characters of what the engine says that are passed on.
const MAX_ENGINE_CHARS: usize = 300;
/// Entries of a list of containers that are looked at in one go.
const MAX_LISTED: i32 = 1_000;
/// Bytes of an answer that says whether something was done.
const MAX_ANSWER_BYTES: u64 = 16 << 10;

/// A container engine; clones are the same one.
#[derive(Clone, Debug)]
pub(super) struct Engine {
    socket: Arc<Path>,
    /// What it may take for one step.
    patience: Duration,
    /// The client, and the version that was agreed on; made anew when the engine was away, since it may come back as
    /// another one.
    client: Arc<Mutex<Option<(Docker, EngineKind)>>>,
    is_up: Arc<AtomicBool>,
}

/// Whose engine it is, where theirs differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EngineKind {
    Podman,
    /// Docker, or one that speaks as it does.
    Docker,
}

/// Why the engine did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub(super) enum EngineError {
    /// It answered, and refused.
    #[error("the engine answers {status}: {message}")]
    Refused {
        /// As in HTTP.
        status: u16,
        /// Its own words; escaped and cut.
        message: String,
    },
    /// It answered in words that are unknown here. Podman tells of states that Docker does not have, while they last.
    #[error("the engine's answer cannot be read: {0}")]
    Unreadable(String),
    /// It put words of its own among those of a container, as Podman does where that ends without reading its input.
    #[error("what the container writes is mixed with other bytes")]
    Garbled,
    /// It does not answer.
    #[error("{0}")]
    Away(String),
}

/// What a container writes.
#[derive(Debug)]
pub(super) enum Piece {
    /// To stdout.
    Output(Bytes),
    /// To stderr.
    Log(Bytes),
}

/// The standard streams of a container.
pub(super) struct Attached {
    /// What it writes, until it has ended or the engine is gone.
    pub(super) pieces: Pin<Box<dyn Stream<Item = Result<Piece, EngineError>> + Send>>,
    /// What it reads.
    pub(super) input: Pin<Box<dyn AsyncWrite + Send>>,
}

/// How a container stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ContainerState {
    /// It has not ended; the number of its first process, where it has one already.
    Running { process: Option<i64> },
    /// It has.
    Ended {
        /// When, by the clock of this machine, which is the engine's too.
        at: Option<SystemTime>,
        /// 128 and the number of a signal where that ended it.
        exit_code: i64,
        /// Whether the engine has seen that it was killed for want of memory. Some do not look.
        out_of_memory: bool,
    },
}

impl EngineError {
    /// Whether the thing that was asked about is not there. Podman tells of a container that goes while it looks as of a
    /// failure of its own.
    pub(super) fn is_missing(&self) -> bool {
        let Self::Refused { status, message } = self else { return false };
        *status == 404 || (*status == 500 && message.contains("no such container"))
    }
}

impl From<DockerError> for EngineError {
    fn from(error: DockerError) -> Self {
        match error {
            DockerError::DockerResponseServerError { status_code, message } => Self::Refused {
                status: status_code,
                message: escape_untrusted(message.trim(), MAX_ENGINE_CHARS),
            },
            // A pull tells in its stream what it could not fetch.
            DockerError::DockerStreamError { error } => {
                Self::Refused { status: 500, message: escape_untrusted(error.trim(), MAX_ENGINE_CHARS) }
            }
            DockerError::JsonDataError { message, .. } => {
                Self::Unreadable(escape_untrusted(&message, MAX_ENGINE_CHARS))
            }
            other => Self::Away(escape_untrusted(&other.to_string(), MAX_ENGINE_CHARS)),
        }
    }
}

impl Engine {
    pub(super) fn new(socket: PathBuf, patience: Duration) -> Self {
        Self { socket: socket.into(), patience, client: Arc::default(), is_up: Arc::default() }
    }

    /// Where it listens.
    pub(super) fn socket(&self) -> std::path::Display<'_> {
        self.socket.display()
    }

    /// Whether it did what it was asked for lately.
    pub(super) fn is_up(&self) -> bool {
        self.is_up.load(Ordering::Relaxed)
    }

    /// The client, made if there is none.
    async fn client(&self) -> Result<(Docker, EngineKind), EngineError> {
        if let Some(client) = self.client.lock().clone() {
            return Ok(client);
        }
        let socket = self.socket.to_string_lossy();
        let seconds = self.patience.as_secs().saturating_add(1);
        let client = Docker::connect_with_unix(&socket, seconds, API_DEFAULT_VERSION)?;
        let client = client.negotiate_version().await?;
        let components = client.version().await?.components.unwrap_or_default();
        let is_podman = components.iter().any(|component| component.name.starts_with("Podman"));
        let kind = if is_podman { EngineKind::Podman } else { EngineKind::Docker };
        *self.client.lock() = Some((client.clone(), kind));
        Ok((client, kind))
    }

    /// Asks for something, and waits for as long as the engine may take.
    async fn ask<T, F>(&self, within: Duration, question: impl FnOnce(Docker) -> F) -> Result<T, EngineError>
    where
        F: Future<Output = Result<T, DockerError>>,
    {
        let asked = async { Ok(question(self.client().await?.0).await?) };
        let late = |_| EngineError::Away(format!("no answer within {} ms", within.as_millis()));
        let answer = tokio::time::timeout(within, asked).await.map_err(late).flatten();
        let is_away = matches!(answer, Err(EngineError::Away(_)));
        self.is_up.store(!is_away, Ordering::Relaxed);
        if is_away {
            *self.client.lock() = None;
        }
        answer
    }

    /// What the engine knows of an image; `None` where it has none of that name.
    pub(super) async fn image(&self, name: &str) -> Result<Option<ImageInspect>, EngineError> {
        let found = self.ask(self.patience, async |client| client.inspect_image(name).await).await;
        match found {
            Err(error) if error.is_missing() => Ok(None),
            found => found.map(Some),
        }
    }

    /// Fetches an image.
    pub(super) async fn pull(&self, name: &str, within: Duration) -> Result<(), EngineError> {
        let mut options = CreateImageOptionsBuilder::new().from_image(name);
        // Without a tag, Docker fetches them all.
        let is_tagged = name.rsplit('/').next().is_some_and(|last| last.contains([':', '@']));
        if !is_tagged {
            options = options.tag("latest");
        }
        let options = options.build();
        let pull = async |client: Docker| {
            // Its own patience is that of quick answers.
            let client = client.with_timeout(within);
            client.create_image(Some(options), None, None).try_for_each(async |_| Ok(())).await
        };
        self.ask(within, pull).await
    }

    /// Makes a container; answers its id.
    pub(super) async fn create(&self, body: ContainerCreateBody) -> Result<String, EngineError> {
        let create =
            async |client: Docker| client.create_container(None::<CreateContainerOptions>, body).await;
        Ok(self.ask(self.patience, create).await?.id)
    }

    /// Whose engine it is.
    pub(super) async fn kind(&self) -> Result<EngineKind, EngineError> {
        let late = |_| EngineError::Away(format!("no answer within {} ms", self.patience.as_millis()));
        Ok(tokio::time::timeout(self.patience, self.client()).await.map_err(late)??.1)
    }

    /// Takes the standard streams of a container that has not started yet. What it writes and what it reads have a connection
    /// each: where a container ends with input before it that nobody has read, Podman gives that connection up, and what is
    /// still on its way there is lost.
    pub(super) async fn attach(&self, id: &str) -> Result<Attached, EngineError> {
        // Without keys that would detach: the input is any bytes.
        let options = || AttachContainerOptionsBuilder::new().detach_keys("").stream(true);
        let (output, input) = (options().stdout(true).stderr(true).build(), options().stdin(true).build());
        let attach = async |client: Docker| client.attach_container(id, Some(output)).await;
        let output = self.ask(self.patience, attach).await?;
        let attach = async |client: Docker| client.attach_container(id, Some(input)).await;
        let input = self.ask(self.patience, attach).await?;
        let mut pieces = output.output.map(|piece| match piece {
            Ok(LogOutput::StdErr { message }) => Ok(Piece::Log(message)),
            Ok(LogOutput::StdOut { message } | LogOutput::StdIn { message }) => Ok(Piece::Output(message)),
            // Bytes outside the frames that the container's own are in: the engine's words in the middle of them.
            Ok(LogOutput::Console { .. }) => Err(EngineError::Garbled),
            Err(error) => Err(EngineError::from(error)),
        });
        // Podman writes all of it there as well, whoever asked for what, and waits where that is not read.
        let mut again = input.output.fuse();
        let pieces = futures::stream::poll_fn(move |context| {
            let piece = pieces.poll_next_unpin(context);
            if piece.is_pending() {
                while let Poll::Ready(Some(_)) = again.poll_next_unpin(context) {}
            }
            piece
        });
        Ok(Attached { pieces: Box::pin(pieces), input: input.input })
    }

    pub(super) async fn start(&self, id: &str) -> Result<(), EngineError> {
        let start = async |client: Docker| client.start_container(id, None::<StartContainerOptions>).await;
        self.ask(self.patience, start).await
    }

    /// Makes a container ready without starting its program, which only Podman does; answers the process that waits.
    pub(super) async fn prepare(&self, id: &str) -> Result<i64, EngineError> {
        let away = |error: std::io::Error| EngineError::Away(error.to_string());
        let asked = async {
            // Not of the interface that engines share, so that the client has no word for it.
            let mut socket = tokio::net::UnixStream::connect(&self.socket).await?;
            let request = format!(
                "POST /v4.0.0/libpod/containers/{id}/init HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n\
                 Content-Length: 0\r\n\r\n"
            );
            socket.write_all(request.as_bytes()).await?;
            let mut answer = Vec::new();
            socket.take(MAX_ANSWER_BYTES).read_to_end(&mut answer).await?;
            Ok(answer)
        };
        let late = |_| EngineError::Away("no answer in time".into());
        let answer = tokio::time::timeout(self.patience, asked).await.map_err(late)?.map_err(away)?;
        let answer = String::from_utf8_lossy(&answer);
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(502);
        if !(200..400).contains(&status) {
            let message = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
            return Err(EngineError::Refused {
                status,
                message: escape_untrusted(message, MAX_ENGINE_CHARS),
            });
        }
        let inspect =
            async |client: Docker| client.inspect_container(id, None::<InspectContainerOptions>).await;
        let state = self.ask(self.patience, inspect).await?.state.unwrap_or_default();
        let process = state.pid.filter(|process| *process > 0);
        process.ok_or_else(|| EngineError::Unreadable("a container that is ready has no process".into()))
    }

    /// The beginning of the archive of a file in a container.
    pub(super) async fn beginning(&self, id: &str, path: &str, bytes: usize) -> Result<Vec<u8>, EngineError> {
        let options = DownloadFromContainerOptionsBuilder::new().path(path).build();
        let download = async |client: Docker| {
            let mut archive = client.download_from_container(id, Some(options));
            let mut beginning = Vec::new();
            while beginning.len() < bytes
                && let Some(piece) = archive.try_next().await?
            {
                beginning.extend_from_slice(&piece);
            }
            beginning.truncate(bytes);
            Ok(beginning)
        };
        self.ask(self.patience, download).await
    }

    /// How a container stands.
    pub(super) async fn look(&self, id: &str) -> Result<ContainerState, EngineError> {
        let inspect =
            async |client: Docker| client.inspect_container(id, None::<InspectContainerOptions>).await;
        match self.ask(self.patience, inspect).await {
            Ok(inspected) => Ok(state_of(&inspected)),
            // It is on its way from one state to another.
            Err(EngineError::Unreadable(_)) => Ok(ContainerState::Running { process: None }),
            Err(error) => Err(error),
        }
    }

    /// Whether a container runs, and nobody has paused it.
    pub(super) async fn is_running(&self, id: &str) -> Result<bool, EngineError> {
        let inspect =
            async |client: Docker| client.inspect_container(id, None::<InspectContainerOptions>).await;
        let state = self.ask(self.patience, inspect).await?.state.unwrap_or_default();
        Ok(state.running.unwrap_or_default() && !state.paused.unwrap_or_default())
    }

    /// Ends a container at once, and removes it with all that it wrote. One that is gone is as good as removed.
    pub(super) async fn remove(&self, id: &str) -> Result<(), EngineError> {
        // Podman would first ask it to end, and wait for that.
        let kill = KillContainerOptionsBuilder::new().signal("SIGKILL").build();
        let killed =
            self.ask(self.patience, async |client| client.kill_container(id, Some(kill)).await).await;
        if let Err(EngineError::Away(why)) = killed {
            return Err(EngineError::Away(why));
        }
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        let remove = async |client: Docker| client.remove_container(id, Some(options)).await;
        match self.ask(self.patience, remove).await {
            Err(error) if error.is_missing() => Ok(()),
            removed => removed,
        }
    }

    /// The containers with a label, running or not: id and labels.
    pub(super) async fn labelled(
        &self,
        label: &str,
    ) -> Result<Vec<(String, HashMap<String, String>)>, EngineError> {
        let filters = HashMap::from([("label", vec![label])]);
        let options =
            ListContainersOptionsBuilder::new().all(true).limit(MAX_LISTED).filters(&filters).build();
        let list = async |client: Docker| client.list_containers(Some(options)).await;
        let listed = self.ask(self.patience, list).await?;
        let labelled = |container: bollard::models::ContainerSummary| {
            Some((container.id?, container.labels.unwrap_or_default()))
        };
        Ok(listed.into_iter().filter_map(labelled).collect())
    }
}

fn state_of(inspected: &ContainerInspectResponse) -> ContainerState {
    let state = inspected.state.as_ref();
    let finished = state.and_then(|state| state.finished_at.as_deref()).filter(|text| is_a_time(text));
    match finished {
        Some(finished) if !state.and_then(|state| state.running).unwrap_or_default() => {
            ContainerState::Ended {
                at: DateTime::parse_from_rfc3339(finished).ok().map(SystemTime::from),
                exit_code: state.and_then(|state| state.exit_code).unwrap_or_default(),
                out_of_memory: state.and_then(|state| state.oom_killed).unwrap_or_default(),
            }
        }
        _ => ContainerState::Running {
            process: state.and_then(|state| state.pid).filter(|process| *process > 0),
        },
    }
}

/// What has not ended has ended in the year 1, as Go has it.
fn is_a_time(text: &str) -> bool {
    !text.is_empty() && !text.starts_with("0001-")
}
