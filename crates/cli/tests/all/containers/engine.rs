//! A container engine of the test's own: Podman with runc, its storage, socket and state in a temporary directory, and one
//! image that holds nothing but the probe.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::server::Server;

/// The image of the probe.
pub const IMAGE: &str = "localhost/probe:1";
/// Longest wait for the engine to listen.
const START: Duration = Duration::from_secs(30);

pub struct Engine {
    folder: tempfile::TempDir,
    service: Option<Child>,
}

impl Engine {
    /// Starts one that has the image.
    ///
    /// # Panics
    /// Where there is no Podman, or this is not root: the tests of containers are not left out.
    pub fn start() -> Self {
        reap();
        let mut engine = Self { folder: tempfile::tempdir().unwrap(), service: None };
        // A machine that is a sandbox itself may forbid raising limits, which the engine would do by default.
        let settings = "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n[engine]\n\
            cgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\nruntime = \"runc\"\n";
        std::fs::write(engine.path("containers.conf"), settings).unwrap();
        std::fs::create_dir(engine.path("image")).unwrap();
        std::fs::copy(compiled("probe", &musl()), engine.path("image/agent")).unwrap();
        engine.import(IMAGE, &[]);
        engine.serve();
        engine
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self) -> Command {
        let mut podman = Command::new("podman");
        podman
            // The programs that it leaves with its containers are told where by the same options.
            .arg("--root")
            .arg(self.path("root"))
            .arg("--runroot")
            .arg(self.path("run"))
            .args(["--storage-driver", "vfs"])
            .env("CONTAINERS_CONF", self.path("containers.conf"))
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        podman
    }

    /// What `podman` answers.
    pub fn podman(&self, arguments: &[&str]) -> String {
        let output = self.command().args(arguments).output();
        let output = output
            .expect("no `podman`; `cargo xtask test` installs it (Debian: `apt-get install podman runc`)");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "podman {arguments:?} (as root?): {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Makes an image of the probe, with changes to what it says of itself.
    pub fn import(&self, name: &str, changes: &[&str]) {
        let changes: Vec<&str> = ["ENTRYPOINT [\"/agent\"]"].iter().chain(changes).copied().collect();
        self.import_folder(name, &self.path("image"), &changes);
    }

    /// Makes an image of another program.
    pub fn import_program(&self, name: &str, program: &Path) {
        let folder = self.path(&name.replace(['/', ':'], "-"));
        std::fs::create_dir(&folder).unwrap();
        std::fs::copy(program, folder.join("agent")).unwrap();
        self.import_folder(name, &folder, &["ENTRYPOINT [\"/agent\"]"]);
    }

    /// Makes an image of what is in a folder.
    pub fn import_folder(&self, name: &str, folder: &Path, changes: &[&str]) {
        let archive = self.path("image.tar");
        let packed =
            Command::new("tar").arg("-C").arg(folder).args(["-cf", archive.to_str().unwrap(), "."]).status();
        assert!(packed.unwrap().success());
        let mut arguments = vec!["import", "--quiet"];
        arguments.extend(changes.iter().flat_map(|change| ["--change", change]));
        arguments.extend([archive.to_str().unwrap(), name]);
        self.podman(&arguments);
    }

    /// Listens, if it does not.
    pub fn serve(&mut self) {
        let socket = self.socket();
        let _ = std::fs::remove_file(&socket);
        let log = std::fs::File::create(self.path("engine.log")).unwrap();
        let mut service = self.command();
        service.args(["system", "service", "--time=0", &format!("unix://{}", socket.display())]);
        self.service = Some(service.stdout(Stdio::null()).stderr(log).spawn().unwrap());
        let since = Instant::now();
        while std::os::unix::net::UnixStream::connect(&socket).is_err() {
            let log = || std::fs::read_to_string(self.path("engine.log")).unwrap();
            assert!(since.elapsed() < START, "the engine does not listen: {}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Kills what listens; containers go on.
    pub fn stop(&mut self) {
        if let Some(mut service) = self.service.take() {
            service.kill().unwrap();
            service.wait().unwrap();
        }
        let _ = std::fs::remove_file(self.socket());
    }

    /// Sends a signal to what listens.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let id = rustix::process::Pid::from_child(self.service.as_ref().unwrap());
        rustix::process::kill_process(id, signal).unwrap();
    }

    pub fn socket(&self) -> PathBuf {
        self.path("engine.sock")
    }

    /// The setting by which a server uses it.
    pub fn setting(&self) -> String {
        format!("container.socket={}", self.socket().display())
    }

    /// A server that uses it, with more settings.
    pub fn server(&self, settings: &[&str]) -> Server {
        let setting = self.setting();
        let settings: Vec<&str> = [setting.as_str()].into_iter().chain(settings.iter().copied()).collect();
        Server::with(&settings)
    }

    /// A server that uses it by way of a socket of the test's own.
    pub fn server_by(&self, socket: &Path, settings: &[&str]) -> Server {
        let setting = format!("container.socket={}", socket.display());
        let settings: Vec<&str> = [setting.as_str()].into_iter().chain(settings.iter().copied()).collect();
        Server::with(&settings)
    }

    /// The ids of all containers, running or not.
    pub fn containers(&self) -> Vec<String> {
        self.podman(&["ps", "--all", "--quiet", "--no-trunc"]).lines().map(str::to_owned).collect()
    }

    /// Waits until there is no container any more, for as long as a sweep may take to come.
    pub fn is_empty(&self) {
        let since = Instant::now();
        while !self.containers().is_empty() {
            assert!(since.elapsed() < Duration::from_secs(20), "left: {}", self.podman(&["ps", "--all"]));
            std::thread::sleep(Duration::from_millis(100));
        }
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let here = self.folder.path().to_str().unwrap();
        let left: Vec<&str> =
            mounts.lines().filter(|line| line.contains(here) && line.contains("/shm")).collect();
        assert!(left.is_empty(), "mounts are left: {left:?}");
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop();
        let _ = self.command().args(["rm", "--all", "--force", "--time", "0"]).output();
        // Podman keeps its own storage mounted on itself.
        let _ = self.command().args(["umount", "--all"]).output();
        for place in ["root", "root/vfs", "run"] {
            let _ = Command::new("umount").arg(self.path(place)).stderr(Stdio::null()).status();
        }
    }
}

/// Waits for what the engine's processes leave, as the first process of a machine does; in a sandbox that may be a program
/// that does not, and Podman waits half a minute for each that is not waited for.
fn reap() {
    static REAPER: std::sync::Once = std::sync::Once::new();
    REAPER.call_once(|| {
        rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
        std::thread::spawn(|| {
            loop {
                for process in left() {
                    let _ = rustix::process::waitpid(Some(process), rustix::process::WaitOptions::NOHANG);
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        });
    });
}

/// The processes that the engine has left to this one, and that have ended: they have sessions of their own, unlike what the
/// tests start themselves.
fn left() -> Vec<rustix::process::Pid> {
    let status = |process: &str| std::fs::read_to_string(format!("/proc/{process}/status")).ok();
    let field = |status: &str, name: &str| {
        status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned()
    };
    let (own, session) = (std::process::id().to_string(), field(&status("self").unwrap(), "NSsid:"));
    let is_left = |entry: std::fs::DirEntry| {
        let number = entry.file_name().to_str()?.to_owned();
        let status = status(&number)?;
        let is_ours = field(&status, "PPid:") == own && field(&status, "NSsid:") != session;
        let process = rustix::process::Pid::from_raw(number.parse().ok()?);
        process.filter(|_| is_ours && field(&status, "State:").starts_with('Z'))
    };
    std::fs::read_dir("/proc").unwrap().filter_map(|entry| is_left(entry.ok()?)).collect()
}

/// The target of programs that are alone in their image.
pub fn musl() -> String {
    format!("{}-unknown-linux-musl", std::env::consts::ARCH)
}

/// A program of `tests/containers`, compiled once for each text that it has.
pub fn compiled(name: &str, target: &str) -> PathBuf {
    let source =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/containers").join(format!("{name}.rs"));
    let digest = <sha2::Sha256 as sha2::Digest>::digest(std::fs::read(&source).unwrap());
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let program = folder.join(format!("{name}-{target}-{}", &hex::encode(digest)[..16]));
    if !program.exists() {
        let made = tempfile::Builder::new().tempdir_in(folder).unwrap();
        let mut rustc = Command::new("rustc");
        rustc.args(["--edition=2024", "-O", "-Cstrip=symbols", "--target", target, "-o"]);
        let compiled = rustc.arg(made.path().join("agent")).arg(&source).output().unwrap();
        let said = String::from_utf8_lossy(&compiled.stderr).into_owned();
        assert!(compiled.status.success(), "`cargo xtask test` adds the target {target}: {said}");
        std::fs::rename(made.path().join("agent"), &program).unwrap();
    }
    program
}
