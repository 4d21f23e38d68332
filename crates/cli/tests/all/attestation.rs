//! Signed agents through a started server: what is loaded, what is refused and why, and what comes of it when certificates are
//! taken back, expire, or are asked for from a day on.

mod authority;
mod given;
mod review;
mod trust;

use std::time::Duration;

use chrono::Utc;
use mentat_proto::v1::{ActivateVersionRequest, Agent, GetAgentRequest, ListAgentsRequest, LoadAgentRequest};
use serde_json::{Value, json};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use self::authority::{Authority, POLICY, file, with};
use crate::guests::{ECHO, EXIT_3, assemble, manifest, manifest_with};
use crate::program::{agent_folder, mentat, text};
use crate::server::{Server, eventually, execute};

const READ_DATA: &str = "  capabilities: [\"filesystem:read:/data\"]\n";
const CAT: &str = include_str!("cat.wat");

fn server(authority: &Authority, more: &[&str]) -> Server {
    let own = authority.settings();
    let settings: Vec<&str> = own.iter().map(String::as_str).chain(more.iter().copied()).collect();
    Server::with(&settings)
}

fn crls(authority: &Authority) -> String {
    format!("attestation.crls=[\"{}\"]", authority.path("crls").display())
}

/// The list that the authority makes.
fn crl_file(authority: &Authority) -> std::path::PathBuf {
    authority.path("crls/root.crl")
}

/// The code of a rejection; every one has its reason and its status as well.
fn code(status: &Status) -> String {
    let info = status.get_error_details().error_info().cloned().unwrap();
    assert_eq!(
        (info.reason.as_str(), status.code()),
        ("ATTESTATION_REJECTED", Code::Unauthenticated),
        "{status:?}"
    );
    info.metadata["code"].clone()
}

async fn load(server: &Server, manifest: &str, module: &[u8]) -> Result<String, String> {
    let loaded = server.load_module(manifest, module).await;
    loaded.map(|answer| answer.signature.unwrap().trust).map_err(|status| code(&status))
}

/// The agent's exit code, or the code of what it is refused for.
async fn run(server: &Server, id: &str) -> Result<i32, String> {
    let answer = server.client().await.execute_agent(execute(id, "hello.txt")).await;
    answer.map(|answer| answer.into_inner().exit_code).map_err(|status| code(&status))
}

async fn describe(server: &Server, id: &str) -> Agent {
    let request = GetAgentRequest { agent_id: id.into(), ..GetAgentRequest::default() };
    server.client().await.get_agent(request).await.unwrap().into_inner()
}

fn get(server: &Server, path: &str) -> Value {
    ureq::get(format!("{}{path}", server.http)).call().unwrap().body_mut().read_json().unwrap()
}

fn post(server: &Server, path: &str, body: &Value, key: Option<&str>) -> (u16, Value) {
    let mut request = ureq::post(format!("{}{path}", server.http));
    if let Some(key) = key {
        request = request.header("authorization", format!("Bearer {key}"));
    }
    let request = request.content_type("application/json").config().http_status_as_error(false).build();
    let mut answer = request.send(body.to_string()).unwrap();
    (answer.status().as_u16(), answer.body_mut().read_json().unwrap())
}

fn records(server: &Server, filter: &[&str]) -> Vec<Value> {
    let audit = server.data().join("audit");
    let output = mentat().args(["audit", "query"]).arg(&audit).args(filter).output().unwrap();
    text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn the_trust_of_a_signer_decides_by_policy_and_is_told_everywhere() {
    let authority = Authority::new();
    authority.signer("lead");
    authority.signer_until("member", None, &format!("certificatePolicies={POLICY}\n"));
    authority.signer("dev");
    let folder = tempfile::tempdir().unwrap();
    file(folder.path(), "hello.txt", "hello");
    std::fs::create_dir(folder.path().join("policies")).unwrap();
    let policy =
        "@id(\"verified\") permit (principal in Trust::\"verified\", action, resource in Path::\"/data\");";
    file(&folder.path().join("policies"), "own.cedar", policy);
    let trust = format!(
        "attestation.trust=[{{ level = \"community\", policy = \"{POLICY}\" }}, {{ level = \"verified\", email = \
         \"lead@example.com\", organisation = \"Example\" }}, {{ level = \"community\", email = \"lead@example.com\" }}]"
    );
    let mounts = format!("sandbox.mounts=[{{ guest = \"/data\", host = \"{}\" }}]", folder.path().display());
    let policies = format!("policy.dir={}/policies", folder.path().display());
    let server = server(&authority, &[&trust, &mounts, &policies, "audit.checkpoint_ms=20"]);
    let module = assemble(CAT);
    for (signer, expected) in [("lead", "verified"), ("member", "community"), ("dev", "signed")] {
        let manifest = manifest_with(&format!("a.{signer}"), "1.0.0", READ_DATA);
        let signed = authority.sign(signer, &manifest, &module);
        assert_eq!(load(&server, &signed, &module).await.as_deref(), Ok(expected), "{signer}");
        // Bad descriptor: the directory is not there for who is not verified.
        assert_eq!(run(&server, &format!("a.{signer}")).await, Ok(if signer == "lead" { 0 } else { 8 }));
    }
    let unsigned = manifest_with("a.nobody", "1.0.0", READ_DATA);
    assert_eq!(load(&server, &unsigned, &module).await.as_deref(), Ok("untrusted"));
    assert_eq!(run(&server, "a.nobody").await, Ok(8));

    let told = describe(&server, "a.lead").await.signature.unwrap();
    assert_eq!((told.trust.as_str(), told.signer.as_str()), ("verified", "lead@example.com"));
    assert_eq!((told.subject.as_str(), told.issuer.as_str()), ("CN=lead,O=Example", "CN=Root,O=Example"));
    assert!(told.fingerprint.starts_with("sha256:") && told.not_after.unwrap().seconds > 2_000_000_000);
    let body = get(&server, "/v1/agents/a.lead");
    assert_eq!(body["signature"]["signer"]["fingerprint"], told.fingerprint);
    assert_eq!(get(&server, "/v1/agents")["agents"][1]["signature"]["signer"]["name"], "lead@example.com");
    let listing = mentat().args(["list", "--server", &server.grpc]).output().unwrap();
    let listing = text(&listing.stdout);
    assert!(listing.contains("verified lead@example.com\n") && listing.contains(" untrusted\n"), "{listing}");

    let receipt = folder.path().join("receipt.json");
    let arguments = ["execute", "a.lead", "--input", "hello.txt", "--server", &server.grpc, "--receipt"];
    let ran = mentat().args(arguments).arg(&receipt).output().unwrap();
    assert!(ran.status.success(), "{}", text(&ran.stderr));
    let envelope: Value = serde_json::from_slice(&std::fs::read(&receipt).unwrap()).unwrap();
    let payload = decode(envelope["payload"].as_str().unwrap());
    let agent = &serde_json::from_slice::<Value>(&payload).unwrap()["predicate"]["agent"];
    assert_eq!((&agent["trust"], &agent["signer"]), (&json!("verified"), &json!("lead@example.com")));
    let decided =
        &records(&server, &["--agent", "a.member", "--event", "decision"])[0]["agent"]["attestation"];
    assert_eq!(decided, &json!({ "trust": "community", "signer": "member@example.com" }));

    let metrics = format!("{}/metrics", server.http);
    let metrics = ureq::get(metrics).call().unwrap().body_mut().read_to_string().unwrap();
    for line in [
        "attestation_agents{trust=\"verified\"} 1",
        "attestation_agents{trust=\"untrusted\"} 1",
        "attestation_verification_duration_seconds_count{result=\"valid\"} 3",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
}

fn decode(text: &str) -> Vec<u8> {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}

#[tokio::test]
async fn what_is_not_signed_as_it_stands_is_refused_on_every_surface_and_recorded() {
    let authority = Authority::new();
    authority.signer("dev");
    let server = server(&authority, &["attestation.mode=required", "audit.checkpoint_ms=20"]);
    let (module, other) = (assemble(ECHO), assemble(EXIT_3));
    let plain = manifest("a.echo", "1.0.0");
    let signed = authority.sign("dev", &plain, &module);
    let block = authority.attest("dev", &plain, &module);
    assert_eq!(load(&server, &plain, &module).await, Err("unsigned".into()));
    assert_eq!(load(&server, &signed, &other).await, Err("signature_mismatch".into()), "the module swapped");
    for changed in [
        signed.replace("timeout_ms: 20000", "timeout_ms: 20001"),
        format!("description: more\n{signed}"),
        with(&manifest("a.echo", "1.0.1"), &block),
        with(&manifest("a.other", "1.0.0"), &block),
    ] {
        assert_eq!(load(&server, &changed, &module).await, Err("signature_mismatch".into()), "{changed}");
    }
    let stranger = Authority::new();
    stranger.signer("dev");
    let by_stranger = stranger.sign("dev", &plain, &module);
    assert_eq!(load(&server, &by_stranger, &module).await, Err("certificate_forged".into()));
    let agents = server.client().await.list_agents(ListAgentsRequest::default()).await.unwrap().into_inner();
    assert_eq!(agents.agents, [], "nothing is stored that was refused");
    assert_eq!(server.metric("wasm_module_cache_misses_total"), 0.0, "nor compiled");

    let body = json!({ "manifest": plain, "module_base64": encode(&module) });
    let (status, told) = post(&server, "/v1/agents", &body, None);
    assert_eq!((status, &told["error"]["reason"]), (401, &json!("ATTESTATION_REJECTED")));
    assert_eq!(told["error"]["details"], json!({ "agent": "a.echo@1.0.0", "code": "unsigned" }));
    let folder = agent_folder(&plain, &module);
    let output = mentat().arg("load").arg(folder.path()).args(["--server", &server.grpc]).output().unwrap();
    assert_eq!(output.status.code(), Some(4));
    let said = text(&output.stderr);
    assert!(
        said.contains("agent `a.echo@1.0.0` is refused: it is not signed") && said.contains("sign it"),
        "{said}"
    );

    eventually("the rejections are recorded", async || {
        records(&server, &["--event", "attestation", "--agent", "a.echo"]).len() == 8
    })
    .await;
    let record = &records(&server, &["--event", "attestation"])[0];
    assert_eq!(
        (&record["rejection"]["code"], &record["rejection"]["caller"]),
        (&json!("unsigned"), &json!("local"))
    );
    let ocsf = &records(&server, &["--event", "attestation", "--format", "ocsf"])[0];
    assert_eq!(ocsf["class_name"], "Detection Finding");

    assert_eq!(load(&server, &signed, &module).await.as_deref(), Ok("signed"));
    assert_eq!(run(&server, "a.echo").await, Ok(0));
}

fn encode(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[tokio::test]
async fn tenants_have_modes_of_their_own() {
    use sha2::Digest;
    let authority = Authority::new();
    authority.signer("dev");
    let key = |tenant: &str| {
        let sha256 = hex::encode(sha2::Sha256::digest(tenant));
        format!("{{ name = \"{tenant}\", tenant = \"{tenant}\", sha256 = \"{sha256}\" }}")
    };
    let keys = format!("auth.api_keys=[{}, {}, {}]", key("strict"), key("lab"), key("usual"));
    let tenants = "attestation.tenants=[{ tenant = \"strict\", mode = \"required\" }, { tenant = \"lab\", mode = \"off\" }]";
    let server = server(&authority, &[&keys, tenants]);
    let (module, plain) = (assemble(ECHO), manifest("a.echo", "1.0.0"));
    let altered = authority.sign("dev", &plain, &module).replace("20000", "20001");
    let load = |tenant: &str, manifest: &str| {
        let body = json!({ "manifest": manifest, "module_base64": encode(&module), "replace": true });
        let (_, told) = post(&server, "/v1/agents", &body, Some(tenant));
        let code = told["error"]["details"]["code"].as_str().map(str::to_owned);
        code.unwrap_or_else(|| told["signature"]["trust"].as_str().unwrap().to_owned())
    };
    for (tenant, unsigned, bad) in [
        ("strict", "unsigned", "signature_mismatch"),
        ("usual", "untrusted", "signature_mismatch"),
        ("lab", "untrusted", "untrusted"),
    ] {
        assert_eq!(
            (load(tenant, &plain), load(tenant, &altered)),
            (unsigned.to_owned(), bad.to_owned()),
            "{tenant}"
        );
    }
    // Where nobody minds signatures, what is not signed takes the place of what says that it is.
    assert_eq!(load("lab", &plain), "untrusted");
}

#[tokio::test]
async fn what_is_not_signed_is_told_of_before_the_day_and_refused_from_then_on() {
    let authority = Authority::new();
    authority.signer("dev");
    let day = Utc::now() + Duration::from_secs(12);
    let from = format!("attestation.enforce_from={}", day.to_rfc3339());
    let server = server(&authority, &["attestation.mode=required", &from]);
    let module = assemble(ECHO);
    assert_eq!(load(&server, &manifest("a.echo", "1.0.0"), &module).await.as_deref(), Ok("untrusted"));
    assert_eq!(run(&server, "a.echo").await, Ok(0));
    assert_eq!(server.metric("attestation_unenforced_total"), 1.0);
    assert!(server.log().contains("will be refused from"), "{}", server.log());
    assert!(describe(&server, "a.echo").await.signature.unwrap().message.contains("will be refused from"));
    let altered = authority.sign("dev", &manifest("a.b", "1.0.0"), &module).replace("20000", "20001");
    assert_eq!(load(&server, &altered, &module).await, Err("signature_mismatch".into()), "bad is bad");
    eventually("the day has come", async || run(&server, "a.echo").await == Err("unsigned".into())).await;
    assert_eq!(load(&server, &manifest("a.new", "1.0.0"), &module).await, Err("unsigned".into()));
}

#[tokio::test]
async fn a_revocation_takes_effect_without_a_load_or_a_restart_and_stays_after_one() {
    let authority = Authority::new();
    authority.signer("dev");
    authority.signer("other");
    let next_month = Utc::now() + Duration::from_secs(30 * 24 * 3600);
    authority.list(next_month);
    let server = server(&authority, &[&crls(&authority), "audit.checkpoint_ms=20"]);
    let module = assemble(ECHO);
    for signer in ["dev", "other"] {
        let signed = authority.sign(signer, &manifest(&format!("a.{signer}"), "1.0.0"), &module);
        assert_eq!(load(&server, &signed, &module).await.as_deref(), Ok("signed"));
        assert_eq!(run(&server, &format!("a.{signer}")).await, Ok(0));
    }
    let before = std::fs::read(crl_file(&authority)).unwrap();
    authority.revoke("dev");
    authority.list(next_month);
    let revoked = || Err("certificate_revoked".to_owned());
    eventually("the revocation is heard of", async || run(&server, "a.dev").await == revoked()).await;
    assert_eq!(run(&server, "a.other").await, Ok(0), "others go on");
    let (status, told) = post(&server, "/v1/agents/a.dev/execute", &json!({}), None);
    assert_eq!((status, &told["error"]["details"]["code"]), (401, &json!("certificate_revoked")));
    assert!(told["error"]["message"].as_str().unwrap().contains("was revoked by its issuer"), "{told}");
    let output = mentat().args(["execute", "a.dev", "--server", &server.grpc]).output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", text(&output.stderr));
    let listing = mentat().args(["list", "--server", &server.grpc]).output().unwrap();
    assert!(text(&listing.stdout).contains("refused: certificate_revoked"), "{}", text(&listing.stdout));
    let signature = describe(&server, "a.dev").await.signature.unwrap();
    assert_eq!((signature.trust.as_str(), signature.refused.as_str()), ("untrusted", "certificate_revoked"));
    let rejections = ["--event", "attestation", "--agent", "a.dev"];
    eventually("it is recorded", async || !records(&server, &rejections).is_empty()).await;
    assert_eq!(records(&server, &rejections).len(), 1, "once, and not for each execution");
    assert_eq!(server.metric("attestation_agents{trust=\"refused\"}"), 1.0);

    // An older list in its place, as who can write there would put, takes nothing back; nor does none.
    let list = crl_file(&authority);
    let newest = std::fs::read(&list).unwrap();
    let elsewhere = list.with_extension("elsewhere");
    for change in [Some(&before), None] {
        match change {
            Some(older) => std::fs::write(&list, older).unwrap(),
            None => std::fs::rename(&list, &elsewhere).unwrap(),
        }
        let told = async || server.log().contains("the revocation list is gone, or older");
        eventually("it is told", told).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(run(&server, "a.dev").await, revoked());
        if change.is_none() {
            std::fs::rename(&elsewhere, &list).unwrap();
        }
    }
    std::fs::write(&list, newest).unwrap();
    let server = server.restart();
    assert_eq!(run(&server, "a.dev").await, revoked());
    assert_eq!(run(&server, "a.other").await, Ok(0));
    let again = authority.sign("dev", &manifest("a.dev", "1.0.1"), &module);
    assert_eq!(load(&server, &again, &module).await, Err("certificate_revoked".into()));
    let signed = authority.sign("other", &manifest("a.dev", "1.0.1"), &module);
    assert_eq!(load(&server, &signed, &module).await.as_deref(), Ok("signed"));
    let back = ActivateVersionRequest { agent_id: "a.dev".into(), version: "1.0.0".into() };
    let refused = server.client().await.activate_version(back).await.unwrap_err();
    assert_eq!(code(&refused), "certificate_revoked");
    assert_eq!(run(&server, "a.dev").await, Ok(0));
}

#[tokio::test]
async fn lists_that_are_overdue_or_missing_refuse_where_the_operator_says_so() {
    let authority = Authority::new();
    authority.signer("dev");
    let (past, future) = (Utc::now() - Duration::from_secs(1), Utc::now() + Duration::from_secs(3600));
    authority.list(future);
    let module = assemble(ECHO);
    let signed = authority.sign("dev", &manifest("a.echo", "1.0.0"), &module);
    let crls = crls(&authority);
    let strict = server(&authority, &[&crls]);
    assert_eq!(load(&strict, &signed, &module).await.as_deref(), Ok("signed"));
    authority.list(past);
    eventually("the list is overdue", async || {
        run(&strict, "a.echo").await == Err("revocation_stale".into())
    })
    .await;
    assert_eq!(load(&strict, &signed, &module).await, Err("revocation_stale".into()));
    let lenient = server(&authority, &[&crls, "attestation.stale_crl=accept"]);
    assert_eq!(load(&lenient, &signed, &module).await.as_deref(), Ok("signed"));
    // A folder that is gone changes nothing but the log.
    authority.list(future);
    eventually("the list is there again", async || run(&strict, "a.echo").await == Ok(0)).await;
    std::fs::rename(authority.path("crls"), authority.path("elsewhere")).unwrap();
    eventually("it is said", async || strict.log().contains("those before stay in force")).await;
    assert_eq!(run(&strict, "a.echo").await, Ok(0));
    let demanding = server(&authority, &["attestation.missing_crl=refuse"]);
    assert_eq!(load(&demanding, &signed, &module).await, Err("revocation_unknown".into()));
}

#[tokio::test]
async fn an_agent_stops_with_the_certificate_of_its_signer() {
    let authority = Authority::new();
    let server = server(&authority, &[]);
    let module = assemble(ECHO);
    authority.signer_until("brief", Some(Utc::now() + Duration::from_secs(8)), "");
    let signed = authority.sign("brief", &manifest("a.echo", "1.0.0"), &module);
    assert_eq!(load(&server, &signed, &module).await.as_deref(), Ok("signed"));
    assert_eq!(run(&server, "a.echo").await, Ok(0));
    let expired = || Err("certificate_expired".to_owned());
    eventually("it has expired", async || run(&server, "a.echo").await == expired()).await;
    assert_eq!(load(&server, &signed, &module).await, Err("certificate_expired".into()));
}

#[tokio::test]
async fn nothing_goes_back_to_before_a_signature_or_below_a_minimum_version() {
    let authority = Authority::new();
    authority.signer("dev");
    let first = server(&authority, &[]);
    let module = assemble(ECHO);
    let signed = |version: &str| authority.sign("dev", &manifest("a.echo", version), &module);
    for version in ["1.0.0", "1.2.0"] {
        assert_eq!(load(&first, &signed(version), &module).await.as_deref(), Ok("signed"));
    }
    for version in ["1.2.0", "1.3.0"] {
        let unsigned = manifest("a.echo", version);
        let request = LoadAgentRequest {
            manifest: unsigned,
            wasm_bytes: module.clone().into(),
            replace: true,
            ..LoadAgentRequest::default()
        };
        let refused = first.client().await.load_agent(request).await.unwrap_err();
        assert_eq!(code(&refused), "unsigned_over_signed");
        assert!(refused.message().contains("unload the signed versions"), "{refused}");
    }
    let second = first.restart_with(
        &[
            authority.settings(),
            vec!["attestation.minimum_versions=[{ agent = \"a.echo\", version = \"1.1.0\" }]".into()],
        ]
        .concat(),
    );
    let outdated = || "version_below_minimum".to_owned();
    let activate = async |version: &str| {
        let request = ActivateVersionRequest { agent_id: "a.echo".into(), version: version.into() };
        second.client().await.activate_version(request).await.map(|_| ()).map_err(|status| code(&status))
    };
    assert_eq!(activate("1.0.0").await, Err(outdated()));
    let rollback = mentat().args(["rollback", "a.echo", "1.0.0", "--server", &second.grpc]).output().unwrap();
    assert_eq!(rollback.status.code(), Some(4), "{}", text(&rollback.stderr));
    assert_eq!(load(&second, &signed("1.0.1"), &module).await, Err(outdated()));
    let mut old = execute("a.echo", "x");
    old.version = "1.0.0".into();
    let refused = second.client().await.execute_agent(old).await.unwrap_err();
    assert_eq!(code(&refused), outdated());
    assert!(refused.message().contains("wants version 1.1.0 of it at least"), "{refused}");
    assert_eq!(run(&second, "a.echo").await, Ok(0));
    assert_eq!(activate("1.2.0").await, Ok(()));
}

#[tokio::test]
async fn an_unsigned_version_is_not_rolled_back_to_over_a_signed_one() {
    let authority = Authority::new();
    authority.signer("dev");
    let server = server(&authority, &[]);
    let module = assemble(ECHO);
    assert_eq!(load(&server, &manifest("a.echo", "1.0.0"), &module).await.as_deref(), Ok("untrusted"));
    let signed = authority.sign("dev", &manifest("a.echo", "2.0.0"), &module);
    assert_eq!(load(&server, &signed, &module).await.as_deref(), Ok("signed"));
    let request = ActivateVersionRequest { agent_id: "a.echo".into(), version: "1.0.0".into() };
    let refused = server.client().await.activate_version(request).await.unwrap_err();
    assert_eq!(code(&refused), "unsigned_over_signed");
    assert_eq!(describe(&server, "a.echo").await.version, "2.0.0");
    assert_eq!(records(&server, &["--event", "attestation"]).len(), 1);
}
