//! Agents that have both a module and an image: which of the two is executed, and that nothing is gained by it.

use mentat_proto::v1;
use mentat_runtime::model::ExecutionId;
use serde_json::Value;

use super::engine::{Engine, IMAGE};
use super::{manifest, run};
use crate::guests::EXIT_3;
use crate::server::{Server, eventually, execute};

/// The manifest of an agent whose module exits with 3, and whose image echoes.
fn both(id: &str) -> String {
    manifest(id, "echo", "").replace("runtime: container", "runtime: wasm")
}

/// By the page: the first eight digits of the SHA-256 of the execution's id, by the remainder of 100.
fn part(execution: &str) -> u32 {
    let digest = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(execution));
    u32::from_str_radix(&digest[..8], 16).unwrap() % 100
}

async fn runtime(server: &Server, id: &str) -> String {
    run(server, id, "x").await.unwrap().runtime
}

/// A metric with labels, which is in the text once it is counted.
fn counted(server: &Server, name: &str) -> f64 {
    let text =
        ureq::get(format!("{}/metrics", server.http)).call().unwrap().body_mut().read_to_string().unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned));
    value.map_or(0.0, |value| value.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn executions_are_the_modules_or_the_images_by_their_ids_and_every_answer_tells_which() {
    let engine = Engine::start();
    let server = engine.server(&[
        "rollout.percent=50",
        "rollout.allow=[\"a.module\"]",
        "rollout.deny=[\"a.image\"]",
        "audit.checkpoint_ms=20",
    ]);
    let loaded = server.load_as(&both("a.both"), EXIT_3).await.unwrap();
    let image =
        format!("sha256:{}", engine.podman(&["image", "inspect", "--format", "{{.Id}}", IMAGE]).trim());
    assert_ne!(loaded.module_hash, image);
    assert_eq!(loaded.image_hash, image);
    server.load_as(&both("a.both"), EXIT_3).await.expect("the same once more");

    let mut client = server.client().await;
    let (mut modules, mut images) = (0, 0);
    for _ in 0..12 {
        let execution_id = ExecutionId::new().to_string();
        let request =
            v1::ExecuteAgentRequest { execution_id: execution_id.clone(), ..execute("a.both", "hello") };
        let answer = client.execute_agent(request).await.unwrap().into_inner();
        let (expected, came) = match part(&execution_id) < 50 {
            true => (("wasm", &loaded.module_hash), (3, "")),
            false => (("container", &image), (0, "hello")),
        };
        assert_eq!((answer.exit_code, std::str::from_utf8(&answer.output).unwrap()), came);
        assert_eq!(answer.runtime, expected.0);
        *(if expected.0 == "wasm" { &mut modules } else { &mut images }) += 1;
        let request = v1::GetExecutionRequest { execution_id: execution_id.clone() };
        assert_eq!(client.get_execution(request).await.unwrap().into_inner().runtime, expected.0);
        // The record is of what ran.
        eventually("the record", async || {
            let trail = ureq::get(format!("{}/v1/executions/{execution_id}/audit", server.http)).call();
            let trail = trail.ok().and_then(|mut answer| answer.body_mut().read_json::<Value>().ok());
            trail.is_some_and(|trail| {
                let last = trail["records"].as_array().unwrap().last().cloned().unwrap_or_default();
                last["agent"]["runtime"] == expected.0
                    && trail["records"].to_string().contains(expected.1.as_str())
            })
        })
        .await;
    }
    // Whatever the ids were: chosen so that both kinds are among them.
    for wanted in [true, false] {
        let execution_id = loop {
            let id = ExecutionId::new().to_string();
            if (part(&id) < 50) == wanted {
                break id;
            }
        };
        let request = v1::ExecuteAgentRequest { execution_id, ..execute("a.both", "") };
        let answer = client.execute_agent(request).await.unwrap().into_inner();
        assert_eq!(answer.runtime, if wanted { "wasm" } else { "container" });
    }
    let percent = |runtime: &str| {
        counted(&server, &format!("rollout_executions_total{{runtime=\"{runtime}\",reason=\"percent\"}}"))
    };
    assert_eq!((percent("wasm"), percent("container")), (f64::from(modules + 1), f64::from(images + 1)));

    // Those that are listed are not divided; by HTTP it is told as well.
    for (id, expected) in [("a.module", "wasm"), ("a.image", "container")] {
        let loaded = server.load_as(&both(id), EXIT_3).await.unwrap();
        assert_eq!(loaded.image_hash.is_empty(), expected == "wasm");
        for _ in 0..3 {
            assert_eq!(runtime(&server, id).await, expected);
        }
        let url = format!("{}/v1/agents/{id}/execute", server.http);
        let raw = ureq::post(&url).header("content-type", "application/octet-stream").send("x").unwrap();
        assert_eq!(raw.headers()["mentat-runtime"], expected);
        let body: Value = ureq::post(&url)
            .send_json(serde_json::json!({ "input": "x" }))
            .unwrap()
            .body_mut()
            .read_json()
            .unwrap();
        assert_eq!(body["runtime"], expected);
    }
    let listed: Value =
        ureq::get(format!("{}/v1/agents", server.http)).call().unwrap().body_mut().read_json().unwrap();
    let images: Vec<bool> = listed["agents"]
        .as_array()
        .unwrap()
        .iter()
        .map(|agent| agent["image_hash"] == image.as_str())
        .collect();
    assert_eq!(images, [true, true, false]);
    engine.is_empty();

    // What was looked up when it was loaded is kept; with the usual configuration the module is executed.
    let settings = |more: &[&str]| -> Vec<String> {
        [engine.setting().as_str()].iter().chain(more).map(|setting| (*setting).to_owned()).collect()
    };
    let server = server.restart_with(&settings(&["rollout.percent=0"]));
    eventually("the engine", async || server.metric("container_engine_up") > 0.0).await;
    assert_eq!(runtime(&server, "a.both").await, "container");
    assert_eq!(runtime(&server, "a.module").await, "wasm", "its image was not looked up");
    let server = server.restart_with(&settings(&[]));
    eventually("the engine", async || server.metric("container_engine_up") > 0.0).await;
    assert_eq!(runtime(&server, "a.both").await, "wasm");
    engine.is_empty();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_module_is_executed_while_the_engine_is_away_or_has_not_the_image() {
    let mut engine = Engine::start();
    let server = engine.server(&["rollout.percent=0", "rollout.deny=[\"a.denied\"]"]);
    let loaded =
        server.load_as(&both("a.nothing").replace(IMAGE, "localhost/nothing:1"), EXIT_3).await.unwrap();
    assert_eq!(loaded.image_hash, "");
    assert_eq!(runtime(&server, "a.nothing").await, "wasm");
    server.load_as(&both("a.both"), EXIT_3).await.unwrap();
    assert_eq!(runtime(&server, "a.both").await, "container");
    server.load_as(&both("a.denied"), EXIT_3).await.unwrap();
    engine.is_empty();
    engine.stop();
    // The one that finds out.
    let (code, why, _) = super::reason(&server, "a.both", "").await;
    assert_eq!((code, why.as_str()), (tonic::Code::Unavailable, "UNAVAILABLE"));
    assert_eq!(runtime(&server, "a.both").await, "wasm");
    // Whose module the operator will not have is not executed as one.
    assert_eq!(super::reason(&server, "a.denied", "").await.1, "UNAVAILABLE");
    // Loaded again meanwhile, it keeps its image.
    let again = server.load_as(&both("a.both"), EXIT_3).await.unwrap();
    assert!(!again.image_hash.is_empty());
    let away = "rollout_executions_total{runtime=\"wasm\",reason=\"engine_away\"}";
    assert!(counted(&server, away) > 0.0);
    engine.serve();
    eventually("that the engine is back", async || server.metric("container_engine_up") > 0.0).await;
    assert_eq!(runtime(&server, "a.both").await, "container");
    engine.is_empty();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_given_what_policy_grants_to_it_and_nothing_that_its_module_is_known_by() {
    let engine = Engine::start();
    let module = format!(
        "sha256:{}",
        hex::encode(<sha2::Sha256 as sha2::Digest>::digest(crate::guests::assemble(EXIT_3)))
    );
    let policies = tempfile::tempdir().unwrap();
    std::fs::write(
        policies.path().join("own.cedar"),
        format!(
            "@id(\"agent\") permit (principal == Agent::\"a.both\", action in Action::\"env\", resource == Variable::\"GIVEN\");\n\
             @id(\"module\") permit (principal, action in Action::\"env\", resource == Variable::\"PINNED\") when \
             {{ principal.module == \"{module}\" }};\n"
        ),
    )
    .unwrap();
    let server = engine.server(&[
        "rollout.percent=0",
        &format!("policy.dir={}", policies.path().display()),
        "sandbox.env=[{ name = \"GIVEN\", value = \"a value\" }, { name = \"PINNED\", value = \"pinned\" }, { name = \"KEPT\", \
         value = \"kept\" }]",
    ]);
    let capabilities = "wasm: { capabilities: [\"env:GIVEN\", \"env:PINNED\", \"env:KEPT\"] }\n";
    let manifest = manifest("a.both", "look", capabilities).replace("runtime: container", "runtime: wasm");
    server.load_as(&manifest, EXIT_3).await.unwrap();
    let answer = run(&server, "a.both", "").await.unwrap();
    assert_eq!(answer.runtime, "container");
    let facts = String::from_utf8(answer.output.into()).unwrap();
    assert!(facts.contains("env GIVEN=a value"), "{facts}");
    assert!(!facts.contains("PINNED") && !facts.contains("KEPT"), "{facts}");
    let log: Vec<String> = answer.logs.into_iter().map(|line| line.message).collect();
    for name in ["env:PINNED", "env:KEPT"] {
        assert!(
            log.iter().any(|line| line.contains(name) && line.contains("permitted by no policy")),
            "{log:?}"
        );
    }
    engine.is_empty();
}
