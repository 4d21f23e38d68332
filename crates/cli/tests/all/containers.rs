//! Agents in containers, on a real engine: loaded, listed and executed by the very same calls as modules.

mod docker;
mod egress;
mod engine;
mod faults;
mod in_place;
mod losses;
mod moving;
mod rollout;
mod sandbox;
mod users;
mod warm;

use mentat_proto::v1::{self, execute_agent_event::Event};
use serde_json::{Value, json};
use tonic::Code;
use tonic_types::StatusExt;

use self::engine::{Engine, IMAGE};
use crate::guests::{EXIT_3, UNKNOWN_IMPORT};
use crate::program::{mentat, text};
use crate::server::{Server, execute};

/// The manifest of an agent whose program is the probe in a mode, with more lines.
pub fn manifest(id: &str, mode: &str, more: &str) -> String {
    format!("id: {id}\nversion: 1.0.0\nruntime: container\nimage: {IMAGE}\nenv: [\"MODE={mode}\"]\n{more}")
}

/// Loads the probe in a mode.
pub async fn load(server: &Server, id: &str, mode: &str, more: &str) {
    server.load_module(&manifest(id, mode, more), &[]).await.unwrap();
}

/// Executes an agent; answers its reply with its log.
pub async fn run(server: &Server, id: &str, input: &str) -> Result<v1::ExecuteAgentResponse, tonic::Status> {
    let request = v1::ExecuteAgentRequest { include_logs: true, ..execute(id, input.to_owned()) };
    server.client().await.execute_agent(request).await.map(tonic::Response::into_inner)
}

/// The row of the error table that an execution ended with.
pub async fn reason(server: &Server, id: &str, input: &str) -> (Code, String, String) {
    let status = run(server, id, input).await.unwrap_err();
    let reason = status.get_error_details().error_info().unwrap().reason.clone();
    (status.code(), reason, status.message().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_agent_is_loaded_listed_and_executed_by_the_same_calls() {
    let engine = Engine::start();
    let server = engine.server(&["audit.checkpoint_ms=20"]);
    let loaded = server.load_module(&manifest("a.echo", "echo", ""), &[]).await.unwrap();
    let id = engine.podman(&["image", "inspect", "--format", "{{.Id}}", IMAGE]);
    assert_eq!(loaded.module_hash, format!("sha256:{}", id.trim()));
    assert_eq!(loaded.code_origin(), v1::CodeOrigin::Image);

    // Any bytes, those among them by which a terminal would be left.
    let mut client = server.client().await;
    let input: Vec<u8> = (0..3_000_000_u32).map(|number| (number * 7).to_le_bytes()[0]).collect();
    let answer = client.execute_agent(execute("a.echo", input.clone())).await.unwrap().into_inner();
    assert_eq!((answer.exit_code, answer.output.len()), (0, input.len()));
    assert!(answer.output == input && answer.version == "1.0.0");
    let metrics = answer.metrics.unwrap();
    assert!(metrics.instantiation_us > 0 && metrics.execution_us > 0 && metrics.fuel_consumed.is_none());

    let asked = ureq::post(format!("{}/v1/agents/a.echo/execute", server.http))
        .send_json(json!({ "input": "by HTTP" }));
    let asked: Value = asked.unwrap().body_mut().read_json().unwrap();
    assert_eq!((&asked["output"], &asked["exit_code"]), (&json!("by HTTP"), &json!(0)));
    let body = json!({ "manifest": manifest("a.second", "exit", "") });
    let second: Value = ureq::post(format!("{}/v1/agents", server.http))
        .send_json(body)
        .unwrap()
        .body_mut()
        .read_json()
        .unwrap();
    assert_eq!((&second["code_origin"], &second["compile_us"]), (&json!("image"), &json!(0)));
    let listed: Value =
        ureq::get(format!("{}/v1/agents", server.http)).call().unwrap().body_mut().read_json().unwrap();
    assert_eq!(listed["agents"].as_array().unwrap().len(), 2);
    let told: Value = ureq::get(format!("{}/v1/agents/a.echo", server.http))
        .call()
        .unwrap()
        .body_mut()
        .read_json()
        .unwrap();
    assert_eq!((&told["shape"], told.get("module_bytes")), (&json!("container image"), None));

    assert_eq!(run(&server, "a.second", "7\n").await.unwrap().exit_code, 7);
    let id = answer.execution_id;
    crate::server::eventually("the record of the end", async || {
        let trail = ureq::get(format!("{}/v1/executions/{id}/audit", server.http)).call();
        let trail = trail.ok().and_then(|mut answer| answer.body_mut().read_json::<Value>().ok());
        trail.is_some_and(|trail| {
            let last = trail["records"].as_array().unwrap().last().cloned().unwrap_or_default();
            let runtime = &last["agent"]["runtime"];
            last["event_type"] == "execution" && last["execution"]["exit_code"] == 0 && runtime == "container"
        })
    })
    .await;
    assert!(server.metric("container_engine_up") > 0.0);
    engine.is_empty();

    // What was loaded is there after a restart, by its image.
    let server = server.restart();
    assert_eq!(run(&server, "a.echo", "again").await.unwrap().output, "again");
    let unload = v1::UnloadAgentRequest { agent_id: "a.echo".into(), ..v1::UnloadAgentRequest::default() };
    server.client().await.unload_agent(unload).await.unwrap();
    assert_eq!(reason(&server, "a.echo", "").await.1, "AGENT_NOT_FOUND");
    assert_eq!(server.stop(), Some(0));
    engine.is_empty();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_loads_and_executes_a_container_agent() {
    let engine = Engine::start();
    let server = engine.server(&[]);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("manifest.yaml"), manifest("a.log", "log", "")).unwrap();
    let agent = folder.path().to_str().unwrap();
    let call = |arguments: &[&str]| {
        let output = mentat().args(arguments).args(["--server", &server.grpc]).output().unwrap();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (code, said, wrong) = call(&["load", agent]);
    assert_eq!(code, Some(0), "{wrong}");
    assert!(
        said.starts_with("a.log 1.0.0 sha256:")
            && said.ends_with("(an image of the container engine) untrusted\n"),
        "{said}"
    );
    let (code, said, log) = call(&["execute", "a.log", "--input", "x"]);
    assert_eq!((code, said.as_str()), (Some(0), "out"));
    assert_eq!(log, "[warn] first\n[warn] \\u{1b}[31mred\n[warn] last\n");
    assert!(call(&["list"]).1.contains("a.log"));
    let run = mentat().args(["run", agent]).output().unwrap();
    assert_eq!(run.status.code(), Some(2));
    assert!(
        text(&run.stderr).contains("a server with a container engine executes it"),
        "{}",
        text(&run.stderr)
    );
    engine.is_empty();
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_are_events_while_the_agent_runs_and_the_rest_of_stdout_is_its_output() {
    let engine = Engine::start();
    let server = engine.server(&[]);
    load(&server, "a.events", "events", "events: ndjson\n").await;
    let mut client = server.client().await;
    // JSON that stands on several lines is read as one.
    let request = execute("a.events", "{\n \"a\": 1\n}\n");
    let mut events = client.execute_agent_stream(request).await.unwrap().into_inner();
    let (mut logs, mut reports, mut answer) = (Vec::new(), Vec::new(), None);
    let mut told = std::time::Duration::ZERO;
    let since = std::time::Instant::now();
    while let Some(event) = events.message().await.unwrap() {
        match event.event.unwrap() {
            Event::Log(line) => logs.push(line.message),
            Event::Report(report) => {
                told = since.elapsed();
                reports.push(report);
            }
            Event::Response(response) => answer = Some(response),
            _ => {}
        }
    }
    let answer = answer.unwrap();
    assert_eq!(answer.output, "line={  \"a\": 1 } rest=0\n");
    assert_eq!((logs, reports.len()), (vec!["begun".to_owned()], 2));
    assert!(told < since.elapsed(), "reports came with the end");
    engine.is_empty();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_cannot_be_executed_here_is_refused_when_it_is_loaded() {
    let engine = Engine::start();
    engine.import("localhost/disk:1", &["VOLUME /data"]);
    engine.import_folder("localhost/mute:1", &engine.path("image"), &[]);
    let server = engine.server(&["container.images=[\"localhost\"]", "container.max_cpus=2"]);
    let with_image = |image: &str| manifest("a.b", "echo", "").replace(IMAGE, image);
    for (manifest, module, says) in [
        (with_image("localhost/nothing:1"), &b""[..], "is not in the container engine"),
        (with_image("localhost.evil.example/probe:1"), b"", "none that agents may have here"),
        (with_image("localhost/disk:1"), b"", "declares the volume `/data`"),
        (with_image("localhost/mute:1"), b"", "build it with `ENTRYPOINT` or `CMD`"),
        (manifest("a.b", "echo", ""), b"\0asm", "came with a module"),
        (manifest("a.b", "echo", "resources: { memory: 8Gi }\n"), b"", "over this installation's ceiling"),
        (manifest("a.b", "echo", "resources: { cpu: \"3\" }\n"), b"", "`container.max_cpus`"),
        // What engines would refuse at the first execution.
        (manifest("a.b", "echo", "resources: { cpu: 1m }\n"), b"", "`1m` is less than `10m`"),
        (manifest("a.b", "echo", "resources: { memory: 1Ki }\n"), b"", "`1Ki` is less than 6MB"),
        (manifest("a.b", "echo", "wasm: { memory: { maximum: 5 } }\n"), b"", "is less than 6MB"),
        (with_image("\"@sha256:9ce\""), b"", "a digest is `sha256:`"),
        (with_image("docker-archive:/tmp/x.tar"), b"", "for a place and not for a name"),
        (with_image("localhost/Probe:1"), b"", "lower-case"),
        (with_image("\"localhost/probe:\""), b"", "a tag has"),
    ] {
        let refused = server.load_module(&manifest, module).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains(says), "{says}: {}", refused.message());
    }
    // Nobody listens there: the engine tries, and says so.
    let pulls = engine.server(&["container.pull=missing", "container.images=[\"127.0.0.1:1\"]"]);
    let refused = pulls.load_module(&with_image("127.0.0.1:1/agents/x:1"), &[]).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{}", refused.message());
    assert!(refused.message().contains("cannot be fetched: "), "{}", refused.message());
    let without = Server::start();
    let refused = without.load_module(&manifest("a.b", "echo", ""), &[]).await.unwrap_err();
    assert!(refused.message().contains("no container engine"), "{}", refused.message());
    engine.is_empty();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_least_that_can_be_asked_for_is_a_container_and_less_is_the_callers_mistake() {
    let engine = Engine::start();
    let server = engine.server(&[]);
    load(&server, "a.least", "echo", "resources: { cpu: 10m, memory: 6Mi }\n").await;
    assert_eq!(run(&server, "a.least", "the least").await.unwrap().output, "the least");
    load(&server, "a.echo", "echo", "").await;
    let with = |memory: u64| v1::ExecuteAgentRequest {
        sandbox_config: Some(v1::SandboxConfig { memory_bytes: memory, ..v1::SandboxConfig::default() }),
        ..execute("a.echo", "x")
    };
    let refused = server.client().await.execute_agent(with(6_291_455)).await.unwrap_err();
    assert_eq!(refused.get_error_details().error_info().unwrap().reason, "INVALID_REQUEST");
    assert!(refused.message().contains("is less than 6MB"), "{}", refused.message());
    server.client().await.execute_agent(with(6_291_456)).await.unwrap();
    // An agent that is both is a module as it was, and not an image with so little.
    let both = manifest("a.both", "echo", "wasm: { memory: { maximum: 1 } }\n")
        .replace("runtime: container", "runtime: wasm");
    let refused = server.load_as(&both, UNKNOWN_IMPORT).await.unwrap_err();
    assert_eq!(refused.get_error_details().error_info().unwrap().reason, "INVALID_REQUEST");
    assert!(refused.message().contains("memory of 1MB is less than 6MB"), "{}", refused.message());
    engine.is_empty();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_executed_in_place_of_a_module_that_cannot_run_here_and_of_no_other() {
    let engine = Engine::start();
    let server = engine.server(&[]);
    let both = |id: &str| manifest(id, "echo", "").replace("runtime: container", "runtime: wasm");
    let loaded = server.load_as(&both("a.both"), UNKNOWN_IMPORT).await.unwrap();
    assert_eq!(loaded.code_origin(), v1::CodeOrigin::Image);
    server.load_as(&both("a.both"), UNKNOWN_IMPORT).await.expect("the same once more");
    assert_eq!(run(&server, "a.both", "by the image").await.unwrap().output, "by the image");
    let able = server.load_as(&both("a.able"), EXIT_3).await.unwrap();
    assert_ne!(able.code_origin(), v1::CodeOrigin::Image);
    assert_eq!(run(&server, "a.able", "").await.unwrap().exit_code, 3);
    // What is no module at all is a mistake, and not a reason.
    let refused = server.load_module(&both("a.broken"), b"no module").await.unwrap_err();
    assert_eq!(refused.get_error_details().error_info().unwrap().reason, "INVALID_MODULE");
    let server = {
        drop(server);
        engine.server(&["container.fallback=false"])
    };
    let refused = server.load_as(&both("a.both"), UNKNOWN_IMPORT).await.unwrap_err();
    assert_eq!(refused.get_error_details().error_info().unwrap().reason, "INVALID_MODULE");
    engine.is_empty();
}
