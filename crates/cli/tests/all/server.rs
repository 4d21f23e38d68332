//! A started server: `Server::start()`, and the clients that speak to it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mentat_proto::v1::wasm_runtime_client::WasmRuntimeClient;
use mentat_proto::v1::{ExecuteAgentRequest, LoadAgentRequest, LoadAgentResponse};
use tonic::transport::Channel;

use crate::guests::{assemble, manifest};
use crate::program::mentat;

/// Longest wait for a server to be ready; the machine may be busy with other tests.
const START: Duration = Duration::from_secs(60);

/// A server with a data directory of its own; killed when dropped.
pub struct Server {
    child: Child,
    pub grpc: String,
    pub http: String,
    directory: Arc<tempfile::TempDir>,
    log: Arc<Mutex<String>>,
    settings: Vec<String>,
}

impl Server {
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// Starts one with `--set` for each setting.
    pub fn with(settings: &[&str]) -> Self {
        let directory = Arc::new(tempfile::tempdir().unwrap());
        Self::start_in(directory, settings.iter().map(|setting| (*setting).to_owned()).collect())
    }

    /// The same, whose files can be kept from growing.
    pub fn with_growing_files(settings: &[&str]) -> Self {
        // A file that may not grow is told by a signal, and by an error where that is not heard; as a full disk is.
        Self::started_by("trap '' XFSZ; exec \"$0\" \"$@\"", settings)
    }

    /// The same, which may not enter the networks of others (capabilities(7)).
    pub fn confined(settings: &[&str]) -> Self {
        Self::started_by(
            "exec setpriv --inh-caps=-sys_admin --bounding-set=-sys_admin \"$0\" \"$@\"",
            settings,
        )
    }

    fn started_by(script: &str, settings: &[&str]) -> Self {
        let program = mentat();
        let mut command = Command::new("sh");
        command.args(["-c", script]).arg(program.get_program()).stdin(Stdio::null());
        for (name, value) in program.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let directory = Arc::new(tempfile::tempdir().unwrap());
        Self::launch(command, directory, settings.iter().map(|setting| (*setting).to_owned()).collect())
    }

    /// Lets no file of it grow beyond this, or lets them grow again.
    pub fn limit_files(&self, bytes: Option<u64>) {
        let id = rustix::process::Pid::from_child(&self.child);
        let limit = rustix::process::Rlimit { current: bytes, maximum: None };
        rustix::process::prlimit(Some(id), rustix::process::Resource::Fsize, limit).unwrap();
    }

    fn start_in(directory: Arc<tempfile::TempDir>, settings: Vec<String>) -> Self {
        Self::launch(mentat(), directory, settings)
    }

    fn launch(mut command: Command, directory: Arc<tempfile::TempDir>, settings: Vec<String>) -> Self {
        command.args(["serve", "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data-dir"]);
        command.arg(directory.path()).args(["--set", "engine.max_executions=300"]);
        for setting in &settings {
            command.args(["--set", setting]);
        }
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (sender, ready) = std::sync::mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let collected = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if let Some(addresses) = line.strip_prefix("mentat is ready: ") {
                    let _ = sender.send(addresses.to_owned());
                }
                let mut log = collected.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        let Ok(addresses) = ready.recv_timeout(START) else {
            panic!("the server did not start: {}", log.lock().unwrap());
        };
        let address = |name: &str| {
            let found = addresses.split_whitespace().find_map(|part| part.strip_prefix(name));
            format!("http://{}", found.unwrap())
        };
        let (grpc, http) = (address("grpc="), address("http="));
        Self { child, grpc, http, directory, log, settings }
    }

    /// Kills it as `kill -9` does.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Kills it, and starts another one on the same data.
    pub fn restart(mut self) -> Self {
        self.kill();
        Self::start_in(Arc::clone(&self.directory), self.settings.clone())
    }

    /// The same, with other settings.
    pub fn restart_with(mut self, settings: &[String]) -> Self {
        self.kill();
        Self::start_in(Arc::clone(&self.directory), settings.to_vec())
    }

    /// Asks it to end, and waits; answers its exit code.
    pub fn stop(mut self) -> Option<i32> {
        self.signal(rustix::process::Signal::TERM);
        self.child.wait().unwrap().code()
    }

    /// The same; answers what it leaves on disk, too.
    pub fn stop_keeping_its_data(self) -> (Option<i32>, Arc<tempfile::TempDir>) {
        let data = Arc::clone(&self.directory);
        (self.stop(), data)
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, signal).unwrap();
    }

    /// Its data directory.
    pub fn data(&self) -> &Path {
        self.directory.path()
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Resident memory of the server process, in bytes.
    pub fn resident(&self) -> u64 {
        let status =
            std::fs::read_to_string(Path::new("/proc").join(self.id().to_string()).join("status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Processes that it has started and that run: compiles.
    pub fn children(&self) -> usize {
        let parent_of = |entry: std::fs::DirEntry| {
            let status = std::fs::read_to_string(entry.path().join("status")).ok()?;
            status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse::<u32>().ok())
        };
        let processes = std::fs::read_dir("/proc").unwrap().map(Result::unwrap);
        processes.filter_map(parent_of).filter(|parent| *parent == self.id()).count()
    }

    pub async fn client(&self) -> WasmRuntimeClient<Channel> {
        let limit = 512 << 20;
        WasmRuntimeClient::connect(self.grpc.clone())
            .await
            .unwrap()
            .max_decoding_message_size(limit)
            .max_encoding_message_size(limit)
    }

    /// Loads a guest in text form as version 1.0.0 of `id`.
    pub async fn load(&self, id: &str, guest: &str) -> LoadAgentResponse {
        self.load_as(&manifest(id, "1.0.0"), guest).await.unwrap()
    }

    pub async fn load_as(&self, manifest: &str, guest: &str) -> Result<LoadAgentResponse, tonic::Status> {
        self.load_module(manifest, &assemble(guest)).await
    }

    /// Loads a module in binary form.
    pub async fn load_module(
        &self,
        manifest: &str,
        module: &[u8],
    ) -> Result<LoadAgentResponse, tonic::Status> {
        let request = LoadAgentRequest {
            manifest: manifest.to_owned(),
            wasm_bytes: module.to_vec().into(),
            ..LoadAgentRequest::default()
        };
        self.client().await.load_agent(request).await.map(tonic::Response::into_inner)
    }

    /// The value of a metric without labels.
    pub fn metric(&self, name: &str) -> f64 {
        let text =
            ureq::get(format!("{}/metrics", self.http)).call().unwrap().body_mut().read_to_string().unwrap();
        let line =
            text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the server's log:\n{}", self.log());
        }
    }
}

/// A request to execute.
pub fn execute(id: &str, input: impl Into<bytes::Bytes>) -> ExecuteAgentRequest {
    ExecuteAgentRequest { agent_id: id.to_owned(), input: input.into(), ..ExecuteAgentRequest::default() }
}

/// Waits until something holds.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let since = Instant::now();
    while !holds().await {
        assert!(since.elapsed() < Duration::from_secs(20), "{what} did not come about");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
