//! Executions as they are listed, and what the audit log has on one: the same by gRPC and by HTTP, and for its tenant alone.

use mentat_proto::v1;
use serde_json::{Value, json};
use tonic::Code;

use crate::guests::{EXIT_3, LOOP, assemble, manifest, manifest_with};
use crate::server::{Server, eventually, execute};

const CAT: &str = include_str!("cat.wat");

fn get(server: &Server, path: &str) -> Value {
    ureq::get(format!("{}{path}", server.http)).call().unwrap().body_mut().read_json().unwrap()
}

fn refused(server: &Server, path: &str) -> u16 {
    match ureq::get(format!("{}{path}", server.http)).call() {
        Err(ureq::Error::StatusCode(status)) => status,
        other => panic!("{path}: {other:?}"),
    }
}

fn ids(page: &Value) -> Vec<&str> {
    let executions = page["executions"].as_array().unwrap().iter();
    executions.map(|execution| execution["execution_id"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn executions_are_listed_in_pages_by_state_the_newest_first() {
    let server = Server::start();
    server.load("a.exit", EXIT_3).await;
    server.load_as(&manifest_with("a.loop", "1.0.0", "  fuel: 1000000000000\n"), LOOP).await.unwrap();
    let mut client = server.client().await;
    let mut begun = Vec::new();
    for agent in ["a.exit", "a.exit", "a.loop", "a.exit"] {
        let request = v1::ExecuteAgentRequest { detach: agent == "a.loop", ..execute(agent, "") };
        begun.push(client.execute_agent(request).await.unwrap().into_inner().execution_id);
        // Two that were asked for in the same moment are in no order that anybody knows.
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    let newest_first: Vec<&str> = begun.iter().rev().map(String::as_str).collect();
    let all = get(&server, "/v1/executions");
    assert_eq!((ids(&all), all.get("next_page_token")), (newest_first.clone(), None));
    let mut paged = Vec::new();
    let mut token = String::new();
    loop {
        let page = get(&server, &format!("/v1/executions?page_size=2&page_token={token}"));
        paged.extend(ids(&page).into_iter().map(str::to_owned));
        let Some(next) = page.get("next_page_token") else { break };
        next.as_str().unwrap().clone_into(&mut token);
    }
    assert_eq!(paged, newest_first);
    assert_eq!(ids(&get(&server, "/v1/executions?state=running")), [begun[2].as_str()]);
    assert_eq!(ids(&get(&server, "/v1/executions?state=failed")), Vec::<&str>::new());
    for query in ["state=asleep", "page_token=x", "page_size=-1", "page=1"] {
        assert_eq!(refused(&server, &format!("/v1/executions?{query}")), 400, "{query}");
    }
    let request = v1::ListExecutionsRequest {
        state: v1::ExecutionState::Finished.into(),
        page_size: 2,
        ..v1::ListExecutionsRequest::default()
    };
    let page = client.list_executions(request.clone()).await.unwrap().into_inner();
    let found: Vec<&str> = page.executions.iter().map(|execution| execution.execution_id.as_str()).collect();
    assert_eq!(found, [begun[3].as_str(), begun[1].as_str()]);
    assert!(page.executions.iter().all(|execution| execution.exit_code == Some(3)));
    let rest = v1::ListExecutionsRequest { page_token: page.next_page_token, ..request.clone() };
    let rest = client.list_executions(rest).await.unwrap().into_inner();
    assert_eq!((rest.executions.len(), rest.executions[0].execution_id.as_str()), (1, begun[0].as_str()));
    assert_eq!(rest.next_page_token, "");
    let unknown = v1::ListExecutionsRequest { state: 77, ..request };
    assert_eq!(client.list_executions(unknown).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trail_of_an_execution_is_answered_also_when_the_server_has_forgotten_it() {
    let server = Server::with(&["audit.checkpoint_ms=20", "executions.remembered=1"]);
    let capabilities = "  capabilities: [\"filesystem:read:/data\", \"env:KEY\"]\n";
    server.load_as(&manifest_with("a.cat", "1.0.0", capabilities), CAT).await.unwrap();
    let mut client = server.client().await;
    let mut begun = Vec::new();
    for _ in 0..3 {
        begun.push(client.execute_agent(execute("a.cat", "x")).await.unwrap().into_inner().execution_id);
    }
    for id in &begun {
        let path = format!("/v1/executions/{id}/audit");
        eventually("the record of the end", async || {
            let records = ureq::get(format!("{}{path}", server.http)).call();
            let records = records.ok().and_then(|mut answer| answer.body_mut().read_json::<Value>().ok());
            records.is_some_and(|trail| trail["records"].as_array().unwrap().len() == 3)
        })
        .await;
        let trail = get(&server, &path);
        let records = trail["records"].as_array().unwrap();
        let kinds: Vec<&str> = records.iter().map(|record| record["event_type"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["capability_decision", "capability_decision", "execution"]);
        assert!(records.iter().all(|record| record["execution"]["instance_id"] == json!(id)));
        assert_eq!((&records[2]["execution"]["exit_code"], trail.get("next_page_token")), (&json!(8), None));
        let request = v1::GetExecutionAuditRequest {
            execution_id: id.clone(),
            ..v1::GetExecutionAuditRequest::default()
        };
        let told = client.get_execution_audit(request).await.unwrap().into_inner();
        let told: Vec<Value> =
            told.records.iter().map(|record| serde_json::from_str(record).unwrap()).collect();
        assert_eq!(&told, records);
        // From a later record on, as who was cut off there.
        let from = records[2]["sequence"].as_u64().unwrap();
        let rest = get(&server, &format!("{path}?page_token={from}"));
        assert_eq!(rest["records"].as_array().unwrap().len(), 1);
    }
    assert_eq!(refused(&server, "/v1/executions/01890a5d-ac96-774b-bcce-b302099a8000/audit"), 404);
    assert_eq!(refused(&server, &format!("/v1/executions/{}/audit?page_token=x", begun[0])), 400);
    assert_eq!(refused(&server, "/v1/executions/x/audit"), 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_and_trails_are_those_of_the_callers_tenant_also_where_two_use_one_id() {
    let key = |name: &str| {
        let digest = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(name));
        format!(r#"{{ name = "{name}", tenant = "{name}", sha256 = "{digest}" }}"#)
    };
    let keys = format!("auth.api_keys=[{}, {}, {}]", key("one"), key("two"), key("three"));
    let server = Server::with(&[&keys, "audit.checkpoint_ms=20"]);
    let module = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, assemble(EXIT_3));
    // Ids are the callers' own, and stamped by their clocks.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    let stamp = format!("{now:012x}");
    let id = format!("{}-{}-774b-bcce-b302099a8057", &stamp[..8], &stamp[8..]);
    for tenant in ["one", "two"] {
        let post = |path: &str, body: Value| {
            let request = ureq::post(format!("{}{path}", server.http));
            request.header("authorization", format!("Bearer {tenant}")).send_json(body).unwrap();
        };
        post(
            "/v1/agents",
            json!({ "manifest": manifest(&format!("a.{tenant}"), "1.0.0"), "module_base64": module }),
        );
        post(&format!("/v1/agents/a.{tenant}/execute"), json!({ "execution_id": id }));
    }
    let get = |tenant: &str, path: &str| {
        let request = ureq::get(format!("{}{path}", server.http));
        let answer = request.header("authorization", format!("Bearer {tenant}")).call();
        answer.map(|mut answer| answer.body_mut().read_json::<Value>().unwrap())
    };
    let path = format!("/v1/executions/{id}/audit");
    for tenant in ["one", "two"] {
        let agent = json!(format!("a.{tenant}"));
        let list = get(tenant, "/v1/executions").unwrap();
        assert_eq!((ids(&list), &list["executions"][0]["agent_id"]), (vec![id.as_str()], &agent));
        eventually("the record of the end", async || {
            get(tenant, &path).is_ok_and(|trail| !trail["records"].as_array().unwrap().is_empty())
        })
        .await;
        let trail = get(tenant, &path).unwrap();
        let records = trail["records"].as_array().unwrap();
        assert_eq!((records.len(), &records[0]["agent"]["id"]), (1, &agent));
        assert_eq!(records[0]["tenant"], tenant);
    }
    assert_eq!(ids(&get("three", "/v1/executions").unwrap()), Vec::<&str>::new());
    assert!(matches!(get("three", &path), Err(ureq::Error::StatusCode(404))));
    for path in ["/v1/executions", path.as_str()] {
        assert_eq!(refused(&server, path), 401, "{path}");
    }
}
