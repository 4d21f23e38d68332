//! The error table: each row that can be reached, on gRPC, on HTTP and on the command line, with the same reason.

use mentat_proto::v1::{ExecuteAgentRequest, SandboxConfig};
use serde_json::{Value, json};
use tonic::Code;
use tonic_types::StatusExt;

use crate::guests::{self, assemble, manifest, manifest_with};
use crate::program::{agent_folder, mentat, text};
use crate::server::{Server, execute};

/// One way to fail.
struct Row {
    name: &'static str,
    guest: &'static str,
    wasm: &'static str,
    reason: &'static str,
    grpc: Code,
    http: u16,
    exit: i32,
    says: &'static str,
}

const EXECUTIONS: &[Row] = &[
    Row {
        name: "fuel",
        guest: guests::LOOP,
        wasm: "  fuel: 1000000\n",
        reason: "FUEL_EXHAUSTED",
        grpc: Code::ResourceExhausted,
        http: 422,
        exit: 6,
        says: "wasm.fuel",
    },
    Row {
        name: "memory",
        guest: guests::HOARD,
        wasm: "  memory: { maximum: 8 }\n",
        reason: "MEMORY_LIMIT",
        grpc: Code::ResourceExhausted,
        http: 422,
        exit: 6,
        says: "8MB",
    },
    Row {
        name: "output",
        guest: guests::WRITE,
        wasm: "  max_output: 64KB\n",
        reason: "OUTPUT_TOO_LARGE",
        grpc: Code::ResourceExhausted,
        http: 422,
        exit: 6,
        says: "64KB",
    },
    Row {
        name: "stack",
        guest: guests::RECURSE,
        wasm: "  fuel: 1000000000\n",
        reason: "STACK_OVERFLOW",
        grpc: Code::ResourceExhausted,
        http: 422,
        exit: 6,
        says: "down",
    },
    Row {
        name: "sleep",
        guest: guests::SLEEP,
        wasm: "  timeout_ms: 200\n",
        reason: "TIMEOUT",
        grpc: Code::DeadlineExceeded,
        http: 504,
        exit: 7,
        says: "200 ms",
    },
    Row {
        name: "busy",
        guest: guests::LOOP,
        wasm: "  timeout_ms: 200\n  metering: epoch\n",
        reason: "TIMEOUT",
        grpc: Code::DeadlineExceeded,
        http: 504,
        exit: 7,
        says: "200 ms",
    },
    Row {
        name: "trap",
        guest: guests::TRAP,
        wasm: "  fuel: 1000000\n",
        reason: "TRAP",
        grpc: Code::Aborted,
        http: 422,
        exit: 8,
        says: "inner_function",
    },
];

fn reason(status: &tonic::Status) -> String {
    status.get_error_details().error_info().map(|info| info.reason.clone()).unwrap_or_default()
}

/// Posts JSON; answers the status and the body.
fn post(url: &str, body: &Value) -> (u16, Value) {
    let response = ureq::post(url).config().http_status_as_error(false).build().send_json(body);
    let mut response = response.unwrap();
    (response.status().as_u16(), response.body_mut().read_json().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_execution_has_the_same_reason_on_every_surface() {
    let server = Server::start();
    let mut client = server.client().await;
    for row in EXECUTIONS {
        let text_of_manifest = manifest_with(&format!("row.{}", row.name), "1.0.0", row.wasm);
        server.load_as(&text_of_manifest, row.guest).await.unwrap();
        let status = client.execute_agent(execute(&format!("row.{}", row.name), "")).await.unwrap_err();
        assert_eq!(
            (status.code(), reason(&status)),
            (row.grpc, row.reason.into()),
            "{}: {status:?}",
            row.name
        );
        assert!(status.message().contains(row.says), "{}: {}", row.name, status.message());
        let info = status.get_error_details().error_info().unwrap().clone();
        assert_eq!(info.domain, "mentat.runtime");
        assert!(info.metadata.contains_key("execution_id"));

        let (code, body) = post(&format!("{}/v1/agents/row.{}/execute", server.http, row.name), &json!({}));
        assert_eq!(
            (code, body["error"]["reason"].as_str()),
            (row.http, Some(row.reason)),
            "{}: {body}",
            row.name
        );
        assert!(body["error"]["execution_id"].is_string());

        let id = format!("row.{}", row.name);
        let remote = mentat().args(["execute", &id, "--server", &server.grpc]).output().unwrap();
        assert_eq!(remote.status.code(), Some(row.exit), "{}: {}", row.name, text(&remote.stderr));
        assert!(text(&remote.stderr).contains(row.says), "{}: {}", row.name, text(&remote.stderr));

        let folder = agent_folder(&text_of_manifest, &assemble(row.guest));
        let local = mentat().arg("run").arg(folder.path()).output().unwrap();
        assert_eq!(local.status.code(), Some(row.exit), "{}: {}", row.name, text(&local.stderr));
        assert!(text(&local.stderr).contains(row.says), "{}: {}", row.name, text(&local.stderr));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_load_names_everything_that_is_wrong() {
    let server = Server::start();
    let status = server.load_as(&manifest("a.b", "1.0.0"), guests::UNKNOWN_IMPORT).await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::InvalidArgument, "INVALID_MODULE".into()));
    for name in ["acme.conjure", "mentat.levitate"] {
        assert!(status.message().contains(name), "{}", status.message());
    }
    let status = server.load_as("id: a.b\nversion: one\n", guests::ECHO).await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::InvalidArgument, "INVALID_MANIFEST".into()));
    assert!(status.message().contains("line 2"), "{}", status.message());

    let body = json!({ "manifest": "id: a.b\nversion: one\n", "module_base64": "AA==" });
    let (code, body) = post(&format!("{}/v1/agents", server.http), &body);
    assert_eq!((code, body["error"]["reason"].as_str()), (400, Some("INVALID_MANIFEST")));
    assert_eq!(body["error"]["details"]["problems"][0]["line"], 2, "{body}");

    let folder = agent_folder(&manifest("a.b", "1.0.0"), &assemble(guests::UNKNOWN_IMPORT));
    let output = mentat().arg("load").arg(folder.path()).args(["--server", &server.grpc]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("acme.conjure"), "{}", text(&output.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_not_found() {
    let server = Server::start();
    let mut client = server.client().await;
    let status = client.execute_agent(execute("no.such", "")).await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::NotFound, "AGENT_NOT_FOUND".into()));
    let (code, body) = post(&format!("{}/v1/agents/no.such/execute", server.http), &json!({}));
    assert_eq!((code, body["error"]["reason"].as_str()), (404, Some("AGENT_NOT_FOUND")));
    let output = mentat().args(["execute", "no.such", "--server", &server.grpc]).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    let id = "01890a5d-ac96-774b-bcce-b302099a8057".to_owned();
    let request = mentat_proto::v1::GetExecutionRequest { execution_id: id.clone() };
    let status = client.get_execution(request).await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::NotFound, "EXECUTION_NOT_FOUND".into()));
    let (code, body) = post(&format!("{}/v1/executions/{id}/cancel", server.http), &json!({}));
    assert_eq!((code, body["error"]["reason"].as_str()), (404, Some("EXECUTION_NOT_FOUND")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_makes_no_sense_is_told_why() {
    let server = Server::start();
    server.load("a.b", guests::ECHO).await;
    let mut client = server.client().await;
    for (request, says) in [
        (ExecuteAgentRequest { execution_id: "7".into(), ..execute("a.b", "") }, "UUID"),
        (ExecuteAgentRequest { version: "one".into(), ..execute("a.b", "") }, "SemVer"),
        (execute("a/b", ""), "agent id"),
        (ExecuteAgentRequest { manifest: manifest("c.d", "1.0.0"), ..execute("a.b", "") }, "`c.d`"),
    ] {
        let status = client.execute_agent(request).await.unwrap_err();
        assert_eq!((status.code(), reason(&status)), (Code::InvalidArgument, "INVALID_REQUEST".into()));
        assert!(status.message().contains(says), "{}", status.message());
    }
    let url = format!("{}/v1/agents/a.b/execute", server.http);
    for (body, says) in [
        (json!({ "inptu": "x" }), "unknown field `inptu`"),
        (json!({ "input": 3 }), "at `input`"),
        (json!({ "input": "x", "input_base64": "eA==" }), "not several"),
        (json!({ "input_base64": "?" }), "not base64"),
    ] {
        let (code, answer) = post(&url, &body);
        assert_eq!((code, answer["error"]["reason"].as_str()), (400, Some("INVALID_REQUEST")));
        assert!(answer["error"]["message"].as_str().unwrap().contains(says), "{answer}");
    }
    let (code, answer) = post(&format!("{}/v1/nothing", server.http), &json!({}));
    assert_eq!((code, answer["error"]["reason"].as_str()), (404, Some("INVALID_REQUEST")));
    let (code, _) = post(&format!("{}/healthz", server.http), &json!({}));
    assert_eq!(code, 405);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_without_a_key_is_unauthenticated_where_keys_are_wanted() {
    let digest = mentat_manifest::ModuleDigest::of(b"key").hex();
    let setting = format!("auth.api_keys=[{{ name = \"ci\", tenant = \"acme\", sha256 = \"{digest}\" }}]");
    let server = Server::with(&[&setting]);
    let mut client = server.client().await;
    let status = client.execute_agent(execute("a.b", "")).await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::Unauthenticated, "UNAUTHENTICATED".into()));
    let (code, body) = post(&format!("{}/v1/agents/a.b/execute", server.http), &json!({}));
    assert_eq!((code, body["error"]["reason"].as_str()), (401, Some("UNAUTHENTICATED")));
    let without = mentat().args(["list", "--server", &server.grpc]).output().unwrap();
    assert_eq!(without.status.code(), Some(4), "{}", text(&without.stderr));
    let with =
        mentat().args(["list", "--server", &server.grpc]).env("MENTAT_API_KEY", "key").output().unwrap();
    assert_eq!(with.status.code(), Some(0), "{}", text(&with.stderr));
    assert!(!server.log().contains("Bearer"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_server_says_so_and_when_to_come_back() {
    let server = Server::with(&["engine.max_executions=1", "pool.queue_length=0"]);
    server.load_as(&manifest_with("a.sleep", "1.0.0", "  timeout_ms: 60000\n"), guests::SLEEP).await.unwrap();
    let mut client = server.client().await;
    let mut sleeper = client.clone();
    let sleeping = tokio::spawn(async move { sleeper.execute_agent(execute("a.sleep", "")).await });
    crate::server::eventually("the first execution", async || {
        server.metric("wasm_instances_total{status=\"active\"}") > 0.0
    })
    .await;
    let status = client.execute_agent(execute("a.sleep", "")).await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::Unavailable, "OVERLOADED".into()));
    assert!(status.get_error_details().retry_info().is_some());
    let (code, body) = post(&format!("{}/v1/agents/a.sleep/execute", server.http), &json!({}));
    assert_eq!((code, body["error"]["reason"].as_str()), (503, Some("OVERLOADED")));
    let output = mentat().args(["execute", "a.sleep", "--server", &server.grpc]).output().unwrap();
    assert_eq!(output.status.code(), Some(9), "{}", text(&output.stderr));
    sleeping.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_narrows_but_never_widens() {
    let server = Server::start();
    server.load_as(&manifest_with("a.loop", "1.0.0", "  fuel: 5000000\n"), guests::LOOP).await.unwrap();
    let mut client = server.client().await;
    for (fuel, limit) in [(1_000, "1000"), (50_000_000, "5000000")] {
        let config = SandboxConfig { fuel, ..SandboxConfig::default() };
        let request = ExecuteAgentRequest { sandbox_config: Some(config), ..execute("a.loop", "") };
        let status = client.execute_agent(request).await.unwrap_err();
        let info = status.get_error_details().error_info().unwrap().clone();
        assert_eq!(info.metadata["limit_fuel"], limit);
    }
    let narrower = manifest_with("a.loop", "1.0.0", "  fuel: 2000\n");
    let request = ExecuteAgentRequest { manifest: narrower, ..execute("a.loop", "") };
    let status = client.execute_agent(request).await.unwrap_err();
    assert_eq!(status.get_error_details().error_info().unwrap().metadata["limit_fuel"], "2000");
}
