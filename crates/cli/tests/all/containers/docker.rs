//! The same calls on the other engine: Docker, started by the test with no network of its own, its storage, socket and state
//! in a temporary directory.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mentat_proto::v1;

use super::engine::{IMAGE, compiled, musl};
use super::faults::failed;
use super::{load, manifest, reason, run, users};
use crate::network::{pages, repeater};
use crate::program::text;
use crate::server::{Server, eventually, execute};

/// Longest wait for the engine to listen, and to end.
const START: Duration = Duration::from_secs(60);

struct Docker {
    folder: tempfile::TempDir,
    engine: Child,
}

impl Docker {
    /// Starts one that has the image of the probe.
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let log = std::fs::File::create(path("engine.log")).unwrap();
        let engine = command("dockerd")
            .args([
                "--bridge=none",
                "--iptables=false",
                "--ip6tables=false",
                "--storage-driver=vfs",
                "--data-root",
            ])
            .arg(path("root"))
            .arg("--exec-root")
            .arg(path("run"))
            .arg("--pidfile")
            .arg(path("engine.pid"))
            .arg(format!("--host=unix://{}", path("engine.sock").display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("no `dockerd`; `cargo xtask test` fetches it (Debian: `apt-get install docker.io`)");
        let docker = Self { folder, engine };
        let since = Instant::now();
        while UnixStream::connect(docker.path("engine.sock")).is_err() {
            let log = || std::fs::read_to_string(docker.path("engine.log")).unwrap();
            assert!(since.elapsed() < START, "the engine does not listen (as root?): {}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
        std::fs::create_dir_all(docker.path("image/run")).unwrap();
        std::fs::write(docker.path("image/run/large"), vec![b'x'; 300_000]).unwrap();
        std::fs::copy(compiled("probe", &musl()), docker.path("image/agent")).unwrap();
        docker.import(IMAGE, &["--change", "ENTRYPOINT [\"/agent\"]"]);
        docker
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn docker(&self, arguments: &[&str]) -> String {
        let socket = format!("unix://{}", self.path("engine.sock").display());
        let output = command("docker").args(["--host", &socket]).args(arguments).output().unwrap();
        assert!(output.status.success(), "docker {arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    fn import(&self, name: &str, changes: &[&str]) {
        let archive = self.path("image.tar").display().to_string();
        let packed =
            Command::new("tar").arg("-C").arg(self.path("image")).args(["-cf", &archive, "."]).status();
        assert!(packed.unwrap().success());
        self.docker(&[&["import"], changes, &[archive.as_str(), name]].concat());
    }

    fn server(&self, settings: &[&str]) -> Server {
        let socket = format!("container.socket={}", self.path("engine.sock").display());
        Server::with(&[&[socket.as_str()], settings].concat())
    }

    async fn is_empty(&self) {
        eventually("an engine without containers", async || {
            self.docker(&["ps", "--all", "--quiet"]).is_empty()
        })
        .await;
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let _ = rustix::process::kill_process(
            rustix::process::Pid::from_child(&self.engine),
            rustix::process::Signal::TERM,
        );
        let since = Instant::now();
        while self.engine.try_wait().is_ok_and(|ended| ended.is_none()) && since.elapsed() < START {
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.engine.kill();
        let _ = Command::new("umount").arg(self.path("root")).stderr(Stdio::null()).status();
    }
}

/// A program of Docker's: the machine's, or that which was fetched for the tests.
fn command(program: &str) -> Command {
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools/docker/usr");
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!(
        "{path}:{}:{}:/usr/sbin:/sbin",
        fetched.join("sbin").display(),
        fetched.join("bin").display()
    );
    let found = path.split(':').map(|folder| Path::new(folder).join(program)).find(|file| file.exists());
    let mut command = Command::new(found.unwrap_or_else(|| program.into()));
    command.env("PATH", path);
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_executes_the_same_agents_within_the_same_bounds_and_keeps_nothing_of_them() {
    let docker = Docker::start();
    docker.import("localhost/mute:1", &[]);
    let (db, (web, _)) = (repeater(), pages());
    let policies = tempfile::tempdir().unwrap();
    let permit = "permit (principal, action in Action::\"network\", resource in Domain::\"internal\");\n\
        permit (principal, action in Action::\"filesystem\", resource);\n";
    std::fs::write(policies.path().join("own.cedar"), permit).unwrap();
    let server = docker.server(&[
        &format!("policy.dir={}", policies.path().display()),
        "network.hosts=[{ name = \"web.internal\", addresses = [\"127.0.0.1\"] }, { name = \"db.internal\", addresses = \
         [\"127.0.0.1\"] }]",
    ]);
    load(&server, "a.echo", "echo", "").await;
    let input: Vec<u8> = (0..3_000_000_u32).map(|number| (number * 7).to_le_bytes()[0]).collect();
    let request = execute("a.echo", input.clone());
    let answer = server.client().await.execute_agent(request).await.unwrap().into_inner();
    assert!(answer.output == input && answer.exit_code == 0);
    load(&server, "a.exit", "exit", "").await;
    assert_eq!(run(&server, "a.exit", "7").await.unwrap().exit_code, 7);
    // Its control group is gone before its end is told, so that nobody knows better.
    let why = reason(&server, "a.exit", "137").await.1;
    assert!(["TRAP", "MEMORY_LIMIT"].contains(&why.as_str()), "{why}");
    load(&server, "a.unread", "unread", "").await;
    for length in [0, 70_000, 3_000_000] {
        let answer = run(&server, "a.unread", &"x".repeat(length)).await.unwrap();
        assert_eq!(answer.output.len(), 1_000_000, "{length} bytes of input");
    }
    let mute = manifest("a.mute", "echo", "").replace(IMAGE, "localhost/mute:1");
    let refused = server.load_module(&mute, &[]).await.unwrap_err();
    assert!(refused.message().contains("`ENTRYPOINT` or `CMD`"), "{}", refused.message());

    let capabilities = format!(
        "wasm: {{ capabilities: [\"network:http:web.internal:{web}\", \"network:tcp:db.internal:{db}\"] }}\n"
    );
    load(&server, "a.look", "look", &capabilities).await;
    let attempts = [
        format!("ask GET http://web.internal:{web}/x HTTP/1.1"),
        format!("ask GET http://other.internal:{web}/x HTTP/1.1"),
        format!("tunnel db.internal:{db} hello"),
        format!("connect 127.0.0.1:{web}"),
        "connect 192.0.2.1:80".into(),
        "listeners".into(),
        "read /etc/hosts".into(),
        "list /run".into(),
        "write /tmp/x".into(),
        "write /dev/shm/x".into(),
        "write /dev/mqueue/x".into(),
    ];
    let answer = run(&server, "a.look", &attempts.join("\n")).await.unwrap();
    let facts = text(&answer.output);
    for (attempt, came) in attempts.iter().zip([
        "200 ",
        "403 ",
        "200 repeat: hello",
        "ConnectionRefused",
        "NetworkUnreachable",
        "0100007F:0C38",
        "127.0.0.1 localhost",
        "0 entries",
        "ReadOnlyFilesystem",
        "NotFound",
        "ReadOnlyFilesystem",
    ]) {
        let fact = format!("{attempt}: {came}");
        assert!(facts.lines().any(|line| line.starts_with(&fact)), "`{fact}` is not in {facts}");
    }
    let none = "0000000000000000";
    for fact in [
        &format!("CapEff: {none}"),
        "NoNewPrivs: 1",
        "Seccomp: 2",
        "Gid: 65534 65534 65534 65534",
        "env HOME=/",
    ] {
        assert!(facts.lines().any(|line| line == fact), "`{fact}` is not in {facts}");
    }
    assert_eq!(facts.lines().filter(|line| line.starts_with("device ")).collect::<Vec<_>>(), ["device lo"]);

    load(&server, "a.memory", "memory", "resources: { memory: 32Mi }\n").await;
    assert_eq!(reason(&server, "a.memory", "").await.1, "MEMORY_LIMIT");
    load(&server, "a.flood", "flood", "wasm: { max_output: 1MB }\n").await;
    assert_eq!(reason(&server, "a.flood", "").await.1, "OUTPUT_TOO_LARGE");
    load(&server, "a.sleep", "sleep", "wasm: { timeout_ms: 700 }\n").await;
    assert_eq!(reason(&server, "a.sleep", "").await.1, "TIMEOUT");
    load(&server, "a.count", "count", "").await;
    let request = v1::ExecuteAgentRequest { detach: true, ..execute("a.count", "") };
    let id = server.client().await.execute_agent(request).await.unwrap().into_inner().execution_id;
    eventually("the container", async || !docker.docker(&["ps", "--quiet"]).is_empty()).await;
    let request = v1::CancelExecutionRequest { execution_id: id.clone() };
    server.client().await.cancel_execution(request).await.unwrap();
    assert_eq!(failed(&server, &id).await, "CANCELLED");
    docker.is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_runs_each_as_somebody_else_and_removes_those_that_compute_while_they_wait() {
    let docker = Docker::start();
    let data = tempfile::tempdir().unwrap();
    let permit = "permit (principal, action in Action::\"filesystem\", resource);\n";
    std::fs::write(data.path().join("own.cedar"), permit).unwrap();
    let folder = data.path().join("in");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("known"), "the operator's").unwrap();
    for (path, mode) in [(data.path(), 0o755), (folder.as_path(), 0o755)] {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    }
    let server = docker.server(&[
        &format!("policy.dir={}", data.path().display()),
        &format!("sandbox.mounts=[{{ guest = \"/in\", host = \"{}\" }}]", folder.display()),
    ]);
    users::are_apart(&server).await;

    let look = async |id: &str, capability: &str, attempts: &[&str]| {
        let capabilities = format!("wasm: {{ capabilities: [\"filesystem:{capability}\"] }}\n");
        load(&server, id, "look", &capabilities).await;
        text(&run(&server, id, &attempts.join("\n")).await.unwrap().output)
    };
    let attempts = ["write /tmp/x", "write /dev/shm/x", "write /dev/mqueue/x"];
    let facts = look("a.scratch", "readwrite:/tmp", &attempts).await;
    for fact in ["write /tmp/x: done", "write /dev/shm/x: done", "write /dev/mqueue/x: ReadOnlyFilesystem"] {
        assert!(facts.lines().any(|line| line == fact), "`{fact}` is not in {facts}");
    }
    assert!(!facts.contains("Uid: 65534"), "{facts}");
    let facts = look("a.mount", "read:/in", &["read /in/known"]).await;
    for fact in ["read /in/known: the operator's", "Uid: 65534 65534 65534 65534"] {
        assert!(facts.lines().any(|line| line == fact), "`{fact}` is not in {facts}");
    }

    let kept = docker.docker(&["ps", "--quiet"]).lines().count();
    assert_eq!(run(&server, "a.two", "\"spin\"").await.unwrap().exit_code, 0);
    eventually("the removal of the one that computes", async || {
        docker.docker(&["ps", "--all", "--quiet"]).lines().count() < kept
    })
    .await;
    assert_eq!(server.metric("container_busy_total"), 1.0);
    assert_eq!(run(&server, "a.two", "\"count\"").await.unwrap().output, "1\n");
    assert_eq!(server.stop(), Some(0));
    docker.is_empty().await;
}
