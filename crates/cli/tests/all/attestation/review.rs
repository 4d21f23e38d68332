//! Stored agents whose signatures no longer hold, or never did: the operator is told without anybody having to ask for them.

use std::time::Duration;

use chrono::Utc;
use serde_json::json;

use super::authority::Authority;
use super::{encode, load, post, records, run, server};
use crate::guests::{ECHO, assemble, manifest};
use crate::program::{mentat, text};
use crate::server::{Server, eventually};

#[tokio::test]
async fn agents_that_no_longer_hold_are_told_of_when_the_server_starts() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    authority.signer("dev");
    let settings = ["attestation.reload_ms=0", "audit.checkpoint_ms=20"];
    let server = server(&authority, &settings);
    let module = assemble(ECHO);
    for id in ["a.one", "a.two"] {
        let signed = authority.sign("dev", &manifest(id, "1.0.0"), &module);
        assert_eq!(load(&server, &signed, &module).await.as_deref(), Ok("signed"));
    }
    assert_eq!(load(&server, &manifest("a.plain", "1.0.0"), &module).await.as_deref(), Ok("untrusted"));
    std::fs::copy(stranger.path("root.pem"), authority.path("roots/root.pem")).unwrap();
    let server = server.restart();
    eventually("it is told", async || server.log().contains("agents are stored that may not run")).await;
    assert_eq!(server.metric("attestation_agents{trust=\"refused\"}"), 2.0);
    let log = server.log();
    for id in ["a.one", "a.two"] {
        assert!(log.lines().any(|line| line.contains("agent refused") && line.contains(id)), "{id}: {log}");
    }
    assert!(!log.lines().any(|line| line.contains("agent refused") && line.contains("a.plain")), "{log}");
    eventually("it is recorded", async || {
        let recorded = records(&server, &["--event", "attestation"]);
        recorded.len() == 2 && recorded.iter().all(|one| one["rejection"]["code"] == "certificate_forged")
    })
    .await;
    // Not once more for each who asks.
    assert_eq!(run(&server, "a.one").await, Err("certificate_forged".into()));
    let listing = mentat().args(["list", "--server", &server.grpc]).output().unwrap();
    let listing = text(&listing.stdout);
    let why = "refused: certificate_forged\n    a certificate of the chain was not signed by the key of its issuer; have it issued again\n";
    assert_eq!(listing.matches(why).count(), 2, "{listing}");
    assert_eq!(records(&server, &["--event", "attestation"]).len(), 2);
}

#[tokio::test]
async fn agents_that_no_longer_hold_are_told_of_when_the_roots_are_replaced() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    authority.signer("dev");
    let server = server(&authority, &[]);
    let module = assemble(ECHO);
    let signed = authority.sign("dev", &manifest("a.one", "1.0.0"), &module);
    assert_eq!(load(&server, &signed, &module).await.as_deref(), Ok("signed"));
    assert!(!server.log().contains("agent refused"));
    std::fs::copy(stranger.path("root.pem"), authority.path("roots/root.pem")).unwrap();
    eventually("it is told", async || {
        server.log().lines().any(|line| line.contains("agent refused") && line.contains("a.one"))
    })
    .await;
}

#[tokio::test]
async fn agents_that_are_tolerated_are_told_of_when_the_server_starts() {
    let authority = Authority::new();
    authority.signer("dev");
    let module = assemble(ECHO);
    let server = Server::start();
    let signed = authority.sign("dev", &manifest("a.signed", "1.0.0"), &module);
    assert_eq!(load(&server, &signed, &module).await.as_deref(), Ok("untrusted"));
    let server = server.restart();
    let says = "agent runs all the same: it is signed, and there are no roots to verify that by";
    eventually("it is told", async || server.log().contains(says)).await;
    assert!(!server.log().contains("may not run"), "{}", server.log());

    let day = (Utc::now() + Duration::from_secs(3600)).to_rfc3339();
    let from = format!("attestation.enforce_from={day}");
    let server = super::server(&authority, &["attestation.mode=required", &from]);
    assert_eq!(load(&server, &manifest("a.plain", "1.0.0"), &module).await.as_deref(), Ok("untrusted"));
    let server = server.restart();
    let says = "agent runs all the same: it is not signed, and will be refused from";
    eventually("it is told", async || server.log().contains(says)).await;
    assert_eq!(run(&server, "a.plain").await, Ok(0));
}

#[tokio::test]
async fn an_attestation_over_http_is_text_or_an_object_and_else_it_is_told_what_is_wanted() {
    let authority = Authority::new();
    authority.signer("dev");
    let server = server(&authority, &["attestation.mode=required"]);
    let module = assemble(ECHO);
    for (number, as_object) in [(1, true), (2, false)] {
        let plain = manifest(&format!("a.http{number}"), "1.0.0");
        let block = serde_json::to_value(authority.attest("dev", &plain, &module)).unwrap();
        let block = if as_object { block } else { json!(block.to_string()) };
        let body = json!({ "manifest": plain, "module_base64": encode(&module), "attestation": block });
        let (status, told) = post(&server, "/v1/agents", &body, None);
        assert_eq!((status, &told["signature"]["trust"]), (200, &json!("signed")), "{told}");
    }
    let plain = manifest("a.http3", "1.0.0");
    for (block, says) in [
        (json!(["a"]), "must be the block as an object, or as text in YAML or JSON"),
        (json!(7), "must be the block as an object"),
        (json!({ "version": "1.0" }), "the attestation: line 1"),
        (json!("algorithm: ["), "the attestation: line 1"),
    ] {
        let body = json!({ "manifest": plain, "module_base64": encode(&module), "attestation": block });
        let (status, told) = post(&server, "/v1/agents", &body, None);
        assert_eq!((status, &told["error"]["reason"]), (400, &json!("INVALID_REQUEST")), "{told}");
        assert!(told["error"]["message"].as_str().unwrap().contains(says), "{told}");
    }
    let body = json!({ "manifest": plain, "module_base64": encode(&module), "attestation": null });
    let (_, told) = post(&server, "/v1/agents", &body, None);
    assert_eq!(told["error"]["details"]["code"], "unsigned", "{told}");
}
