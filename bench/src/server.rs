//! A process that is asked for something: the service itself, as it ships, or a floor, which is this program once more.
//! Killed when dropped.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal};

/// Longest wait for a server to be ready.
const START: Duration = Duration::from_secs(60);
/// What a floor says when it is ready, with its address; and the service, with its addresses.
pub(crate) const FLOOR_READY: &str = "the floor is ready: ";
const SERVICE_READY: &str = "mentat is ready: ";
/// Lines of the log that are told when a server does not start.
const TOLD_LINES: usize = 20;

/// A process that serves.
pub(crate) struct Server {
    child: Child,
    /// `grpc=ADDRESS http=ADDRESS`, or one of them.
    addresses: String,
    /// What the process keeps on disk, until it is killed.
    folder: Option<tempfile::TempDir>,
}

/// Folders of servers that are gone.
static LEFT: Mutex<Vec<tempfile::TempDir>> = Mutex::new(Vec::new());

/// Removes what servers kept on disk, when all is measured. A file system without a journal does not use the place of a
/// removed file again for minutes, and looks at each such place when a file is made: removed between two groups, the files
/// of the first would slow the second.
pub(crate) struct Leavings;

impl Drop for Leavings {
    fn drop(&mut self) {
        LEFT.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// The `mentat` that is measured: `cargo xtask bench` builds it in the same profile, so it lies beside this program.
///
/// # Errors
/// It is not there.
pub(crate) fn program() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe()?.with_file_name("mentat");
    if program.is_file() {
        return Ok(program);
    }
    bail!("no `{}`; `cargo xtask bench` builds it", program.display())
}

impl Server {
    /// `mentat serve` as it ships, but for these settings.
    pub(crate) fn mentat(settings: &[&str]) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut command = Command::new(program()?);
        add_arguments(&mut command, folder.path(), settings);
        Self::start(command, folder, SERVICE_READY)
    }

    /// Goes on under callgrind, which writes what it counted to a file at the end. What is loaded by then is there; the
    /// compiler's own process does not start there.
    pub(crate) fn counted(mut self, counts: &Path, settings: &[&str]) -> anyhow::Result<Self> {
        let folder = self.folder.take().context("the server has no folder")?;
        self.end()?;
        let mut command = Command::new("valgrind");
        command.args(["--tool=callgrind", "--smc-check=all-non-file", "--log-file=/dev/null"]);
        // So that it can be told what was called in which order, and by which name the linker knows it.
        command.args(["--dump-instr=yes", "--demangle=no"]);
        command.arg(format!("--callgrind-out-file={}", counts.display())).arg(program()?);
        add_arguments(&mut command, folder.path(), settings);
        Self::start(command, folder, SERVICE_READY)
    }

    /// Has the server end by itself, and waits for that.
    pub(crate) fn end(mut self) -> anyhow::Result<()> {
        let process = Pid::from_child(&self.child);
        rustix::process::kill_process(process, Signal::TERM)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "the server ended with {status}");
        Ok(())
    }

    /// A floor, with the arguments of `serve-floor`.
    pub(crate) fn floor(arguments: &[&str]) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("serve-floor").args(arguments);
        Self::start(command, tempfile::tempdir()?, FLOOR_READY)
    }

    fn start(mut command: Command, folder: tempfile::TempDir, ready: &'static str) -> anyhow::Result<Self> {
        // Neither a variable nor a file of whoever measures changes what is measured.
        command.env_clear().current_dir(folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        let stderr = child.stderr.take().context("the server has no stderr")?;
        let mut server = Self { child, addresses: String::new(), folder: Some(folder) };
        let (lines, received) = mpsc::channel();
        // To its end, so that the server never waits for a reader.
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                // Nobody listens any longer, once the server is ready.
                let _ = lines.send(line);
            }
        });
        let (deadline, mut log) = (Instant::now() + START, Vec::new());
        loop {
            match received.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => match line.strip_prefix(ready) {
                    Some(addresses) => {
                        addresses.clone_into(&mut server.addresses);
                        return Ok(server);
                    }
                    None => log.push(line),
                },
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    let told = log.split_off(log.len().saturating_sub(TOLD_LINES)).join("\n");
                    bail!("{command:?} did not start: {told}")
                }
            }
        }
    }

    /// Where the door of this name listens.
    pub(crate) fn address(&self, door: &str) -> anyhow::Result<&str> {
        let mut parts = self.addresses.split_whitespace();
        let address = parts.find_map(|part| part.strip_prefix(door)?.strip_prefix('='));
        address.with_context(|| format!("there is no door `{door}` in `{}`", self.addresses))
    }

    /// Bytes of memory that are resident now.
    pub(crate) fn resident_bytes(&self) -> anyhow::Result<f64> {
        self.status("VmRSS:")
    }

    /// Bytes of memory that were resident at most.
    pub(crate) fn peak_resident_bytes(&self) -> anyhow::Result<f64> {
        self.status("VmHWM:")
    }

    fn status(&self, key: &str) -> anyhow::Result<f64> {
        let path = Path::new("/proc").join(self.child.id().to_string()).join("status");
        let status = std::fs::read_to_string(path)?;
        let line = status.lines().find_map(|line| line.strip_prefix(key)).context("no such line")?;
        let kibibytes: f64 = line.split_whitespace().next().unwrap_or_default().parse()?;
        Ok(kibibytes * 1024.0)
    }
}

/// The arguments of a server that chooses its ports.
fn add_arguments(command: &mut Command, data: &Path, settings: &[&str]) {
    command.args(["serve", "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data-dir"]).arg(data);
    for setting in settings {
        command.args(["--set", setting]);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        LEFT.lock().unwrap_or_else(PoisonError::into_inner).extend(self.folder.take());
    }
}
