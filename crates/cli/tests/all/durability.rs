//! What was acknowledged is there after `kill -9`, at whatever moment that comes.

use std::collections::BTreeMap;
use std::time::Duration;

use mentat_proto::v1::{
    ActivateVersionRequest, CodeOrigin, GetAgentRequest, IsLoadedRequest, ListAgentsRequest,
    LoadAgentRequest, UnloadAgentRequest,
};

use crate::guests::{ECHO, assemble, manifest};
use crate::server::{Server, execute};

/// An agent that answers its own number; each number is another module.
fn numbered(number: u32) -> String {
    format!(
        r#"(module
          (import "mentat" "write_output" (func $write (param i32 i32) (result i32)))
          (memory (export "memory") 1) (data (i32.const 0) "{number:04}")
          (func (export "process") (result i32) (call $write (i32.const 0) (i32.const 4))))"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_loads_survive_kills_at_any_moment() {
    let mut server = Server::start();
    let mut acknowledged: BTreeMap<u32, String> = BTreeMap::new();
    let mut number = 0;
    for round in 0..4u64 {
        let mut client = server.client().await;
        let loading = tokio::spawn(async move {
            let mut acknowledged = Vec::new();
            loop {
                let request = LoadAgentRequest {
                    manifest: manifest(&format!("n.{number}"), "1.0.0"),
                    wasm_bytes: assemble(&numbered(number)).into(),
                    ..LoadAgentRequest::default()
                };
                match client.load_agent(request).await {
                    Ok(loaded) => acknowledged.push((number, loaded.into_inner().module_hash)),
                    Err(_) => return (acknowledged, number + 1),
                }
                number += 1;
            }
        });
        tokio::time::sleep(Duration::from_millis(400 + 137 * round)).await;
        server.kill();
        let (loaded, next) = loading.await.unwrap();
        acknowledged.extend(loaded);
        number = next;
        server = server.restart();
        let mut client = server.client().await;
        for (number, hash) in &acknowledged {
            let request = GetAgentRequest { agent_id: format!("n.{number}"), ..GetAgentRequest::default() };
            assert_eq!(client.get_agent(request).await.unwrap().into_inner().module_hash, *hash);
            let answer =
                client.execute_agent(execute(&format!("n.{number}"), "")).await.unwrap().into_inner();
            assert_eq!(answer.output, format!("{number:04}"));
        }
    }
    assert!(acknowledged.len() >= 4, "only {} loads were acknowledged", acknowledged.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_and_which_is_active_survive_and_can_be_rolled_back() {
    let server = Server::start();
    for version in ["1.0.0", "1.1.0"] {
        server.load_as(&manifest("a.b", version), ECHO).await.unwrap();
    }
    let mut client = server.client().await;
    let request = ActivateVersionRequest { agent_id: "a.b".into(), version: "1.0.0".into() };
    client.activate_version(request).await.unwrap();
    let server = server.restart();
    let mut client = server.client().await;
    let answer = client.execute_agent(execute("a.b", "x")).await.unwrap().into_inner();
    assert_eq!(answer.version, "1.0.0");
    let request = UnloadAgentRequest { agent_id: "a.b".into(), version: "1.0.0".into() };
    client.unload_agent(request).await.unwrap();
    let server = server.restart();
    let mut client = server.client().await;
    let listed = client.list_agents(ListAgentsRequest::default()).await.unwrap().into_inner().agents;
    assert_eq!(listed.len(), 1);
    assert!(listed[0].active && listed[0].version == "1.1.0");
    let request = IsLoadedRequest { agent_id: "a.b".into(), version: "1.0.0".into() };
    assert!(!client.is_loaded(request).await.unwrap().into_inner().loaded);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_means_one_content_unless_it_is_said_to_be_replaced() {
    let server = Server::start();
    let first = server.load("a.b", &numbered(1)).await;
    assert_eq!(first.code_origin(), CodeOrigin::Compiled);
    let again = server.load("a.b", &numbered(1)).await;
    assert_eq!(again.code_origin(), CodeOrigin::Memory);
    let refused = server.load_as(&manifest("a.b", "1.0.0"), &numbered(2)).await.unwrap_err();
    assert!(refused.message().contains("other content"), "{}", refused.message());
    let mut client = server.client().await;
    let request = LoadAgentRequest {
        manifest: manifest("a.b", "1.0.0"),
        wasm_bytes: assemble(&numbered(2)).into(),
        replace: true,
        ..LoadAgentRequest::default()
    };
    client.load_agent(request).await.unwrap();
    assert_eq!(client.execute_agent(execute("a.b", "")).await.unwrap().into_inner().output, "0002");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_asked_to_end_lets_executions_finish() {
    let server = Server::start();
    let nap = crate::guests::SLEEP.replace("3600000000000", "1000000000");
    server.load("a.nap", &nap).await;
    let mut client = server.client().await;
    let napping = tokio::spawn(async move { client.execute_agent(execute("a.nap", "")).await });
    crate::server::eventually("the nap", async || {
        server.metric("wasm_instances_total{status=\"active\"}") > 0.0
    })
    .await;
    assert_eq!(server.stop(), Some(0));
    assert_eq!(napping.await.unwrap().unwrap().into_inner().exit_code, 0);
}
