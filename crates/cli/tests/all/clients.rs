//! Real clients: a Rust one, a generated Python one, plain HTTP; health and reflection; live logs; cancelling.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use mentat_proto::v1::execute_agent_event::Event;
use mentat_proto::v1::{
    self, CancelExecutionRequest, ExecuteAgentRequest, ExecutionState, GetExecutionRequest,
};
use serde_json::{Value, json};
use tokio_stream::StreamExt;
use tonic::Code;
use tonic_types::StatusExt;

use crate::guests::{ECHO, EXIT_3, LOOP, SLEEP, manifest_with, numbers};
use crate::program::text;
use crate::server::{Server, eventually, execute};

const SLEEPER: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

fn long_running() -> String {
    manifest_with("a.long", "1.0.0", "  timeout_ms: 120000\n  fuel: 1000000000000\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_calls_are_answered_beside_a_loop_and_a_hoarder() {
    let server = Server::start();
    server.load("a.echo", ECHO).await;
    server.load_as(&long_running(), LOOP).await.unwrap();
    let client = server.client().await;
    let mut looping = client.clone();
    let looping = tokio::spawn(async move { looping.execute_agent(execute("a.long", "")).await });
    eventually("the loop", async || server.metric("wasm_instances_total{status=\"active\"}") > 0.0).await;
    let calls: Vec<_> = (0..200)
        .map(|number: u32| {
            let mut client = client.clone();
            tokio::spawn(async move {
                let answer = client.execute_agent(execute("a.echo", number.to_string())).await.unwrap();
                assert_eq!(answer.into_inner().output, number.to_string());
            })
        })
        .collect();
    for call in calls {
        call.await.unwrap();
    }
    assert!(!looping.is_finished());
    // A client that goes away takes its execution with it.
    looping.abort();
    eventually("the end of the loop", async || {
        server.metric("wasm_instances_total{status=\"active\"}") == 0.0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn log_lines_come_while_the_agent_runs_and_the_end_comes_last() {
    let server = Server::start();
    server.load("a.exit", EXIT_3).await;
    let mut events =
        server.client().await.execute_agent_stream(execute("a.exit", "")).await.unwrap().into_inner();
    let Some(Event::Log(line)) = events.next().await.unwrap().unwrap().event else { panic!("no log line") };
    assert_eq!(line.message, "three it is");
    let Some(Event::Response(end)) = events.next().await.unwrap().unwrap().event else { panic!("no end") };
    assert_eq!(end.exit_code, 3);
    assert!(events.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_execution_ends_at_once_also_inside_a_host_call() {
    let server = Server::start();
    server.load_as(&long_running(), SLEEP).await.unwrap();
    let mut client = server.client().await;
    let mut sleeper = client.clone();
    let request = ExecuteAgentRequest { execution_id: SLEEPER.into(), ..execute("a.long", "") };
    let sleeping = tokio::spawn(async move { sleeper.execute_agent(request).await });
    eventually("the sleep", async || server.metric("wasm_instances_total{status=\"active\"}") > 0.0).await;
    let asked = GetExecutionRequest { execution_id: SLEEPER.into() };
    assert_eq!(
        client.get_execution(asked.clone()).await.unwrap().into_inner().state(),
        ExecutionState::Running
    );
    let since = Instant::now();
    client.cancel_execution(CancelExecutionRequest { execution_id: SLEEPER.into() }).await.unwrap();
    assert_eq!(sleeping.await.unwrap().unwrap_err().code(), Code::Cancelled);
    assert!(since.elapsed() < Duration::from_secs(5), "took {:?}", since.elapsed());
    let record = client.get_execution(asked).await.unwrap().into_inner();
    assert_eq!((record.state(), record.error_reason.as_str()), (ExecutionState::Failed, "CANCELLED"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_execution_cost_is_recorded_though_its_client_went_away() {
    let server = Server::start();
    server.load_as(&long_running(), LOOP).await.unwrap();
    let mut client = server.client().await;
    let mut leaving = client.clone();
    let request = ExecuteAgentRequest { execution_id: SLEEPER.into(), ..execute("a.long", "") };
    let left = tokio::spawn(async move { leaving.execute_agent(request).await });
    eventually("the loop", async || server.metric("wasm_instances_total{status=\"active\"}") > 0.0).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    left.abort();
    let mut record = v1::Execution::default();
    eventually("the record", async || {
        let asked = GetExecutionRequest { execution_id: SLEEPER.into() };
        record = client.get_execution(asked).await.unwrap().into_inner();
        record.state() == ExecutionState::Failed
    })
    .await;
    let metrics = record.metrics.unwrap();
    assert_eq!(record.error_reason, "CANCELLED");
    assert!(metrics.execution_us > 0 && metrics.peak_memory_bytes == 65536, "{metrics:?}");
    assert!(metrics.fuel_consumed > Some(1_000_000), "{metrics:?}");
    assert!(server.metric("wasm_fuel_consumed_total") > 1e6);
    let count = "wasm_execution_duration_seconds_count{agent_id=\"a.long\",outcome=\"cancelled\"}";
    assert!((server.metric(count) - 1.0).abs() < f64::EPSILON);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_execution_gets_no_more_time_than_its_client_has() {
    let server = Server::start();
    server.load_as(&long_running(), LOOP).await.unwrap();
    let mut request = tonic::Request::new(execute("a.long", ""));
    request.set_timeout(Duration::from_millis(300));
    // The client itself waits no longer than that for the answer to begin, which for a stream is at once.
    let mut events = server.client().await.execute_agent_stream(request).await.unwrap().into_inner();
    let status = events.next().await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    let details = status.get_error_details();
    let info = details.error_info().unwrap();
    assert_eq!((info.reason.as_str(), info.metadata["limit_ms"].as_str()), ("TIMEOUT", "300"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_json_twin_does_what_grpc_does() {
    let server = Server::start();
    let base = format!("{}/v1", server.http);
    let post = |path: &str, body: Value| -> Value {
        let request = ureq::post(format!("{base}{path}")).content_type("application/json");
        request.send(body.to_string()).unwrap().body_mut().read_json().unwrap()
    };
    let get = |path: &str| -> Value {
        ureq::get(format!("{base}{path}")).call().unwrap().body_mut().read_json().unwrap()
    };
    let module = base64(&crate::guests::assemble(ECHO));
    let manifest = crate::guests::manifest("a.echo", "1.0.0");
    let loaded = post("/agents", json!({ "manifest": manifest, "module_base64": module }));
    assert_eq!(
        (loaded["agent_id"].as_str(), loaded["code_origin"].as_str()),
        (Some("a.echo"), Some("compiled"))
    );
    assert_eq!(get("/agents/a.echo/loaded"), json!({ "loaded": true }));
    assert_eq!(get("/agents/a.echo")["shape"], "core module on the mentat ABI");
    assert_eq!(get("/agents")["agents"][0]["active"], true);
    let answer =
        post("/agents/a.echo/execute", json!({ "input_json": { "a": [1.50] }, "include_logs": true }));
    assert_eq!((answer["output"].as_str(), answer["exit_code"].as_i64()), (Some("{\"a\":[1.5]}"), Some(0)));
    assert!(answer["metrics"]["fuel_consumed"].as_u64().unwrap() > 0);
    let binary = post("/agents/a.echo/execute", json!({ "input_base64": "/w==" }));
    assert_eq!((binary["output"].as_str(), binary["output_base64"].as_str()), (None, Some("/w==")));
    // UTF-8, but not text.
    let control = post("/agents/a.echo/execute", json!({ "input": "\u{1}" }));
    assert_eq!((control["output"].as_str(), control["output_base64"].as_str()), (None, Some("AQ==")));
    let execution = get(&format!("/executions/{}", answer["execution_id"].as_str().unwrap()));
    assert_eq!(execution["state"], "finished");
    let removed: Value =
        ureq::delete(format!("{base}/agents/a.echo")).call().unwrap().body_mut().read_json().unwrap();
    assert_eq!(removed, json!({ "versions": ["1.0.0"] }));
    let document: Value =
        ureq::get(format!("{}/openapi.json", server.http)).call().unwrap().body_mut().read_json().unwrap();
    assert!(document["paths"]["/v1/agents/{id}/execute"]["post"].is_object());
}

#[test]
fn a_generated_python_client_calls_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let python = root.join(".tools/python/bin/python");
    assert!(python.exists(), "{} is not there; run `cargo xtask test`", python.display());
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let proto = root.join("proto");
    let out = folder.path().display();
    let generated = Command::new(&python)
        .args(["-m", "grpc_tools.protoc", "-I"])
        .arg(&proto)
        .args([format!("--python_out={out}"), format!("--grpc_python_out={out}")])
        .arg(proto.join("mentat/runtime/v1/runtime.proto"))
        .output()
        .unwrap();
    assert!(generated.status.success(), "{}", text(&generated.stderr));
    for (name, guest) in [("echo", ECHO), ("numbers", numbers(3).as_str())] {
        let path = |end: &str| folder.path().join(format!("{name}.{end}"));
        std::fs::write(path("wasm"), crate::guests::assemble(guest)).unwrap();
        std::fs::write(path("yaml"), crate::guests::manifest(&format!("py.{name}"), "1.0.0")).unwrap();
    }
    let ran = Command::new(&python)
        .arg(root.join("crates/cli/tests/all/client.py"))
        .arg(server.grpc.strip_prefix("http://").unwrap())
        .arg(folder.path())
        .env("PYTHONPATH", folder.path())
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}\n{}", text(&ran.stdout), text(&ran.stderr));
    assert_eq!(text(&ran.stdout).trim(), "all is well");
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_execution_whose_reader_stops_reading_ends_on_time() {
    let server = Server::start();
    // Logs far more than the connection holds, so that an unread stream fills up.
    let chatty = r#"(module
      (import "mentat" "log" (func $log (param i32 i32 i32)))
      (memory (export "memory") 1)
      (func (export "process") (result i32)
        (memory.fill (i32.const 0) (i32.const 120) (i32.const 16000))
        (loop (call $log (i32.const 2) (i32.const 0) (i32.const 16000)) (br 0))
        (i32.const 0)))"#;
    let limits = "  timeout_ms: 1000\n  fuel: 1000000000000\n  metering: epoch\n";
    server.load_as(&manifest_with("a.chatty", "1.0.0", limits), chatty).await.unwrap();
    let mut client = server.client().await;
    let unread = client.execute_agent_stream(execute("a.chatty", "")).await.unwrap();
    eventually("the execution", async || server.metric("wasm_instances_total{status=\"active\"}") > 0.0)
        .await;
    eventually("its end", async || server.metric("wasm_instances_total{status=\"active\"}") == 0.0).await;
    drop(unread);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_is_loaded_by_a_form_and_not_from_another_sites_page() {
    let server = Server::start();
    let manifest = crate::guests::manifest("a.form", "1.0.0");
    let mut body = Vec::new();
    for (name, content) in [("manifest", manifest.as_bytes()), ("module", &crate::guests::assemble(ECHO)[..])]
    {
        body.extend(
            format!("--edge\r\ncontent-disposition: form-data; name=\"{name}\"; filename=\"x\"\r\n\r\n")
                .bytes(),
        );
        body.extend(content);
        body.extend(b"\r\n");
    }
    body.extend(b"--edge--\r\n");
    let post = |origin: Option<&str>| {
        let mut request = ureq::post(format!("{}/v1/agents", server.http))
            .config()
            .http_status_as_error(false)
            .build()
            .content_type("multipart/form-data; boundary=edge");
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        let mut response = request.send(&body[..]).unwrap();
        (response.status().as_u16(), response.body_mut().read_json::<Value>().unwrap())
    };
    let (code, refused) = post(Some("http://elsewhere.example"));
    assert_eq!((code, refused["error"]["reason"].as_str()), (403, Some("POLICY_DENIED")));
    let (code, loaded) = post(None);
    assert_eq!((code, loaded["agent_id"].as_str()), (200, Some("a.form")), "{loaded}");
    let answer = server.client().await.execute_agent(execute("a.form", "x")).await.unwrap().into_inner();
    assert_eq!(answer.output, "x");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_pool_everything_works_as_well() {
    let server = Server::with(&["engine.allocator=on_demand"]);
    server.load("a.echo", ECHO).await;
    let limits = "  memory: { maximum: 8 }\n";
    server.load_as(&manifest_with("a.hoard", "1.0.0", limits), crate::guests::HOARD).await.unwrap();
    let mut client = server.client().await;
    for number in 0..20 {
        let answer = client.execute_agent(execute("a.echo", number.to_string())).await.unwrap().into_inner();
        assert_eq!(answer.output, number.to_string());
        let status = client.execute_agent(execute("a.hoard", "")).await.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    }
}
