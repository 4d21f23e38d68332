//! The audit log of a server: what it records, that it survives, and that a change is found.

use std::path::{Path, PathBuf};

use mentat_proto::v1::ExecuteAgentRequest;

use crate::guests::manifest_with;
use crate::program::{run, text};
use crate::server::{Server, eventually, execute};

const CAT: &str = include_str!("cat.wat");

async fn load(server: &Server) {
    let manifest =
        manifest_with("a.cat", "1.0.0", "  capabilities: [\"filesystem:read:/data\", \"env:KEY\"]\n");
    server.load_as(&manifest, CAT).await.unwrap();
}

async fn execute_some(server: &Server, count: usize) {
    let mut client = server.client().await;
    for _ in 0..count {
        let request = ExecuteAgentRequest { ..execute("a.cat", "x") };
        assert_eq!(client.execute_agent(request).await.unwrap().into_inner().exit_code, 8);
    }
}

fn folder(server: &Server) -> PathBuf {
    server.data().join("audit")
}

fn query(folder: &Path, options: &[&str]) -> Vec<serde_json::Value> {
    let output = run(&[&["audit", "query", folder.to_str().unwrap()], options].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn verify(folder: &Path) -> (Option<i32>, String) {
    let output = run(&["audit", "verify", folder.to_str().unwrap()]);
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

async fn recorded(folder: &Path, count: usize) {
    eventually("the records are written", async || query(folder, &[]).len() >= count).await;
}

#[tokio::test]
async fn decisions_and_executions_are_recorded_with_what_policy_saw() {
    let server = Server::with(&["audit.checkpoint_ms=20"]);
    load(&server).await;
    execute_some(&server, 2).await;
    let folder = folder(&server);
    recorded(&folder, 6).await;
    let records = query(&folder, &[]);
    let kinds: Vec<&str> = records.iter().map(|record| record["event_type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["capability_decision", "capability_decision", "execution"].repeat(2));
    let decision = &records[1];
    assert_eq!(decision["agent"]["id"], "a.cat");
    assert_eq!(decision["agent"]["attestation"]["trust"], "untrusted");
    assert_eq!(decision["security"]["decision"]["capability"], "filesystem:read:/data");
    assert_eq!(decision["security"]["decision"]["reason"], "not_permitted");
    let execution = &records[2];
    assert_eq!(execution["execution"]["result"], "success");
    assert_eq!(execution["execution"]["exit_code"], 8);
    assert_eq!(execution["execution"]["instance_id"], decision["execution"]["instance_id"]);
    assert_eq!(execution["security"]["capability_denials"], 2);
    assert!(execution["execution"]["fuel"].as_u64().unwrap() > 0);

    let id = execution["execution"]["instance_id"].as_str().unwrap();
    assert_eq!(query(&folder, &["--execution", id]).len(), 3);
    assert_eq!(query(&folder, &["--event", "execution"]).len(), 2);
    assert_eq!(query(&folder, &["--agent", "nobody"]).len(), 0);
    assert_eq!(query(&folder, &["--denied"]).len(), 6);
    assert_eq!(query(&folder, &["--since", "2100-01-01T00:00:00Z"]).len(), 0);
    let last = run(&["audit", "tail", folder.to_str().unwrap(), "-n", "1"]);
    assert!(text(&last.stdout).contains("\"sequence\":5"), "{}", text(&last.stdout));
    assert!(server.metric("capability_requests_total{kind=\"filesystem\",result=\"denied\"}") >= 2.0);
}

#[tokio::test]
async fn recorded_decisions_are_made_again_under_other_policies() {
    let server = Server::with(&["audit.checkpoint_ms=20"]);
    load(&server).await;
    execute_some(&server, 1).await;
    let folder = folder(&server);
    recorded(&folder, 3).await;
    let policies = tempfile::tempdir().unwrap();
    let text_of =
        "@id(\"data\") permit (principal == Agent::\"a.cat\", action, resource in Path::\"/data\");";
    std::fs::write(policies.path().join("new.cedar"), text_of).unwrap();
    let replay = ["policy", "replay", "--policy", policies.path().to_str().unwrap(), "--audit"];
    let output = run(&[&replay[..], &[folder.to_str().unwrap()]].concat());
    let expected = "record 1: a.cat: `filesystem:read:/data` was permitted by nothing, would be permitted by data\n\
                    1 of 2 decisions would come out differently\n";
    assert_eq!(text(&output.stdout), expected, "{}", text(&output.stderr));
}

#[tokio::test]
async fn the_log_survives_a_kill_and_a_change_is_named() {
    let mut server = Server::with(&["audit.checkpoint_ms=30"]);
    load(&server).await;
    execute_some(&server, 20).await;
    let audit = folder(&server);
    recorded(&audit, 60).await;
    server.kill();
    let (code, said) = verify(&audit);
    assert_eq!(code, Some(0), "{said}");
    let server = server.restart();
    execute_some(&server, 1).await;
    recorded(&audit, 63).await;
    let all = "63 records, of which 63 are signed and 0 are not yet\n";
    eventually("all is signed", async || verify(&audit) == (Some(0), all.to_owned())).await;

    let entries = audit.join("tile/entries/000.p/63");
    let text = String::from_utf8_lossy(&std::fs::read(&entries).unwrap()).into_owned();
    assert!(text.contains("not_permitted"));
    let mut bytes = std::fs::read(&entries).unwrap();
    let at = bytes.windows(13).position(|window| window == b"not_permitted").unwrap();
    bytes[at..at + 13].copy_from_slice(b"now_permitted");
    std::fs::write(&entries, bytes).unwrap();
    let (code, said) = verify(&audit);
    assert_eq!((code, said.as_str()), (Some(5), "record 0 is not the one that was logged\n"));
}

#[tokio::test]
async fn nothing_runs_unaudited_unless_the_operator_says_so() {
    // Every write to it fails for want of room.
    for (on_failure, runs) in [("refuse", false), ("continue", true)] {
        let setting = format!("audit.on_failure={on_failure}");
        let server = Server::with(&["audit.checkpoint_ms=20", &setting]);
        load(&server).await;
        execute_some(&server, 1).await;
        let audit = folder(&server);
        recorded(&audit, 3).await;
        eventually("a checkpoint is there", async || audit.join("checkpoint").exists()).await;
        std::fs::remove_dir_all(&audit).unwrap();
        std::fs::write(&audit, "in the way").unwrap();
        let mut client = server.client().await;
        // The first may still be let in; its record is what cannot be kept.
        let _ = client.execute_agent(execute("a.cat", "x")).await;
        eventually("the log fails", async || server.log().contains("audit log")).await;
        let answer = client.execute_agent(execute("a.cat", "x")).await;
        assert_eq!(answer.is_ok(), runs, "{answer:?}");
        if let Err(status) = answer {
            assert!(status.message().contains("audit log"), "{status}");
        }
    }
}
