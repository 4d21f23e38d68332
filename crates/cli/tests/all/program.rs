//! `mentat` as a person runs it: arguments in, stdout, stderr and exit code out.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::guests::{EXIT_3, assemble, manifest};

/// The program with a compile cache of the test run's own.
pub fn mentat() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mentat"));
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache");
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"MENTAT_") {
            command.env_remove(name);
        }
    }
    command.env("MENTAT_CACHE_DIR", cache).stdin(Stdio::null());
    command
}

/// Runs to the end.
pub fn run(arguments: &[&str]) -> Output {
    mentat().args(arguments).output().unwrap()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A folder with a manifest and a module.
pub fn agent_folder(manifest: &str, module: &[u8]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("manifest.yaml"), manifest).unwrap();
    std::fs::write(folder.path().join("agent.wasm"), module).unwrap();
    folder
}

#[test]
fn stdout_is_the_output_stderr_the_log_and_the_exit_code_the_agents() {
    let folder = agent_folder(&manifest("a.exit", "1.0.0"), &assemble(EXIT_3));
    let output = run(&["run", folder.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(output.stdout, b"");
    assert_eq!(text(&output.stderr), "[warn] three it is\n");
}

#[test]
fn json_holds_the_whole_of_an_execution() {
    let folder = agent_folder(&manifest("a.exit", "1.0.0"), &assemble(EXIT_3));
    let output = run(&["run", folder.path().to_str().unwrap(), "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["exit_code"], 3);
    assert_eq!(json["agent"], "a.exit");
    assert_eq!(json["logs"][0]["message"], "three it is");
    assert_eq!(json["usage"]["peak_memory_bytes"], 65536);
}

#[test]
fn a_command_gets_its_input_its_arguments_and_the_directories_it_was_given() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("note.txt"), "from a file").unwrap();
    let module = tempfile::NamedTempFile::with_suffix(".wasm").unwrap();
    let guest = r#"(module
      (import "wasi_snapshot_preview1" "path_open"
        (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
      (memory (export "memory") 1)
      (data (i32.const 100) "note.txt")
      (func (export "_start")
        (local $errno i32)
        (local.set $errno (call $open (i32.const 3) (i32.const 0) (i32.const 100) (i32.const 8) (i32.const 0)
          (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 200)))
        (if (local.get $errno) (then (call $exit (local.get $errno))))
        (i32.store (i32.const 0) (i32.const 1000))
        (i32.store (i32.const 4) (i32.const 1000))
        (drop (call $read (i32.load (i32.const 200)) (i32.const 0) (i32.const 1) (i32.const 8)))
        (i32.store (i32.const 4) (i32.load (i32.const 8)))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;
    std::fs::write(module.path(), assemble(guest)).unwrap();
    let path = module.path().to_str().unwrap();
    let mount = format!("{}:/data", directory.path().display());
    let given = run(&["run", path, "--mount", &mount]);
    assert_eq!(
        (text(&given.stdout).as_str(), given.status.code()),
        ("from a file", Some(0)),
        "{}",
        text(&given.stderr)
    );
    // Without the mount: `badf`, the WASI error for a descriptor that is not there.
    assert_eq!(run(&["run", path]).status.code(), Some(8));
}

#[test]
fn input_comes_from_text_a_file_or_stdin() {
    let folder = agent_folder(&manifest("a.echo", "1.0.0"), &assemble(crate::guests::ECHO));
    let path = folder.path().to_str().unwrap();
    assert_eq!(run(&["run", path, "--input", "hello"]).stdout, b"hello");
    let file = folder.path().join("input.bin");
    std::fs::write(&file, b"\x00\xff").unwrap();
    assert_eq!(run(&["run", path, "--input", &format!("@{}", file.display())]).stdout, b"\x00\xff");
    let mut child = mentat()
        .args(["run", path, "--input", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"piped").unwrap();
    assert_eq!(child.wait_with_output().unwrap().stdout, b"piped");
}

#[test]
fn validate_points_at_line_and_key() {
    let manifest = "id: a.b\nversion: 1.0.0\nruntime: wasm\nwasm:\n  memry: { maximum: 1 }\n";
    let folder = agent_folder(manifest, b"");
    let output = run(&["validate", folder.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(said.contains(":5:") && said.contains("did you mean `memory`"), "{said}");
}

#[test]
fn inspect_tells_the_shape_and_what_load_would_refuse() {
    let folder = agent_folder(&manifest("a.b", "1.0.0"), &assemble(crate::guests::UNKNOWN_IMPORT));
    let output = run(&["inspect", folder.path().to_str().unwrap(), "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["shape"], "core_module", "{json}");
    let said = json.to_string();
    assert!(said.contains("acme.conjure") && said.contains("mentat.levitate"), "{said}");
}

#[test]
fn what_cannot_be_run_is_said_clearly() {
    for (arguments, exit, says) in [
        (vec!["run", "/no/such/agent"], 2, "/no/such/agent"),
        (vec!["run"], 2, "Usage"),
        (vec!["execute", "a.b", "--server", "http://127.0.0.1:1"], 9, "mentat serve"),
        (vec!["run", "/dev/null"], 2, "no ordinary file"),
    ] {
        let output = run(&arguments);
        assert_eq!(output.status.code(), Some(exit), "{arguments:?}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains(says), "{arguments:?}: {}", text(&output.stderr));
        assert_eq!(output.stdout, b"", "{arguments:?}");
    }
}

#[test]
fn the_printed_configuration_is_the_one_that_is_read() {
    let output = run(&["serve", "--print-config", "--set", "pool.queue_length=7"]);
    let printed = text(&output.stdout);
    assert!(printed.contains("queue_length = 7"), "{printed}");
    let file = tempfile::NamedTempFile::with_suffix(".toml").unwrap();
    std::fs::write(file.path(), &printed).unwrap();
    let again = run(&["serve", "--print-config", "--config", file.path().to_str().unwrap()]);
    assert_eq!(text(&again.stdout), printed);
}

#[test]
fn an_interrupt_cancels_the_execution() {
    let folder = agent_folder(&manifest("a.loop", "1.0.0"), &assemble(crate::guests::LOOP));
    let mut child = mentat()
        .arg("run")
        .arg(folder.path())
        .args(["--fuel", "1000000000000", "--timeout", "10m"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Compiling is quick, and an interrupt ends that as well.
    std::thread::sleep(std::time::Duration::from_millis(700));
    assert!(child.try_wait().unwrap().is_none(), "the loop ended by itself");
    let id = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
}
