//! Who is trusted how far, by everything that a rule can name; roots and lists as single files; and the other way of loading.

use std::time::Duration;

use chrono::Utc;
use mentat_attestation::Certificate;
use mentat_proto::v1::load_agent_stream_request::Part;
use mentat_proto::v1::{LoadAgentHeader, LoadAgentStreamRequest};

use super::authority::{Authority, file, with};
use super::{CAT, READ_DATA, code, decode, describe, encode, load, records, run, server};
use crate::guests::{ECHO, EXIT_3, assemble, manifest, manifest_with};
use crate::server::{Server, eventually};

#[tokio::test]
async fn a_signer_is_trusted_by_subject_organisation_or_root_and_policies_go_by_the_level() {
    let (authority, other) = (Authority::new(), Authority::new());
    for signer in ["lead", "dev"] {
        authority.signer(signer);
    }
    other.signer("partner");
    std::fs::copy(other.path("root.pem"), authority.path("roots/other.pem")).unwrap();
    let root = Certificate::from_pem(&std::fs::read_to_string(other.path("root.pem")).unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    file(folder.path(), "hello.txt", "hello");
    std::fs::create_dir(folder.path().join("policies")).unwrap();
    let policy = "@id(\"own\") permit (principal, action, resource in Path::\"/data\") when { principal.trust == \"verified\" };";
    file(&folder.path().join("policies"), "own.cedar", policy);
    let mounts = format!("sandbox.mounts=[{{ guest = \"/data\", host = \"{}\" }}]", folder.path().display());
    let policies = format!("policy.dir={}/policies", folder.path().display());
    let module = assemble(CAT);
    let lead = manifest_with("a.lead", "1.0.0", READ_DATA);
    let lead = authority.sign("lead", &lead, &module);
    let dev = authority.sign("dev", &manifest_with("a.dev", "1.0.0", READ_DATA), &module);
    let partner = other.sign("partner", &manifest_with("a.partner", "1.0.0", READ_DATA), &module);
    let by_root = format!("root = \"{}\"", root.fingerprint());
    for (rule, expected) in [
        ("subject = \"CN=lead,O=Example\"", ["verified", "signed", "signed"]),
        ("organisation = \"Example\"", ["verified", "verified", "verified"]),
        ("organisation = \"example\"", ["signed", "signed", "signed"]),
        (&by_root, ["signed", "signed", "verified"]),
        (&format!("{by_root}, email = \"lead@example.com\""), ["signed", "signed", "signed"]),
    ] {
        let trust = format!("attestation.trust=[{{ level = \"verified\", {rule} }}]");
        let server = server(&authority, &[&trust, &mounts, &policies]);
        for ((id, signed), expected) in
            [("a.lead", &lead), ("a.dev", &dev), ("a.partner", &partner)].into_iter().zip(expected)
        {
            assert_eq!(load(&server, signed, &module).await.as_deref(), Ok(expected), "{rule}: {id}");
            let exit = if expected == "verified" { 0 } else { 8 };
            assert_eq!(run(&server, id).await, Ok(exit), "{rule}: {id}");
        }
    }
}

#[tokio::test]
async fn roots_and_lists_are_single_files_as_well_and_these_are_watched() {
    let authority = Authority::new();
    authority.signer("dev");
    let month = Utc::now() + Duration::from_secs(30 * 24 * 3600);
    authority.list(month);
    let setting =
        |key: &str, path: &str| format!("attestation.{key}=[\"{}\"]", authority.path(path).display());
    let (roots, crls) = (setting("roots", "root.pem"), setting("crls", "crls/root.crl"));
    let server = Server::with(&[&roots, &crls, "attestation.reload_ms=20", "attestation.missing_crl=refuse"]);
    let module = assemble(ECHO);
    let signed = authority.sign("dev", &manifest("a.echo", "1.0.0"), &module);
    assert_eq!(load(&server, &signed, &module).await.as_deref(), Ok("signed"));
    authority.revoke("dev");
    authority.list(month);
    let revoked = || Err("certificate_revoked".to_owned());
    eventually("the revocation is heard of", async || run(&server, "a.echo").await == revoked()).await;
}

#[tokio::test]
async fn a_module_that_comes_in_pieces_is_verified_as_one_that_comes_whole() {
    let authority = Authority::new();
    authority.signer("dev");
    let server = server(&authority, &["attestation.mode=required"]);
    let (module, other) = (assemble(ECHO), assemble(EXIT_3));
    let plain = manifest("a.echo", "1.0.0");
    let signed = authority.sign("dev", &plain, &module);
    let load = async |manifest: &str, module: &[u8]| {
        let header = LoadAgentHeader {
            manifest: manifest.into(),
            total_bytes: module.len() as u64,
            ..LoadAgentHeader::default()
        };
        let pieces = module.chunks(7).map(|piece| Part::Chunk(piece.to_vec().into()));
        let parts: Vec<_> = std::iter::once(Part::Header(header))
            .chain(pieces)
            .map(|part| LoadAgentStreamRequest { part: Some(part) })
            .collect();
        let loaded = server.client().await.load_agent_stream(tokio_stream::iter(parts)).await;
        loaded.map(|answer| answer.into_inner().signature.unwrap().trust).map_err(|status| code(&status))
    };
    assert_eq!(load(&plain, &module).await, Err("unsigned".into()));
    assert_eq!(load(&signed, &other).await, Err("signature_mismatch".into()));
    assert_eq!(load(&signed, &module).await.as_deref(), Ok("signed"));
}

/// The order of P-256 (FIPS 186-4, appendix D).
const ORDER: &str = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";

/// (r, n - s) of a signature (r, s) on P-256.
fn other_half(signature: &[u8]) -> Vec<u8> {
    let r_end = 4 + usize::from(signature[3]);
    let (r, s) = (&signature[2..r_end], &signature[r_end + 2..]);
    let mut difference = hex::decode(ORDER).unwrap();
    let mut borrow = 0;
    for place in (0..32).rev() {
        let digit = s.len().checked_sub(32 - place).map_or(0, |index| i16::from(s[index]));
        let left = i16::from(difference[place]) - digit - borrow;
        borrow = i16::from(left < 0);
        difference[place] = u8::try_from(left.rem_euclid(256)).unwrap();
    }
    let mut s: Vec<u8> = difference.into_iter().skip_while(|byte| *byte == 0).collect();
    if s[0] & 0x80 != 0 {
        s.insert(0, 0);
    }
    let both = [r, &[2, u8::try_from(s.len()).unwrap()], &s].concat();
    [&[0x30, u8::try_from(both.len()).unwrap()], both.as_slice()].concat()
}

#[tokio::test]
async fn whoever_writes_the_other_signature_of_a_statement_has_gained_nothing() {
    let authority = Authority::new();
    authority.signer("dev");
    let settings = ["attestation.mode=required", "audit.checkpoint_ms=20"];
    let server = server(&authority, &settings);
    let module = assemble(ECHO);
    let plain = manifest("a.echo", "1.0.0");
    let block = authority.attest("dev", &plain, &module);
    assert_eq!(load(&server, &with(&plain, &block), &module).await.as_deref(), Ok("signed"));
    let before = describe(&server, "a.echo").await.signature.unwrap();
    let mut other = block.clone();
    other.signature = encode(&other_half(&decode(&block.signature)));
    assert_ne!(other.signature, block.signature);
    // Another text of the version that is loaded takes its place only where that is asked for, whatever differs in it.
    let request = |manifest: String, replace| mentat_proto::v1::LoadAgentRequest {
        manifest,
        wasm_bytes: module.clone().into(),
        replace,
        ..mentat_proto::v1::LoadAgentRequest::default()
    };
    let mut client = server.client().await;
    assert!(client.load_agent(request(with(&plain, &other), false)).await.is_err());
    client.load_agent(request(with(&plain, &other), true)).await.unwrap();
    assert_eq!(describe(&server, "a.echo").await.signature.unwrap(), before);
    assert_eq!(run(&server, "a.echo").await, Ok(0));
    // No other statement is signed by it, and no record has either of them.
    for manifest in [manifest("a.echo", "1.0.1"), manifest("a.other", "1.0.0")] {
        assert_eq!(load(&server, &with(&manifest, &other), &module).await, Err("signature_mismatch".into()));
    }
    eventually("it is recorded", async || records(&server, &["--event", "attestation"]).len() == 2).await;
    let recorded = format!("{:?}", records(&server, &[]));
    assert!(!recorded.contains(&block.signature) && !recorded.contains(&other.signature), "{recorded}");
}
