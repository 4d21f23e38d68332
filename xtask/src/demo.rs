//! `cargo xtask demo`: the whole of the main job, seen from outside. Builds the program and the agents,
//! starts a server with a folder of its own, loads agents over gRPC, executes each on real input by the
//! same command line that a user has, prints the answers with their cost, and stops the server.
//!
//! Invariant: the server is stopped, and its folder removed, however the demo ends.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::Value;

use crate::agents;
use crate::process::{announced, run, workspace};

/// The agents of the demo, each of another language, with the case that gives its input.
const SHOWN: &[(&str, &str, &str)] = &[
    ("word-statistics", "prose", "Rust"),
    ("json-transformer", "pick-and-rename", "AssemblyScript"),
    ("metrics", "percentiles", "Go"),
    ("csv-to-json", "people", "C"),
];

/// How long the server may take to open its doors.
const READY_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the server may take to finish what it does, when asked to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// Characters of an answer that are shown.
const SHOWN_CHARS: usize = 300;

/// A running `mentat serve`; stopped when dropped.
struct Server {
    process: Child,
    address: String,
    folder: PathBuf,
}

/// One line of the table.
struct Row {
    agent: &'static str,
    language: &'static str,
    execution_us: u64,
    instantiation_us: u64,
    fuel: u64,
    peak_memory_bytes: u64,
}

/// Runs the demo.
///
/// # Errors
/// The first step that fails, with what its program wrote. The server is stopped first.
pub(crate) fn demo() -> anyhow::Result<()> {
    let program = build_program(&["build", "--package", "mentat"])?;
    let names: Vec<String> = SHOWN.iter().map(|(agent, ..)| (*agent).to_owned()).collect();
    agents::build(&names)?;
    let server = announced("starting `mentat serve`", || Server::start(&program))?;
    println!("mentat serve answers at {}\n", server.address);

    let mut rows = Vec::new();
    for (agent, case, language) in SHOWN {
        rows.push(show_agent(&program, &server, agent, case, language)?);
    }
    print_table(&rows);
    server.stop()
}

/// Loads one agent, executes it, checks its answer, and prints both commands as a user would type them.
fn show_agent(
    program: &Path,
    server: &Server,
    agent: &'static str,
    case: &str,
    language: &'static str,
) -> anyhow::Result<Row> {
    let folder = format!("agents/{agent}");
    let loaded = server.call(program, &["load", &folder, "--json"])?;
    let id = loaded.get("agent").and_then(Value::as_str).context("`mentat load --json` told no id")?;
    println!("$ mentat load {folder}");

    let input = format!("{folder}/cases/{case}/input");
    let executed = server.call(program, &["execute", id, "--input", &format!("@{input}"), "--json"])?;
    println!("$ mentat execute {id} --input @{input}");
    let output = executed.get("output").and_then(Value::as_str).context("the agent wrote no text")?;
    let expected = fs::read_to_string(workspace().join(format!("{folder}/cases/{case}/expect")))?;
    if output != expected {
        bail!("`{id}` answered\n{output}\nand should have answered\n{expected}");
    }
    println!("{}\n", shorten(output));

    let cost = |key: &str| executed.pointer(&format!("/usage/{key}")).and_then(Value::as_u64);
    let cost =
        |key: &str| cost(key).with_context(|| format!("`mentat execute --json` told no `usage.{key}`"));
    Ok(Row {
        agent,
        language,
        execution_us: cost("execution_us")?,
        instantiation_us: cost("instantiation_us")?,
        fuel: cost("fuel")?,
        peak_memory_bytes: cost("peak_memory_bytes")?,
    })
}

fn print_table(rows: &[Row]) {
    println!(
        "{:<18}{:<16}{:>12}{:>12}{:>14}{:>14}",
        "agent", "language", "start", "run", "fuel", "peak memory"
    );
    for row in rows {
        println!(
            "{:<18}{:<16}{:>9.2} ms{:>9.2} ms{:>14}{:>10} KiB",
            row.agent,
            row.language,
            milliseconds(row.instantiation_us),
            milliseconds(row.execution_us),
            row.fuel,
            row.peak_memory_bytes / 1024,
        );
    }
    println!("\nstart: a fresh sandbox, and what the language does first in it; run: the agent's own work.");
}

/// Builds `mentat` as the tests do, so that neither compiles for the other again, and tells where it is.
///
/// # Errors
/// It does not build.
pub(crate) fn build_program(cargo_arguments: &[&str]) -> anyhow::Result<PathBuf> {
    announced("building `mentat` (some minutes, the first time)", || {
        let mut cargo = Command::new("cargo");
        cargo.args(cargo_arguments).args(["--locked", "--message-format=json-render-diagnostics"]);
        let messages = run(cargo.current_dir(workspace()))?;
        let messages = String::from_utf8_lossy(&messages).into_owned();
        let mut programs = messages.lines().filter_map(|line| {
            let message: Value = serde_json::from_str(line).ok()?;
            let is = |what: &str, expected: Value| message.pointer(what) == Some(&expected);
            let is_program = is("/target/name", "mentat".into())
                && is("/target/kind/0", "bin".into())
                && is("/profile/test", false.into());
            is_program.then(|| message.get("executable")?.as_str().map(PathBuf::from))?
        });
        programs.next_back().context("cargo built no program")
    })
}

impl Server {
    fn start(program: &Path) -> anyhow::Result<Self> {
        let folder = workspace().join(format!("target/demo-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let process = Command::new(program)
            .args(["serve", "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data-dir"])
            .arg(&folder)
            .current_dir(&folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("`mentat serve` could not be started")?;
        let mut server = Self { process, address: String::new(), folder };
        server.address = server.wait_until_ready()?;
        Ok(server)
    }

    /// Reads the server's log to its end in a thread of its own, so that the server never waits for a
    /// reader; answers the address of the gRPC door.
    fn wait_until_ready(&mut self) -> anyhow::Result<String> {
        let log = self.process.stderr.take().context("the server has no stderr")?;
        let (lines, received) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(log).lines().map_while(Result::ok) {
                // Nobody listens any longer, once the server is ready.
                let _ = lines.send(line);
            }
        });
        let mut said = Vec::new();
        let deadline = Instant::now() + READY_TIMEOUT;
        loop {
            match received.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    if let Some(address) = ready_address(&line) {
                        return Ok(format!("http://{address}"));
                    }
                    said.push(line);
                }
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("the server ended; it said:\n{}", said.join("\n"))
                }
                Err(RecvTimeoutError::Timeout) => {
                    bail!("the server was not ready within {READY_TIMEOUT:?}; it said:\n{}", said.join("\n"))
                }
            }
        }
    }

    /// Calls the server by a verb of the command line, and reads its JSON.
    fn call(&self, program: &Path, arguments: &[&str]) -> anyhow::Result<Value> {
        let mut command = Command::new(program);
        command.args(arguments).args(["--server", &self.address]).current_dir(workspace());
        let answer = run(&mut command)?;
        serde_json::from_slice(&answer).context("the answer is not JSON")
    }

    fn stop(mut self) -> anyhow::Result<()> {
        // Std can only kill; a server that is asked finishes what it does.
        run(Command::new("kill").args(["-TERM", &self.process.id().to_string()]))?;
        let deadline = Instant::now() + STOP_TIMEOUT;
        while Instant::now() < deadline {
            if let Some(status) = self.process.try_wait()? {
                if status.success() {
                    println!("the server has stopped");
                    return Ok(());
                }
                bail!("the server ended with {status} when it was asked to stop");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("the server did not stop within {STOP_TIMEOUT:?} and was killed")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both may be done already; there is nothing left to do where they fail.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The gRPC address in `mentat is ready: grpc=ADDR http=ADDR`.
fn ready_address(line: &str) -> Option<&str> {
    let (_, doors) = line.split_once("mentat is ready: ")?;
    doors.split_whitespace().find_map(|door| door.strip_prefix("grpc="))
}

fn shorten(text: &str) -> String {
    let kept: String = text.trim_end().chars().take(SHOWN_CHARS).collect();
    let left = text.trim_end().chars().count() - kept.chars().count();
    if left == 0 { kept } else { format!("{kept} … ({left} characters more)") }
}

#[allow(clippy::cast_precision_loss, reason = "shown with two digits")]
fn milliseconds(microseconds: u64) -> f64 {
    microseconds as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_read_from_the_line_that_says_ready() {
        let line = "mentat is ready: grpc=127.0.0.1:4711 http=127.0.0.1:4712";
        assert_eq!(ready_address(line), Some("127.0.0.1:4711"));
        assert_eq!(ready_address("grpc=127.0.0.1:4711"), None);
    }

    #[test]
    fn every_shown_agent_has_its_case() {
        for (agent, case, _) in SHOWN {
            let case = workspace().join(format!("agents/{agent}/cases/{case}"));
            assert!(case.join("input").is_file() && case.join("expect").is_file(), "{}", case.display());
        }
    }

    #[test]
    fn a_long_answer_is_cut_between_characters() {
        assert_eq!(shorten("ä\n"), "ä");
        let long = shorten(&"ä".repeat(SHOWN_CHARS + 7));
        assert!(long.ends_with("ä … (7 characters more)"), "{long}");
    }
}
