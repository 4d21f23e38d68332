//! What goes wrong with containers, and what must not be left of it: each ends with its row of the error table, and with no
//! container.

use std::time::{Duration, Instant};

use mentat_proto::v1;
use tonic::Code;
use tonic_types::StatusExt;

use super::engine::{Engine, IMAGE};
use super::{load, manifest, reason, run};
use crate::guests::ECHO;
use crate::server::{Server, eventually, execute};

/// Begins an execution that goes on by itself; answers its id when its container is there.
pub async fn begin(engine: &Engine, server: &Server, id: &str) -> String {
    let before = engine.containers().len();
    let request = v1::ExecuteAgentRequest { detach: true, ..execute(id, "") };
    let begun = server.client().await.execute_agent(request).await.unwrap().into_inner();
    eventually("the container", async || {
        let running = engine.podman(&["ps", "--quiet", "--filter", "status=running"]);
        running.lines().count() > before
    })
    .await;
    begun.execution_id
}

async fn record(server: &Server, execution_id: &str) -> v1::Execution {
    let request = v1::GetExecutionRequest { execution_id: execution_id.to_owned() };
    server.client().await.get_execution(request).await.unwrap().into_inner()
}

/// The reason that an execution has failed for, when it has.
pub async fn failed(server: &Server, execution_id: &str) -> String {
    eventually("the end", async || record(server, execution_id).await.state() == v1::ExecutionState::Failed)
        .await;
    record(server, execution_id).await.error_reason
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_takes_too_long_too_much_or_says_too_much_is_ended_with_its_row() {
    let engine = Engine::start();
    let server = engine.server(&[]);
    // Neither reads the signal that asks it to end.
    load(&server, "a.sleep", "sleep", "wasm: { timeout_ms: 700 }\n").await;
    let since = Instant::now();
    let (code, why, message) = reason(&server, "a.sleep", "").await;
    assert_eq!((code, why.as_str()), (Code::DeadlineExceeded, "TIMEOUT"), "{message}");
    assert!(since.elapsed() < Duration::from_secs(8), "{:?}", since.elapsed());
    load(&server, "a.flood", "flood", "wasm: { max_output: 1MB }\n").await;
    assert_eq!(reason(&server, "a.flood", "").await.1, "OUTPUT_TOO_LARGE");
    load(&server, "a.memory", "memory", "resources: { memory: 32Mi }\n").await;
    let (code, why, message) = reason(&server, "a.memory", "").await;
    assert_eq!((code, why.as_str()), (Code::ResourceExhausted, "MEMORY_LIMIT"), "{message}");
    assert!(message.contains("its limit of 32MB"), "{message}");
    // As one that was killed would, and was not: it had memory to spare.
    load(&server, "a.exit", "exit", "").await;
    let (code, why, message) = reason(&server, "a.exit", "137").await;
    assert_eq!((code, why.as_str()), (Code::Aborted, "TRAP"), "{message}");
    assert!(message.contains("it had memory to spare"), "{message}");
    load(&server, "a.panic", "nothing", "").await;
    assert_eq!(run(&server, "a.panic", "").await.unwrap().exit_code, 101);
    engine.is_empty();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_execution_and_one_whose_client_goes_away_take_their_containers_along() {
    let engine = Engine::start();
    let server = engine.server(&[]);
    load(&server, "a.sleep", "sleep", "").await;
    let id = begin(&engine, &server, "a.sleep").await;
    let request = v1::CancelExecutionRequest { execution_id: id.clone() };
    server.client().await.cancel_execution(request).await.unwrap();
    assert_eq!(failed(&server, &id).await, "CANCELLED");
    engine.is_empty();
    let client = run(&server, "a.sleep", "");
    assert!(tokio::time::timeout(Duration::from_secs(2), client).await.is_err());
    engine.is_empty();
    // So does the end of the server itself.
    let server = {
        drop(server);
        engine.server(&["server.shutdown_grace_ms=100"])
    };
    load(&server, "a.sleep", "sleep", "").await;
    begin(&engine, &server, "a.sleep").await;
    assert_eq!(server.stop(), Some(0));
    assert_eq!(engine.containers(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_stops_ends_its_executions_and_what_it_leaves_is_removed_when_it_is_back() {
    let mut engine = Engine::start();
    let server = engine.server(&[]);
    load(&server, "a.count", "count", "").await;
    server.load("a.module", ECHO).await;
    let id = begin(&engine, &server, "a.count").await;
    engine.stop();
    assert_eq!(failed(&server, &id).await, "UNAVAILABLE");
    let (code, why, message) = reason(&server, "a.count", "").await;
    assert_eq!((code, why.as_str()), (Code::Unavailable, "UNAVAILABLE"));
    assert!(message.contains("the container engine does not answer"), "{message}");
    let answer = ureq::post(format!("{}/v1/agents/a.count/execute", server.http)).send("").unwrap_err();
    assert!(matches!(answer, ureq::Error::StatusCode(503)), "{answer}");
    // Modules are executed as ever.
    assert_eq!(run(&server, "a.module", "still here").await.unwrap().output, "still here");
    assert_eq!(server.metric("container_engine_up"), 0.0);
    let ready =
        ureq::get(format!("{}/readyz", server.http)).call().unwrap().body_mut().read_to_string().unwrap();
    assert_eq!(ready, "ok\nwasm ready\ncontainers away\n");
    assert_eq!(engine.containers().len(), 1, "it goes on by itself");
    engine.serve();
    engine.is_empty();
    load(&server, "a.echo", "echo", "").await;
    assert_eq!(run(&server, "a.echo", "back").await.unwrap().output, "back");
    let ready =
        ureq::get(format!("{}/readyz", server.http)).call().unwrap().body_mut().read_to_string().unwrap();
    assert_eq!(ready, "ok\nwasm ready\ncontainers ready\n");
    engine.is_empty();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_starts_without_its_engine_and_finds_it_later() {
    let mut engine = Engine::start();
    engine.stop();
    let server = engine.server(&[]);
    let refused = server.load_module(&manifest("a.echo", "echo", ""), &[]).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.get_error_details().retry_info().is_some());
    server.load("a.module", ECHO).await;
    assert_eq!(run(&server, "a.module", "x").await.unwrap().output, "x");
    engine.serve();
    load(&server, "a.echo", "echo", "").await;
    assert_eq!(run(&server, "a.echo", "found").await.unwrap().output, "found");
    engine.is_empty();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_hangs_holds_up_nobody_for_longer_than_it_may_take() {
    let engine = Engine::start();
    let server = engine.server(&["container.engine_ms=3000"]);
    load(&server, "a.sleep", "sleep", "wasm: { timeout_ms: 10000 }\n").await;
    let id = begin(&engine, &server, "a.sleep").await;
    engine.signal(rustix::process::Signal::STOP);
    let since = Instant::now();
    assert_eq!(failed(&server, &id).await, "TIMEOUT");
    let (_, why, message) = reason(&server, "a.sleep", "").await;
    assert_eq!(why, "UNAVAILABLE", "{message}");
    assert!(since.elapsed() < Duration::from_secs(40), "{:?}", since.elapsed());
    engine.signal(rustix::process::Signal::CONT);
    engine.is_empty();
}

#[tokio::test(flavor = "multi_thread")]
async fn images_that_are_gone_or_have_no_program_and_containers_that_are_removed_have_their_rows() {
    let engine = Engine::start();
    engine.import("localhost/empty:1", &["ENTRYPOINT [\"/not/there\"]"]);
    let server = engine.server(&[]);
    server
        .load_module(&manifest("a.empty", "echo", "").replace(IMAGE, "localhost/empty:1"), &[])
        .await
        .unwrap();
    let (code, why, message) = reason(&server, "a.empty", "").await;
    assert_eq!((code, why.as_str()), (Code::Aborted, "TRAP"));
    assert!(message.contains("could not be started: \"/not/there\""), "{message}");
    engine.is_empty();
    engine.podman(&["rmi", "localhost/empty:1"]);
    let (code, why, message) = reason(&server, "a.empty", "").await;
    assert_eq!((code, why.as_str()), (Code::Unavailable, "UNAVAILABLE"));
    assert!(message.contains("is no longer in the container engine"), "{message}");
    load(&server, "a.sleep", "sleep", "").await;
    let id = begin(&engine, &server, "a.sleep").await;
    engine.podman(&["rm", "--all", "--force", "--time", "0"]);
    let why = failed(&server, &id).await;
    assert!(["TRAP", "MEMORY_LIMIT"].contains(&why.as_str()), "{why}");
    engine.is_empty();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_sweeps_its_containers_when_it_is_back_and_leaves_those_of_others() {
    let engine = Engine::start();
    let (server, other) = (engine.server(&[]), engine.server(&[]));
    for server in [&server, &other] {
        load(server, "a.sleep", "sleep", "").await;
    }
    begin(&engine, &server, "a.sleep").await;
    let theirs = begin(&engine, &other, "a.sleep").await;
    assert_eq!(engine.containers().len(), 2);
    let stranger = engine.podman(&["create", "--network=none", IMAGE]);
    let server = server.restart();
    eventually("the sweep", async || engine.containers().len() == 2).await;
    assert_eq!(record(&other, &theirs).await.state(), v1::ExecutionState::Running);
    // What waits for its sweep does not keep the server from executing.
    load(&server, "a.echo", "echo", "").await;
    assert_eq!(run(&server, "a.echo", "x").await.unwrap().output, "x");
    assert!(server.metric("container_swept_total") > 0.0);
    assert_eq!(other.stop(), Some(0));
    assert_eq!(engine.containers(), [stranger.trim()]);
    engine.podman(&["rm", stranger.trim()]);
    engine.is_empty();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_finds_no_place_waits_and_is_refused_when_that_takes_too_long() {
    let engine = Engine::start();
    let server = engine.server(&["container.max_executions=1", "pool.queue_timeout_ms=300"]);
    load(&server, "a.sleep", "sleep", "").await;
    load(&server, "a.echo", "echo", "").await;
    let id = begin(&engine, &server, "a.sleep").await;
    let (code, why, message) = reason(&server, "a.echo", "").await;
    assert_eq!((code, why.as_str()), (Code::Unavailable, "OVERLOADED"));
    assert!(message.contains("places for containers"), "{message}");
    let request = v1::CancelExecutionRequest { execution_id: id };
    server.client().await.cancel_execution(request).await.unwrap();
    engine.is_empty();
    assert_eq!(run(&server, "a.echo", "now").await.unwrap().output, "now");
    engine.is_empty();
}
