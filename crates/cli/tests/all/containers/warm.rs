//! Containers of programs that read many inputs: used again by whom they belong to, and by nobody after anything else than
//! an answer.

use std::time::Duration;

use mentat_proto::v1::{self, execute_agent_event::Event};
use serde_json::json;
use tonic::Code;
use tonic::metadata::MetadataValue;

use super::engine::Engine;
use super::{load, reason, run};
use crate::server::{Server, eventually, execute};

const REUSE: &str = "events: ndjson\nwasm: { instances: reuse }\n";

/// What the probe answers when it is told what to do.
async fn told(server: &Server, id: &str, what: &str) -> String {
    let answer = run(server, id, &json!(what).to_string()).await.unwrap();
    assert_eq!(answer.exit_code, 0);
    String::from_utf8(answer.output.into()).unwrap()
}

/// The reason of the error that it ends with.
async fn failed(server: &Server, id: &str, what: &str) -> String {
    reason(server, id, &json!(what).to_string()).await.1
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_serves_one_execution_after_another_of_its_agent_and_powers() {
    let engine = Engine::start();
    let policies = tempfile::tempdir().unwrap();
    let permit =
        "@id(\"env\") permit (principal, action in Action::\"env\", resource == Variable::\"GIVEN\");\n";
    std::fs::write(policies.path().join("own.cedar"), permit).unwrap();
    let env = "sandbox.env=[{ name = \"GIVEN\", value = \"a value\" }]";
    let server = engine.server(&[env, &format!("policy.dir={}", policies.path().display())]);
    load(&server, "a.serve", "serve", REUSE).await;
    for number in 1..=3 {
        assert_eq!(told(&server, "a.serve", "count").await, format!("{number}\n"));
    }
    assert_eq!(engine.containers().len(), 1);
    assert_eq!((server.metric("container_warm"), server.metric("container_reused_total")), (1.0, 2.0));

    // Each log line belongs to the execution that it was written for, and each report.
    for text in ["of the first", "of the second"] {
        let answer = run(&server, "a.serve", &json!(format!("log {text}")).to_string()).await.unwrap();
        let log: Vec<&str> = answer.logs.iter().map(|line| line.message.as_str()).collect();
        assert_eq!(log, [text]);
    }
    let mut events = server
        .client()
        .await
        .execute_agent_stream(execute("a.serve", "\"report\""))
        .await
        .unwrap()
        .into_inner();
    let (mut reports, mut output) = (0, String::new());
    while let Some(event) = events.message().await.unwrap() {
        match event.event.unwrap() {
            Event::Report(_) => reports += 1,
            Event::Response(response) => output = String::from_utf8(response.output.into()).unwrap(),
            _ => {}
        }
    }
    assert_eq!((reports, output.as_str()), (1, "6\n"));

    // JSON that stands on several lines is one; what is no JSON is not handed over.
    let answer = run(&server, "a.serve", "\n \"count\"\n").await.unwrap();
    assert_eq!(answer.output, "7\n");
    let (code, why, message) = reason(&server, "a.serve", "count").await;
    assert_eq!((code, why.as_str()), (Code::InvalidArgument, "INVALID_REQUEST"), "{message}");

    // Another agent has its own, and so has one that is loaded again, or with other powers.
    load(&server, "a.other", "serve", REUSE).await;
    assert_eq!(told(&server, "a.other", "count").await, "1\n");
    let given = "events: ndjson\nwasm: { instances: reuse, capabilities: [\"env:GIVEN\"] }\n";
    load(&server, "a.given", "serve", given).await;
    assert_eq!(told(&server, "a.given", "env GIVEN").await, "1 a value\n");
    let narrowed = v1::SandboxConfig {
        capabilities: Some(v1::CapabilityList::default()),
        ..v1::SandboxConfig::default()
    };
    let request =
        v1::ExecuteAgentRequest { sandbox_config: Some(narrowed), ..execute("a.given", "\"env GIVEN\"") };
    let answer = server.client().await.execute_agent(request).await.unwrap().into_inner();
    assert_eq!(answer.output, "1 \n");
    assert_eq!(told(&server, "a.given", "env GIVEN").await, "2 a value\n");
    let unload = v1::UnloadAgentRequest { agent_id: "a.given".into(), ..v1::UnloadAgentRequest::default() };
    server.client().await.unload_agent(unload).await.unwrap();
    load(&server, "a.given", "serve", given).await;
    assert_eq!(told(&server, "a.given", "env GIVEN").await, "1 a value\n");

    // Two at one time have one each.
    let (one, two) = tokio::join!(told(&server, "a.other", "slow 700"), told(&server, "a.other", "slow 700"));
    let mut numbers = [one, two];
    numbers.sort();
    assert_eq!(numbers, ["1\n", "2\n"]);
    assert_eq!(server.stop(), Some(0));
    engine.is_empty();
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_share_no_container() {
    let engine = Engine::start();
    let key = |name: &str| {
        let digest = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(name));
        format!("{{ name = \"{name}\", tenant = \"{name}\", sha256 = \"{digest}\" }}")
    };
    let server = engine.server(&[&format!("auth.api_keys=[{}, {}]", key("one"), key("two"))]);
    let mut client = server.client().await;
    for (tenant, expected) in [("one", "1\n"), ("two", "1\n"), ("one", "2\n")] {
        let bearer: MetadataValue<_> = format!("Bearer {tenant}").parse().unwrap();
        let mut request = tonic::Request::new(v1::LoadAgentRequest {
            manifest: super::manifest("a.serve", "serve", REUSE),
            ..v1::LoadAgentRequest::default()
        });
        request.metadata_mut().insert("authorization", bearer.clone());
        if expected == "1\n" {
            client.load_agent(request).await.unwrap();
        }
        let mut request = tonic::Request::new(execute("a.serve", "\"count\""));
        request.metadata_mut().insert("authorization", bearer);
        let answer = client.execute_agent(request).await.unwrap().into_inner();
        assert_eq!(answer.output, expected, "{tenant}");
    }
    drop(server);
    // What the killed server has left is nobody's.
    engine.podman(&["rm", "--all", "--force", "--time", "0"]);
    engine.is_empty();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_does_anything_but_answer_is_never_used_again() {
    let engine = Engine::start();
    let server = engine.server(&[]);
    let limits = "events: ndjson\nresources: { memory: 64Mi }\nwasm: { instances: reuse, timeout_ms: 1500, max_output: 1MB }\n";
    load(&server, "a.serve", "serve", limits).await;
    let fresh =
        async |after: &str| assert_eq!(told(&server, "a.serve", "count").await, "1\n", "after {after}");
    fresh("the start").await;

    // The answer counts; what came behind it is the end of the container.
    let answer = run(&server, "a.serve", "\"twice\"").await.unwrap();
    assert_eq!(answer.output, "2\n");
    assert!(answer.logs[0].message.contains("more after its answer"), "{:?}", answer.logs);
    fresh("an answer too many").await;
    assert_eq!(told(&server, "a.serve", "late").await, "2\n");
    tokio::time::sleep(Duration::from_millis(300)).await;
    fresh("a late word").await;
    assert_eq!(told(&server, "a.serve", "die").await, "2\n");
    fresh("its end").await;

    // It ends in place of an answer.
    let answer = run(&server, "a.serve", "\"exit 3\"").await.unwrap();
    assert_eq!((answer.exit_code, answer.output.len()), (3, 0));
    fresh("an exit code").await;
    assert_eq!(failed(&server, "a.serve", "exit 0").await, "TRAP");
    fresh("no answer").await;
    assert_eq!(failed(&server, "a.serve", "hang").await, "TIMEOUT");
    fresh("a hang").await;
    assert_eq!(failed(&server, "a.serve", "flood").await, "OUTPUT_TOO_LARGE");
    fresh("a flood").await;
    assert_eq!(failed(&server, "a.serve", "memory").await, "MEMORY_LIMIT");
    fresh("a want of memory").await;

    // It is cancelled.
    let request = v1::ExecuteAgentRequest { detach: true, ..execute("a.serve", "\"slow 1400\"") };
    let begun = server.client().await.execute_agent(request).await.unwrap().into_inner();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let cancel = v1::CancelExecutionRequest { execution_id: begun.execution_id };
    server.client().await.cancel_execution(cancel).await.unwrap();
    eventually("its removal", async || engine.containers().is_empty()).await;
    fresh("a cancelled execution").await;

    // Somebody ends it, or holds it up, while it waits.
    let id = engine.containers().pop().unwrap();
    engine.podman(&["kill", &id]);
    fresh("a kill").await;
    eventually("the removal", async || engine.containers().len() == 1).await;
    let id = engine.containers().pop().unwrap();
    engine.podman(&["pause", &id]);
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    fresh("a pause").await;

    // It speaks before it was asked: that is no answer to the second question.
    load(&server, "a.banner", "banner", REUSE).await;
    assert_eq!(told(&server, "a.banner", "count").await, "ready\n");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(told(&server, "a.banner", "count").await, "ready\n");
    assert!(server.metric("container_recycled_total") >= 3.0);
    assert_eq!(server.stop(), Some(0));
    engine.is_empty();
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_are_recycled_within_their_bounds() {
    let engine = Engine::start();
    let server = engine.server(&["container.warm.max_uses=2", "container.warm.max_containers=2"]);
    load(&server, "a.serve", "serve", REUSE).await;
    for expected in ["1\n", "2\n", "1\n"] {
        assert_eq!(told(&server, "a.serve", "count").await, expected);
    }
    // The third agent's takes the place of the one that has waited longest.
    for id in ["a.second", "a.third"] {
        load(&server, id, "serve", REUSE).await;
        told(&server, id, "count").await;
    }
    eventually("the removal", async || engine.containers().len() == 2).await;
    assert_eq!(told(&server, "a.serve", "count").await, "1\n");
    drop(server);
    engine.podman(&["rm", "--all", "--force", "--time", "0"]);

    let server = engine.server(&["container.warm.idle_ms=500"]);
    load(&server, "a.serve", "serve", REUSE).await;
    told(&server, "a.serve", "count").await;
    engine.is_empty();
    assert_eq!(server.metric("container_warm"), 0.0);
    drop(server);

    // The contract is the same where none are kept.
    let server = engine.server(&["container.warm.max_containers=0"]);
    load(&server, "a.serve", "serve", REUSE).await;
    for _ in 0..2 {
        assert_eq!(told(&server, "a.serve", "count").await, "1\n");
    }
    engine.is_empty();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_computes_while_it_waits_is_removed_and_a_quiet_one_stays() {
    let engine = Engine::start();
    let server = engine.server(&[]);
    load(&server, "a.serve", "serve", REUSE).await;
    told(&server, "a.serve", "count").await;
    let quiet = engine.containers();
    load(&server, "a.spin", "serve", REUSE).await;
    told(&server, "a.spin", "spin").await;
    assert_eq!(engine.containers().len(), 2);
    let since = std::time::Instant::now();
    eventually("the removal of the one that computes", async || engine.containers() == quiet).await;
    assert!(since.elapsed() < Duration::from_secs(10), "{:?}", since.elapsed());
    assert_eq!(server.metric("container_busy_total"), 1.0);
    assert!(server.log().contains("computes while it waits"), "{}", server.log());
    assert_eq!(told(&server, "a.spin", "count").await, "1\n");
    tokio::time::sleep(Duration::from_secs(3)).await;
    for id in ["a.serve", "a.spin"] {
        assert_eq!(told(&server, id, "count").await, "2\n");
    }
    assert_eq!(server.metric("container_busy_total"), 1.0);
    // It is found out before it is used again, too.
    told(&server, "a.spin", "spin").await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(told(&server, "a.spin", "count").await, "1\n");
    assert_eq!(server.stop(), Some(0));
    engine.is_empty();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_of_containers_that_wait_when_the_server_is_killed_or_its_engine_goes() {
    let mut engine = Engine::start();
    let server = engine.server(&[]);
    load(&server, "a.serve", "serve", REUSE).await;
    told(&server, "a.serve", "count").await;
    assert_eq!(engine.containers().len(), 1);
    let server = server.restart();
    assert_eq!(told(&server, "a.serve", "count").await, "1\n");
    eventually("the sweep", async || engine.containers().len() == 1).await;
    engine.stop();
    assert_eq!(failed(&server, "a.serve", "count").await, "UNAVAILABLE");
    engine.serve();
    eventually("another container", async || run(&server, "a.serve", "\"count\"").await.is_ok()).await;
    eventually("the sweep", async || engine.containers().len() == 1).await;
    assert_eq!(server.stop(), Some(0));
    engine.is_empty();
}
