//! What makes agents start fast, through the whole program: code that is kept and checked, modules that are initialised
//! once, instances that are used again, and code that is better than what a module began on.

use std::path::PathBuf;

use mentat_proto::v1::LoadAgentRequest;

use crate::guests::{assemble, manifest, manifest_with};
use crate::program::{agent_folder, mentat, run, text};
use crate::server::{Server, eventually, execute};

/// Writes how often it was initialised and executed, as digits.
const COUNTS: &str = r#"(module
    (import "mentat" "write_output" (func $write (param i32 i32) (result i32)))
    (memory (export "memory") 1) (data (i32.const 0) "00")
    (func (export "init") (i32.store8 (i32.const 0) (i32.add (i32.load8_u (i32.const 0)) (i32.const 1))))
    (func (export "process") (result i32)
      (i32.store8 (i32.const 1) (i32.add (i32.load8_u (i32.const 1)) (i32.const 1)))
      (call $write (i32.const 0) (i32.const 2))))"#;

async fn answer(server: &Server, id: &str) -> String {
    let mut client = server.client().await;
    let answered = client.execute_agent(execute(id, "")).await.unwrap().into_inner();
    text(&answered.output)
}

fn artifacts(server: &Server) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(server.data().join("artifacts")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "cwasm")).collect()
}

#[test]
fn a_user_runs_a_module_that_is_initialised_once() {
    let cache = tempfile::tempdir().unwrap();
    let agent = |wasm: &str| agent_folder(&manifest_with("a.b", "1.0.0", wasm), &assemble(COUNTS));
    let answer = |folder: &tempfile::TempDir| {
        let mut command = mentat();
        command.args(["run", "--cache-dir"]).arg(cache.path()).arg(folder.path());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let (snapshot, plain) = (agent("  init: snapshot\n"), agent("  fuel: 100000\n"));
    assert_eq!([answer(&snapshot), answer(&snapshot), answer(&plain)], ["11", "11", "01"]);
}

#[test]
fn what_cannot_be_initialised_once_is_told_with_the_reason() {
    let asks = r#"(module
        (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
        (memory (export "memory") 1)
        (func (export "_initialize") (drop (call $random (i32.const 0) (i32.const 8))))
        (func (export "process") (result i32) (i32.const 0)))"#;
    let folder = agent_folder(&manifest_with("a.b", "1.0.0", "  init: snapshot\n"), &assemble(asks));
    let output = run(&["run", folder.path().to_str().unwrap()]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("initialisation called `wasi_snapshot_preview1.random_get`"), "{said}");
}

#[tokio::test]
async fn a_server_starts_executions_from_the_initialised_module_again_after_a_restart() {
    let server = Server::start();
    server.load_as(&manifest_with("a.b", "1.0.0", "  init: snapshot\n"), COUNTS).await.unwrap();
    assert_eq!([answer(&server, "a.b").await, answer(&server, "a.b").await], ["11", "11"]);
    let server = server.restart();
    assert_eq!(answer(&server, "a.b").await, "11");
}

#[tokio::test]
async fn a_server_uses_instances_again_where_the_manifest_says_so() {
    let server = Server::start();
    server.load_as(&manifest_with("a.b", "1.0.0", "  instances: reuse\n"), COUNTS).await.unwrap();
    server.load_as(&manifest("a.c", "1.0.0"), COUNTS).await.unwrap();
    // The first may run on baseline code, of which no instance goes on once there is better code.
    eventually("its code is there", async || artifacts(&server).len() == 1).await;
    eventually("the instance is used again", async || answer(&server, "a.b").await == "02").await;
    assert_eq!(answer(&server, "a.b").await, "03");
    assert_eq!([answer(&server, "a.c").await, answer(&server, "a.c").await], ["01", "01"]);
    assert!(server.metric("wasm_warm_instances") >= 1.0);
}

#[tokio::test]
async fn code_that_somebody_changed_is_on_record_and_is_made_anew() {
    let server = Server::with(&["audit.checkpoint_ms=20", "compile.tiers=optimized"]);
    let load = LoadAgentRequest {
        manifest: manifest("a.b", "1.0.0"),
        wasm_bytes: assemble(COUNTS).into(),
        ..LoadAgentRequest::default()
    };
    let loaded = server.client().await.load_agent(load).await.unwrap().into_inner();
    let artifact = artifacts(&server).pop().unwrap();
    let mut code = std::fs::read(&artifact).unwrap();
    let middle = code.len() / 2;
    code[middle] ^= 1;
    std::fs::write(&artifact, &code).unwrap();
    let server = server.restart();
    assert_eq!(answer(&server, "a.b").await, "01");
    let audit = server.data().join("audit");
    let query = || {
        let output = run(&["audit", "query", audit.to_str().unwrap(), "--event", "artifact"]);
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<_>>()
    };
    eventually("the record is written", async || query().len() == 1).await;
    let record: &serde_json::Value = &query()[0];
    assert_eq!(record["artifact"]["module"], loaded.module_hash);
    assert!(record["artifact"]["reason"].as_str().unwrap().contains("keyed digest"), "{record}");
    assert_ne!(std::fs::read(&artifact).unwrap(), code, "it was compiled again");
}
