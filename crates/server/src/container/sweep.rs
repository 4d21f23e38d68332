//! What is left of containers is removed: those of a server that was killed when it starts again, and those that could not
//! be removed when their executions ended, as soon as the engine lets them.
//!
//! Invariant: a server removes its own containers alone. They bear the id of its data directory, which one server has at
//! a time, and the place of that on disk, which a copy of the directory does not have; several servers can share an engine.

use std::fmt;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mentat_runtime::error::Error;
use mentat_runtime::model::ExecutionId;
use tokio_util::sync::CancellationToken;

use super::engine::{Engine, EngineError};
use super::{Containers, Live};

/// Whose container it is.
pub(super) const SERVER_LABEL: &str = "mentat.server";
/// Of which run.
pub(super) const RUN_LABEL: &str = "mentat.run";
/// For people who look at the engine's list.
pub(super) const EXECUTION_LABEL: &str = "mentat.execution";
pub(super) const AGENT_LABEL: &str = "mentat.agent";

/// How often the engine is looked through, which tells whether it is up as well.
const SWEEP_EVERY: Duration = Duration::from_secs(30);
/// The same while it does not answer, or a container could not be removed.
const SWEEP_AGAIN: Duration = Duration::from_secs(2);
/// When it tries again what could not be removed.
const LAST_SWEEP_AGAIN: Duration = Duration::from_millis(100);
/// How long the end of the server waits for its containers to be removed.
const LAST_SWEEP: Duration = Duration::from_secs(10);
/// The file of a server's id, in its data directory.
const ID_FILE: &str = "server-id";

/// Identifies a server by its data directory: an id that was made for it, and the device and the number of the file that holds
/// it, by which a copy is another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerId(Arc<str>);

impl ServerId {
    /// Reads the id of a data directory, which gets one where it has none.
    ///
    /// # Errors
    /// `INTERNAL` where the file cannot be read or written; `INVALID_REQUEST` where it holds something else.
    pub fn of(data: &Path) -> Result<Self, Error> {
        let path = data.join(ID_FILE);
        let failed = |error| Error::internal(format!("the server's id in `{}`", path.display()), error);
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                let id: ExecutionId = text.trim().parse().map_err(|_| Error::InvalidRequest {
                    message: format!(
                        "`{}` holds no id of a server; restore it, or remove it, and with it all containers that are \
                         labelled `{SERVER_LABEL}` and are not of another server",
                        path.display()
                    ),
                })?;
                Self::at(&path, &id.to_string()).map_err(failed)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let id = ExecutionId::new().to_string();
                let mut file = tempfile::NamedTempFile::new_in(data).map_err(failed)?;
                writeln!(file, "{id}").and_then(|()| file.as_file().sync_all()).map_err(failed)?;
                file.persist(&path).map_err(|error| failed(error.error))?;
                Self::at(&path, &id).map_err(failed)
            }
            Err(error) => Err(failed(error)),
        }
    }

    fn at(path: &Path, id: &str) -> std::io::Result<Self> {
        let file = std::fs::metadata(path)?;
        Ok(Self(format!("{id}-{:x}-{:x}", file.dev(), file.ino()).into()))
    }
}

impl fmt::Display for ServerId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Live {
    /// Removes the container of the run, if it has one; leaves it to the sweep where that fails.
    pub(super) async fn remove(&self) {
        let Some(engine) = &self.containers.engine else { return };
        // One that is still being made has no name yet.
        let making = self.making.lock().take();
        if let Some(making) = making {
            let _ = making.await;
        }
        let removed = match self.id.get() {
            Some(id) => engine.remove(id).await,
            // It may be there all the same, where the engine did not answer in time.
            None => remove_labelled(engine, &format!("{RUN_LABEL}={}", self.run), |_| true).await.map(drop),
        };
        match removed {
            Ok(()) => self.is_removed.store(true, Ordering::Relaxed),
            Err(error) => {
                tracing::warn!(socket = %engine.socket(), %error, "a container is left to be swept away");
                self.containers.left.notify_one();
            }
        }
    }
}

impl Containers {
    /// Removes the containers of this server that belong to no execution of it.
    async fn sweep(&self, engine: &Engine) -> Result<(), EngineError> {
        let label = format!("{SERVER_LABEL}={}", self.server);
        // Those that are left later may be left by this sweep too.
        let users = self.users.left();
        // Asked of each when it is its turn: one that was just made is in the table before it is in the list.
        let is_left = |run: Option<&String>| run.is_none_or(|run| !self.live.lock().contains(run));
        let removed = remove_labelled(engine, &label, is_left).await?;
        self.users.forget(&users);
        if removed > 0 {
            self.swept.fetch_add(removed, Ordering::Relaxed);
            tracing::info!(removed, "containers that were left are removed");
        }
        Ok(())
    }

    /// Removes all that is there of this server's, at its end.
    pub async fn close(&self) {
        let Some(engine) = &self.engine else { return };
        self.warm.close();
        let label = format!("{SERVER_LABEL}={}", self.server);
        let removed = async {
            // One that is just ending can be busy with that.
            while let Err(error) = remove_labelled(engine, &label, |_| true).await {
                if matches!(error, EngineError::Away(_)) {
                    return Err(error);
                }
                tokio::time::sleep(LAST_SWEEP_AGAIN).await;
            }
            Ok(())
        };
        match tokio::time::timeout(LAST_SWEEP, removed).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "containers may be left; the next start removes them"),
            Err(_) => tracing::warn!("containers may be left; the next start removes them"),
        }
        self.warm.clear();
    }
}

/// Sweeps from the start on and until the service closes.
pub(crate) async fn keep_swept(containers: Arc<Containers>, closing: CancellationToken) {
    let Some(engine) = &containers.engine else { return };
    let mut was_up = None;
    loop {
        let swept = closing.run_until_cancelled(containers.sweep(engine)).await;
        let Some(swept) = swept else { return };
        let is_up = engine.is_up();
        let is_news = was_up.replace(is_up) != Some(is_up);
        match &swept {
            Err(error @ EngineError::Away(_)) if is_news => tracing::warn!(
                socket = %engine.socket(), %error,
                "the container engine does not answer; container agents are refused until it does"
            ),
            Err(EngineError::Away(_)) => {}
            Err(error) => tracing::warn!(socket = %engine.socket(), %error, "containers are left for now"),
            Ok(()) if is_news => tracing::info!(socket = %engine.socket(), "the container engine answers"),
            Ok(()) => {}
        }
        let pause = if swept.is_ok() { SWEEP_EVERY } else { SWEEP_AGAIN };
        let next = async {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = containers.left.notified() => tokio::time::sleep(SWEEP_AGAIN).await,
            }
        };
        if closing.run_until_cancelled(next).await.is_none() {
            return;
        }
    }
}

/// Removes the containers with a label that `is_left` says so of, by the label of their run; answers how many.
async fn remove_labelled(
    engine: &Engine,
    label: &str,
    is_left: impl Fn(Option<&String>) -> bool,
) -> Result<u64, EngineError> {
    let mut removed = 0;
    let mut failed = None;
    for (id, labels) in engine.labelled(label).await? {
        if is_left(labels.get(RUN_LABEL)) {
            match engine.remove(&id).await {
                Ok(()) => removed += 1,
                Err(error) => failed = Some(error),
            }
        }
    }
    match failed {
        Some(error) => Err(error),
        None => Ok(removed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_directory_keeps_its_id_wherever_it_is_moved_and_a_copy_has_another() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        std::fs::create_dir(&data).unwrap();
        let id = ServerId::of(&data).unwrap();
        assert_eq!(ServerId::of(&data).unwrap(), id);
        let copy = folder.path().join("copy");
        std::fs::create_dir(&copy).unwrap();
        std::fs::copy(data.join(ID_FILE), copy.join(ID_FILE)).unwrap();
        assert_ne!(ServerId::of(&copy).unwrap(), id);
        let moved = folder.path().join("moved");
        std::fs::rename(&data, &moved).unwrap();
        assert_eq!(ServerId::of(&moved).unwrap(), id);
        let data = moved;
        assert_ne!(ServerId::of(tempfile::tempdir().unwrap().path()).unwrap(), id);
        std::fs::write(data.join(ID_FILE), "anything").unwrap();
        assert!(ServerId::of(&data).unwrap_err().to_string().contains("holds no id"));
    }
}
