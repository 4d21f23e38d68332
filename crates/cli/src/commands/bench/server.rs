//! A server that is measured: this program, with its data in a temporary folder, on addresses of its own. It ends with this
//! value.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use mentat_manifest::escape_untrusted;

use crate::args::ServerArguments;
use crate::client::Client;
use crate::environment;
use crate::output::Failure;

/// How long it may take to be ready.
const START: Duration = Duration::from_secs(60);
/// How long it has to end, and to remove its containers.
const END: Duration = Duration::from_secs(20);
/// Characters of what it says that are passed on.
const MAX_SAID_CHARS: usize = 500;

pub(super) struct PrivateServer {
    child: Child,
    address: String,
    _data: tempfile::TempDir,
}

impl PrivateServer {
    /// Starts one that uses an engine, with room for so many executions at a time.
    ///
    /// # Errors
    /// Where it does not start; with what it said.
    pub(super) fn start(socket: &Path, settings: &[String], parallel: u32) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure::system("starting a server to be measured", &error);
        let data = tempfile::tempdir().map_err(failed)?;
        let program = environment::this_program().and_then(std::fs::canonicalize).map_err(failed)?;
        let mut command = Command::new(program);
        // Neither a configuration that lies here nor one in variables is to be measured.
        command.env_clear().current_dir(data.path());
        command
            .args(["serve", "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data-dir"])
            .arg(data.path());
        let places = [
            format!("container.socket={}", socket.display()),
            format!("container.max_executions={}", parallel.saturating_add(1)),
            format!("container.warm.max_containers={}", parallel.saturating_add(1)),
            format!("container.warm.per_agent={}", parallel.saturating_add(1)),
            "log.level=warn".to_owned(),
        ];
        for setting in places.iter().chain(settings) {
            command.arg("--set").arg(setting);
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let (sender, ready) = mpsc::channel();
        let stderr = child.stderr.take();
        std::thread::spawn(move || {
            let mut said = String::new();
            for line in
                stderr.into_iter().flat_map(|stderr| BufReader::new(stderr).lines().map_while(Result::ok))
            {
                if let Some(addresses) = line.strip_prefix("mentat is ready: grpc=") {
                    let _ = sender.send(Ok(addresses.split(' ').next().unwrap_or_default().to_owned()));
                }
                said = line;
            }
            let _ = sender.send(Err(said));
        });
        let told = ready.recv_timeout(START);
        let mut server = Self { child, address: String::new(), _data: data };
        match told {
            Ok(Ok(address)) => {
                server.address = format!("http://{address}");
                Ok(server)
            }
            Ok(Err(said)) => Err(Failure::invalid(format!(
                "the server that is to be measured does not start: {}",
                escape_untrusted(&said, MAX_SAID_CHARS)
            ))),
            Err(_) => Err(Failure::unavailable("the server that is to be measured is not ready in time")),
        }
    }

    /// Its process.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Another connection to it.
    ///
    /// # Errors
    /// When it does not answer.
    pub(super) async fn client(&self) -> Result<Client, Failure> {
        let arguments = ServerArguments {
            server: self.address.clone(),
            api_key_file: None,
            ca: None,
            client_cert: None,
            client_key: None,
        };
        Client::connect(&arguments).await
    }
}

impl Drop for PrivateServer {
    /// Asks it to end, so that it removes its containers.
    fn drop(&mut self) {
        let id = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
        let since = std::time::Instant::now();
        while since.elapsed() < END {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
