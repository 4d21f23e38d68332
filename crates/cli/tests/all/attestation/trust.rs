//! Who is trusted how far, by everything that a rule can name; roots and lists as single files; and the other way of loading.

use std::time::Duration;

use chrono::Utc;
use mentat_attestation::Certificate;
use mentat_proto::v1::load_agent_stream_request::Part;
use mentat_proto::v1::{LoadAgentHeader, LoadAgentStreamRequest};

use super::authority::{Authority, file};
use super::{CAT, READ_DATA, code, load, run, server};
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
