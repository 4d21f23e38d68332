//! Attestations beside their manifests, and roots as they are given: rightly, wrongly, or not at all.

use mentat_manifest::Attestation;
use mentat_proto::v1::LoadAgentRequest;
use serde_json::json;
use tonic::Code;

use super::authority::{Authority, file, with};
use super::{describe, encode, load, post, run, server};
use crate::guests::{ECHO, assemble, manifest};
use crate::program::{agent_folder, mentat, text};
use crate::server::{Server, eventually};

#[tokio::test]
async fn an_attestation_beside_its_manifest_is_as_good_as_one_in_it_and_none_may_contradict_it() {
    let authority = Authority::new();
    authority.signer("dev");
    authority.signer("other");
    let server = server(&authority, &["attestation.mode=required"]);
    let module = assemble(ECHO);
    let beside = |id: &str| {
        let manifest = manifest(id, "1.0.0");
        let block = authority.attest("dev", &manifest, &module);
        (manifest, serde_json::to_string(&block).unwrap())
    };
    let request = |manifest: String, attestation: String| LoadAgentRequest {
        manifest,
        attestation,
        wasm_bytes: module.clone().into(),
        ..LoadAgentRequest::default()
    };
    let (plain, block) = beside("a.grpc");
    let mut client = server.client().await;
    client.load_agent(request(plain.clone(), block.clone())).await.unwrap();
    let parsed: Attestation = serde_json::from_str(&block).unwrap();
    let same = LoadAgentRequest { replace: true, ..request(with(&plain, &parsed), block.clone()) };
    client.load_agent(same).await.unwrap();
    let other = serde_json::to_string(&authority.attest("other", &plain, &module)).unwrap();
    let refused = client.load_agent(request(with(&plain, &parsed), other)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    assert!(refused.message().contains("another than the one in it"), "{refused}");
    let refused = client.load_agent(request(plain, "algorithm: [".into())).await.unwrap_err();
    assert!(refused.message().starts_with("the attestation: line 1"), "{refused}");

    let (plain, block) = beside("a.http");
    let body = json!({ "manifest": plain, "module_base64": encode(&module), "attestation": block });
    let (status, told) = post(&server, "/v1/agents", &body, None);
    assert_eq!((status, &told["signature"]["signer"]["name"]), (200, &json!("dev@example.com")), "{told}");

    let (plain, block) = beside("a.form");
    let part = |name: &str, content: &[u8]| {
        [
            format!("--B\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n").as_bytes(),
            content,
            b"\r\n",
        ]
        .concat()
    };
    let parts =
        [part("manifest", plain.as_bytes()), part("attestation", block.as_bytes()), part("module", &module)];
    let form = [parts.concat(), b"--B--\r\n".to_vec()].concat();
    let url = format!("{}/v1/agents", server.http);
    let answer = ureq::post(url).content_type("multipart/form-data; boundary=B").send(&form[..]).unwrap();
    assert_eq!(answer.status(), 200);

    let (plain, block) = beside("a.cli");
    let folder = agent_folder(&plain, &module);
    let path = file(folder.path(), "attestation.json", &block);
    let arguments = ["--attestation", &path, "--server", &server.grpc];
    let output = mentat().arg("load").arg(folder.path()).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).trim_end().ends_with("signed dev@example.com"), "{}", text(&output.stdout));
    // As `mentat sign --detached` prints it.
    let (key, certificate) = (authority.path("dev.key"), authority.path("dev.pem"));
    let mut sign = mentat();
    sign.arg("sign").arg(folder.path()).args(["--detached", "--key"]).arg(key).arg("--cert").arg(certificate);
    sign.arg("--chain").arg(authority.path("root.pem"));
    let printed = sign.output().unwrap();
    assert!(printed.status.success(), "{}", text(&printed.stderr));
    let printed = text(&printed.stdout);
    assert!(printed.starts_with("attestation:"), "{printed}");
    file(folder.path(), "attestation.json", &printed);
    let output = mentat().arg("load").arg(folder.path()).args(arguments).arg("--replace").output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let body = json!({ "manifest": plain, "module_base64": encode(&module), "attestation": printed, "replace": true });
    assert_eq!(post(&server, "/v1/agents", &body, None).0, 200);
    file(folder.path(), "attestation.json", "{}");
    let output = mentat().arg("load").arg(folder.path()).args(arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("missing field"), "{}", text(&output.stderr));

    // They are kept, and asked for again after a restart.
    let server = server.restart();
    for id in ["a.grpc", "a.http", "a.form", "a.cli"] {
        assert_eq!(run(&server, id).await, Ok(0), "{id}");
        assert_eq!(describe(&server, id).await.signature.unwrap().signer, "dev@example.com");
    }
}

#[tokio::test]
async fn roots_that_cannot_be_read_keep_a_server_from_starting_and_later_stay_as_they_were() {
    let authority = Authority::new();
    authority.signer("dev");
    let folder = tempfile::tempdir().unwrap();
    let refuse = |setting: &str, says: &str| {
        let output =
            mentat().args(["serve", "--set", setting, "--set", "server.data_dir=/nowhere"]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{setting}");
        assert!(text(&output.stderr).contains(says), "{setting}: {}", text(&output.stderr));
    };
    refuse("attestation.roots=[\"/no/such/folder\"]", "`/no/such/folder`");
    refuse(&format!("attestation.roots=[\"{}\"]", folder.path().display()), "nothing in it that is read");
    file(folder.path(), "bad.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    refuse(&format!("attestation.roots=[\"{}\"]", folder.path().display()), "bad.pem");
    authority.signer("leaf");
    let leaf = format!("attestation.roots=[\"{}\"]", authority.path("leaf.pem").display());
    refuse(&leaf, "not that of an authority");
    refuse("attestation.mode=required", "attestation.roots");
    refuse(
        "attestation.trust=[{ level = \"verified\", email = \"*@*\" }]",
        "`attestation.trust`: `*@*` is no email address",
    );
    refuse("attestation.tenants=[{ tenant = \"lba\", mode = \"off\" }]", "nobody is of the tenant `lba`");
    refuse("attestation.clock_skew_ms=999999999999", "is more than a day");

    let server = server(&authority, &["attestation.mode=required"]);
    let module = assemble(ECHO);
    let signed = authority.sign("dev", &manifest("a.echo", "1.0.0"), &module);
    assert_eq!(load(&server, &signed, &module).await.as_deref(), Ok("signed"));
    file(&authority.path("roots"), "root.pem", "broken");
    eventually("it is said", async || server.log().contains("those before stay in force")).await;
    assert_eq!(run(&server, "a.echo").await, Ok(0));
    // Roots of others in its place: what was signed below the old one counts no more.
    let stranger = Authority::new();
    std::fs::copy(stranger.path("root.pem"), authority.path("roots/root.pem")).unwrap();
    eventually("the other root is trusted", async || {
        run(&server, "a.echo").await == Err("certificate_forged".into())
    })
    .await;
}

#[tokio::test]
async fn without_roots_a_signature_is_worth_nothing_and_that_is_told() {
    let authority = Authority::new();
    authority.signer("dev");
    let server = Server::start();
    let module = assemble(ECHO);
    let signed = authority.sign("dev", &manifest("a.echo", "1.0.0"), &module);
    assert_eq!(load(&server, &signed, &module).await.as_deref(), Ok("untrusted"));
    assert!(server.log().contains("there are no roots to verify that by"), "{}", server.log());
    assert_eq!(run(&server, "a.echo").await, Ok(0));
    assert_eq!(
        load(&server, &manifest("a.echo", "1.0.1"), &module).await,
        Err("unsigned_over_signed".into())
    );
}

#[test]
fn an_agent_is_inspected_by_the_configuration_of_the_server_that_is_to_load_it() {
    let authority = Authority::new();
    authority.signer("dev");
    let module = assemble(ECHO);
    let plain = manifest("a.echo", "1.0.0");
    let signed = authority.sign("dev", &plain, &module);
    let folder = tempfile::tempdir().unwrap();
    let config = |name: &str, text: &str| {
        let roots = authority.path("roots");
        file(folder.path(), name, &format!("[attestation]\nroots = [\"{}\"]\n{text}", roots.display()))
    };
    let trusting = config(
        "trusting.toml",
        "mode = \"required\"\n[[attestation.trust]]\nlevel = \"verified\"\nemail = \"dev@example.com\"\n",
    );
    let demanding = config(
        "demanding.toml",
        "[[attestation.minimum_versions]]\nagent = \"a.echo\"\nversion = \"2.0.0\"\ntenants = [\"strict\"]\n\
         [[auth.api_keys]]\nname = \"ci\"\ntenant = \"strict\"\nsha256 = \
         \"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"\n",
    );
    let inspect = |manifest: &str, config: &str, more: &[&str]| {
        let agent = agent_folder(manifest, &module);
        let inspected = mentat()
            .arg("inspect")
            .arg(agent.path())
            .args(["--config", config, "--json"])
            .args(more)
            .output()
            .unwrap();
        assert!(inspected.status.success(), "{}", text(&inspected.stderr));
        let report: serde_json::Value = serde_json::from_slice(&inspected.stdout).unwrap();
        report["agent"]["standing"].clone()
    };
    let found = inspect(&signed, &trusting, &[]);
    assert_eq!((&found["trust"], &found["signer"]), (&json!("verified"), &json!("dev@example.com")));
    assert_eq!(inspect(&plain, &trusting, &[])["refused"], "unsigned");
    let altered = signed.replace("1.0.0", "1.0.1");
    assert_eq!(inspect(&altered, &trusting, &[])["refused"], "signature_mismatch");
    assert_eq!(inspect(&signed, &demanding, &[])["trust"], "signed");
    assert_eq!(inspect(&signed, &demanding, &["--tenant", "strict"])["refused"], "version_below_minimum");
    let agent = agent_folder(&signed, &module);
    let shown = mentat().arg("inspect").arg(agent.path()).args(["--config", &trusting]).output().unwrap();
    assert!(text(&shown.stdout).contains("verified, signed by `dev@example.com`"), "{}", text(&shown.stdout));
    let missing =
        mentat().arg("inspect").arg(agent.path()).args(["--config", "/not/there"]).output().unwrap();
    assert_eq!(missing.status.code(), Some(2), "{}", text(&missing.stderr));
}
