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
    assert_eq!(execution["execution"]["host_calls"], serde_json::json!({ "wasi_files": 2, "wasi_exit": 1 }));

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
async fn on_a_full_disk_nothing_runs_unaudited_unless_the_operator_says_so_and_no_record_is_lost() {
    for (on_failure, runs) in [("refuse", false), ("continue", true)] {
        let setting = format!("audit.on_failure={on_failure}");
        let server = Server::with_growing_files(&["audit.checkpoint_ms=20", &setting]);
        load(&server).await;
        execute_some(&server, 1).await;
        let audit = folder(&server);
        let signed = "3 records, of which 3 are signed and 0 are not yet\n";
        eventually("all is signed", async || verify(&audit) == (Some(0), signed.to_owned())).await;
        // Room for a part of the next records.
        server.limit_files(Some(700));
        let mut client = server.client().await;
        // It is let in; its records are those that cannot be kept.
        assert!(client.execute_agent(execute("a.cat", "x")).await.is_ok());
        let mut executed = 2;
        eventually("the log fails", async || server.log().contains("File too large")).await;
        for _ in 0..3 {
            let answer = client.execute_agent(execute("a.cat", "x")).await;
            executed += usize::from(answer.is_ok());
            assert_eq!(answer.is_ok(), runs, "{answer:?}");
            if let Err(status) = answer {
                assert!(status.message().contains("audit log"), "{status}");
            }
        }
        // What was written before there was no room is whole.
        let (code, said) = verify(&audit);
        assert!(code == Some(0) && !said.contains("not written whole"), "{said}");
        server.limit_files(None);
        eventually("executions are let in again", async || {
            let is_let_in = client.execute_agent(execute("a.cat", "x")).await.is_ok();
            executed += usize::from(is_let_in);
            is_let_in
        })
        .await;
        eventually("all executions are recorded", async || {
            query(&audit, &["--event", "execution"]).len() == executed
        })
        .await;
        assert_eq!(verify(&audit).0, Some(0));
        assert!(server.log().contains("the audit log is written again"));
    }
}

#[tokio::test]
async fn a_second_server_does_not_write_the_log_of_the_first() {
    let server = Server::start();
    let (data, audit) = (tempfile::tempdir().unwrap(), folder(&server));
    let setting = format!("audit.dir={}", audit.display());
    let arguments =
        ["serve", "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0", "--set", &setting, "--data-dir"];
    let output = run(&[&arguments[..], &[data.path().to_str().unwrap()]].concat());
    assert!(!output.status.success());
    let said = text(&output.stderr);
    assert!(
        said.contains("is written by another server") && said.contains(audit.to_str().unwrap()),
        "{said}"
    );
}

#[tokio::test]
async fn old_records_go_to_the_archive_and_are_found_there() {
    let archive = tempfile::tempdir().unwrap();
    let path = archive.path().to_str().unwrap();
    let setting = format!("audit.archive={path}");
    let server = Server::with(&["audit.checkpoint_ms=20", "audit.retain_bytes=1", &setting]);
    load(&server).await;
    execute_some(&server, 90).await;
    let audit = folder(&server);
    eventually("the first bundle is archived", async || {
        archive.path().join("tile/entries/000").exists() && !audit.join("tile/entries/000").exists()
    })
    .await;
    let leave = &query(&audit, &["--event", "retention"])[0];
    assert_eq!(leave["retention"]["first_kept"], 256);
    eventually("all is signed", async || verify(&audit).1.starts_with("15 records, of which 15 are signed"))
        .await;
    let (code, said) = verify(&audit);
    let expected = "records 0 to 255 were archived by retention, as record ";
    assert!(code == Some(0) && said.contains(expected), "{said}");
    assert_eq!((query(&audit, &[]).len(), query(&audit, &["--archive", path]).len()), (15, 271));
    let told = text(&run(&["audit", "query", audit.to_str().unwrap()]).stderr);
    assert!(told.starts_with("records 0 to 255 are not in the folder; `--archive`"), "{told}");
    let policies = tempfile::tempdir().unwrap();
    std::fs::write(policies.path().join("new.cedar"), "permit (principal, action, resource);").unwrap();
    let (policies, log) = (policies.path().to_str().unwrap(), audit.to_str().unwrap());
    let replay = ["policy", "replay", "--policy", policies, "--audit", log];
    for (more, decisions, told) in [(&[][..], 9, "records 0 to 255 are not"), (&["--archive", path], 180, "")]
    {
        let output = run(&[&replay, more].concat());
        assert!(
            text(&output.stdout).contains(&format!(" of {decisions} decisions")),
            "{}",
            text(&output.stdout)
        );
        assert!(text(&output.stderr).starts_with(told), "{}", text(&output.stderr));
    }
    let output = run(&["audit", "verify", audit.to_str().unwrap(), "--archive", path]);
    assert_eq!(text(&output.stdout), "271 records, of which 271 are signed and 0 are not yet\n");
    std::fs::remove_file(audit.join("tile/0/001.p/15")).unwrap();
    let output = run(&["audit", "verify", audit.to_str().unwrap(), "--archive", path, "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["faults"][0], "the hashes of records 256 to 270 are missing or were changed");
}

#[tokio::test]
async fn records_are_printed_for_security_tools() {
    let server = Server::with(&["audit.checkpoint_ms=20"]);
    load(&server).await;
    execute_some(&server, 1).await;
    let folder = folder(&server);
    recorded(&folder, 3).await;
    let events = query(&folder, &["--format", "ocsf"]);
    let types: Vec<u64> = events.iter().map(|event| event["type_uid"].as_u64().unwrap()).collect();
    assert_eq!(types, [600_302, 600_302, 600_204]);
    assert_eq!(events[0]["actor"]["app_name"], "a.cat");
    let last = run(&["audit", "tail", folder.to_str().unwrap(), "-n", "1", "--format", "ocsf"]);
    assert!(
        text(&last.stdout).contains("\"class_name\":\"Application Lifecycle\""),
        "{}",
        text(&last.stdout)
    );
}
