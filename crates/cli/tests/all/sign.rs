//! `mentat sign` and `mentat verify`: what is written into a manifest, and what is said of it.

use serde_json::Value;

use crate::guests::{EXIT_3, assemble};
use crate::pki::Desk;
use crate::program::text;

const SIGN: &str = "sign agent --key alice@example.com.key --cert alice@example.com.crt";
const VERIFY: &str = "verify agent --roots authority/certs/root_ca.crt";

/// A manifest as people write them.
const WRITTEN: &str = "\
# The team's agent.
runtime: wasm     # on Wasmtime
id: 'team.agent'

version: 1.0.0
module: agent.wasm
description: >
  folded
  text
wasm: { fuel: 1000000 }   # plenty
x-team:
- one
# the end
";

fn desk(manifest: &str) -> Desk {
    let desk = Desk::with_alice();
    desk.write("agent/manifest.yaml", manifest);
    desk.write("agent/agent.wasm", assemble(EXIT_3));
    desk
}

/// The text with what differs from run to run taken out.
fn golden(text: &str) -> String {
    let mut lines = Vec::new();
    let mut in_pem = false;
    for line in text.lines() {
        let (key, _) = line.split_once(": ").unwrap_or((line, ""));
        let end = line.trim_start() == "-----END CERTIFICATE-----";
        if matches!(key.trim(), "timestamp" | "signature") {
            lines.push(format!("{key}: …"));
        } else if !in_pem || end {
            lines.push(line.to_owned());
        }
        in_pem = (in_pem || line.trim_start() == "-----BEGIN CERTIFICATE-----") && !end;
    }
    lines.join("\n") + "\n"
}

#[test]
fn the_block_is_added_and_every_other_byte_stays() {
    let desk = desk(WRITTEN);
    desk.done(SIGN);
    let signed = desk.read("agent/manifest.yaml");
    assert!(signed.starts_with(WRITTEN), "{signed}");
    let block = "\
attestation:
  version: \"1.0\"
  timestamp: …
  signer:
    subject: \"CN=alice@example.com,O=Example\"
    issuer: \"CN=Example Agent CA,O=Example\"
  algorithm: \"ECDSA-P256\"
  signature: …
  certificate_chain:
    - |
      -----BEGIN CERTIFICATE-----
      -----END CERTIFICATE-----
    - |
      -----BEGIN CERTIFICATE-----
      -----END CERTIFICATE-----
";
    assert_eq!(golden(&signed), format!("{WRITTEN}{block}"));
    desk.done(VERIFY);
    assert!(desk.done("validate agent").contains("signed"));
    // Again: replaced, and everything else as it was.
    desk.done(SIGN);
    let again = desk.read("agent/manifest.yaml");
    assert_eq!(golden(&again), golden(&signed));
    assert_ne!(again, signed);
    desk.done(VERIFY);
}

#[test]
fn manifests_in_other_spellings_are_signed_as_they_are() {
    for manifest in [
        WRITTEN.replace('\n', "\r\n"),
        WRITTEN.trim_end().to_owned(),
        format!("---\n{WRITTEN}...\n"),
        "{\"id\": \"team.agent\", \"version\": \"1.0.0\", \"runtime\": \"wasm\", \"module\": \"agent.wasm\"}"
            .to_owned(),
        "{\n  id: team.agent, # in braces\n  version: 1.0.0,\n  runtime: wasm, module: agent.wasm,\n}\n"
            .to_owned(),
    ] {
        let desk = desk(&manifest);
        desk.done(SIGN);
        desk.done(VERIFY);
        let signed = desk.read("agent/manifest.yaml");
        for line in manifest.lines().filter(|line| !line.starts_with('{')) {
            assert!(signed.contains(line), "{line}: {signed}");
        }
        if manifest.contains('\r') {
            assert_eq!(signed.matches('\n').count(), signed.matches("\r\n").count());
        }
        if manifest.starts_with("{\"") {
            let json: Value = serde_json::from_str(&signed).unwrap();
            assert_eq!(json["attestation"]["algorithm"], "ECDSA-P256");
        }
    }
}

#[test]
fn the_file_keeps_its_permissions_and_a_link_leads_where_it_led() {
    let desk = desk(WRITTEN);
    desk.other("chmod", &["640", "agent/manifest.yaml"]);
    desk.other("mv", &["agent/manifest.yaml", "own.yaml"]);
    std::os::unix::fs::symlink("../own.yaml", desk.path().join("agent/manifest.yaml")).unwrap();
    desk.done(SIGN);
    assert!(desk.path().join("agent/manifest.yaml").is_symlink());
    assert_eq!(desk.mode("own.yaml"), 0o640);
    assert!(desk.read("own.yaml").contains("attestation:"));
}

#[test]
fn what_was_changed_after_signing_is_rejected_with_its_cause() {
    let desk = desk(WRITTEN);
    let cause = |what: &str| {
        let output = desk.command(&format!("{VERIFY} --json")).output().unwrap();
        assert_eq!(output.status.code(), Some(4), "{what}");
        let reply: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(reply["error"]["reason"], "ATTESTATION_REJECTED");
        reply["error"]["details"]["cause"].as_str().unwrap().to_owned()
    };
    assert_eq!(cause("nothing"), "unsigned");
    desk.done(SIGN);
    let signed = desk.read("agent/manifest.yaml");
    let reply: Value = serde_json::from_str(&desk.done(&format!("{VERIFY} --json"))).unwrap();
    assert_eq!(reply["valid"], true);
    assert_eq!(reply["signer"]["email"], "alice@example.com");
    assert_eq!(reply["signer"]["algorithm"], "ECDSA-P256");

    desk.write("agent/manifest.yaml", signed.replace("fuel: 1000000", "fuel: 1000001"));
    assert_eq!(cause("a budget"), "signature_mismatch");
    desk.write("agent/manifest.yaml", signed.replace("# plenty", "# a comment says nothing"));
    desk.done(VERIFY);
    desk.write("agent/manifest.yaml", signed.replace("subject: \"CN=alice", "subject: \"CN=bob"));
    assert_eq!(cause("a name"), "signer_mismatch");
    desk.write("agent/manifest.yaml", &signed);
    desk.write("agent/agent.wasm", [assemble(EXIT_3), vec![0, 1, 0]].concat());
    assert_eq!(cause("the module"), "signature_mismatch");
    desk.write("agent/agent.wasm", assemble(EXIT_3));

    desk.done("pki init --authority other --organisation Other");
    let told = desk.refused("verify agent --roots other/certs/root_ca.crt", 4);
    assert!(told.contains("is not among the trusted roots") && told.contains("manifest.yaml"), "{told}");
    let told = desk.refused(&format!("{VERIFY} --crl other/crl --require-crl"), 4);
    assert!(told.contains("has no revocation list"), "{told}");
    assert!(desk.refused("verify agent", 2).contains("--roots"));
    let told = desk.refused("verify agent --roots agent/agent.wasm", 2);
    assert!(told.contains("`agent/agent.wasm` cannot be used"), "{told}");
}

#[test]
fn a_block_that_stands_by_itself_leaves_the_manifest_alone() {
    let desk = desk(WRITTEN);
    desk.write("block.yaml", desk.done(&format!("{SIGN} --detached")));
    assert_eq!(desk.read("agent/manifest.yaml"), WRITTEN);
    desk.refused(VERIFY, 4);
    desk.done(&format!("{VERIFY} --attestation block.yaml"));
    let reply: Value = serde_json::from_str(&desk.done(&format!("{SIGN} --detached --json"))).unwrap();
    desk.write("block.json", reply["attestation"].to_string());
    desk.done(&format!("{VERIFY} --attestation block.json"));
    desk.write("block.yaml", "id: a.b\n");
    assert!(
        desk.refused(&format!("{VERIFY} --attestation block.yaml"), 2).contains("`mentat sign --detached`")
    );
}

#[test]
fn a_command_signs_in_place_of_a_key() {
    let desk = desk(WRITTEN);
    desk.write("sign.sh", "exec openssl dgst -sha256 -sign alice@example.com.key\n");
    let sign = |command: &str, more: &str| {
        let words = format!("sign agent --cert alice@example.com.crt {more}");
        desk.command(&words).args(["--signer-command", command]).output().unwrap()
    };
    let output = sign("sh 'sign.sh'", "");
    assert!(output.status.success(), "{}", text(&output.stderr));
    desk.done(VERIFY);
    desk.write("agent/manifest.yaml", WRITTEN);
    desk.write("other.key", "");
    desk.openssl(&[
        "genpkey",
        "-algorithm",
        "EC",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-out",
        "other.key",
    ]);
    for (command, more, why) in [
        ("openssl dgst -sha256 -sign other.key", "", "is no signature by the key of the certificate"),
        ("echo signature", "", "is no signature by the key of the certificate"),
        ("sleep 60", "--signer-timeout 300ms", "took more than 0.3 seconds"),
        ("yes", "", "wrote more than"),
        ("false", "", "exit status: 1"),
        ("no-such-program", "", "cannot be started"),
    ] {
        let output = sign(command, more);
        let told = text(&output.stderr);
        assert!(output.status.code() == Some(2) && told.contains(why), "{command}: {told}");
        assert_eq!(desk.read("agent/manifest.yaml"), WRITTEN);
    }
}

#[test]
fn what_cannot_be_signed_is_refused_and_nothing_is_written() {
    let desk = desk(WRITTEN);
    desk.done("pki issue --email bob@example.com");
    let told = desk.refused("sign agent --key bob@example.com.key --cert alice@example.com.crt", 2);
    assert!(told.contains("the key does not belong to the first of the certificates"), "{told}");
    let told = desk.refused("sign agent --key alice@example.com.crt --cert alice@example.com.crt", 2);
    assert!(told.contains("there is no private key in it"), "{told}");
    let told = desk.refused("sign agent --key authority/private/intermediate_ca.key --cert authority/certs/intermediate_ca.crt --chain authority/certs/root_ca.crt", 2);
    assert!(told.contains("must not sign agents"), "{told}");
    desk.openssl(&["x509", "-in", "alice@example.com.crt", "-out", "alone.crt"]);
    let told = desk.refused("sign agent --key alice@example.com.key --cert alone.crt", 2);
    assert!(told.contains("give the second by `--chain`"), "{told}");
    desk.done("sign agent --key alice@example.com.key --cert alone.crt --chain authority/certs/intermediate_ca.crt --detached");
    assert!(desk.refused("sign agent/agent.wasm --key x --cert y", 2).contains("name the agent's folder"));
    assert!(desk.refused("sign agent --cert y", 2).contains("--key"));
    assert_eq!(desk.read("agent/manifest.yaml"), WRITTEN);

    let inexact = format!("{WRITTEN}x-n: 9007199254740993\n");
    desk.write("agent/manifest.yaml", &inexact);
    assert!(desk.refused(SIGN, 2).contains("write it in quotes"));
    desk.write("agent/manifest.yaml", format!("{WRITTEN}? attestation\n: ~\n"));
    assert!(desk.refused(SIGN, 2).contains("does not stand at the beginning of a line"));
    desk.write("agent/manifest.yaml", "id: a.b\nversion: 1.0.0\nimage: x/y:1\n");
    assert!(desk.refused(SIGN, 2).contains("is a container agent"));
}

#[test]
fn a_bundle_over_the_module_is_checked_by_a_public_key() {
    let desk = desk(WRITTEN);
    desk.openssl(&[
        "genpkey",
        "-algorithm",
        "EC",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-out",
        "cosign.key",
    ]);
    desk.openssl(&["pkey", "-in", "cosign.key", "-pubout", "-out", "cosign.pub"]);
    desk.openssl(&["dgst", "-sha256", "-sign", "cosign.key", "-out", "raw", "agent/agent.wasm"]);
    let signature = desk.openssl(&["base64", "-A", "-in", "raw"]);
    desk.write("bundle.json", format!("{{\"base64Signature\":\"{signature}\",\"cert\":\"\"}}"));
    for agent in ["agent", "agent/agent.wasm"] {
        let told = desk.done(&format!("verify {agent} --bundle bundle.json --public-key cosign.pub"));
        assert!(told.contains("form: bytes\n"), "{told}");
    }
    let reply = desk.done("verify agent --bundle bundle.json --public-key cosign.pub --json");
    assert_eq!(serde_json::from_str::<Value>(&reply).unwrap()["valid"], true);
    desk.write("agent/agent.wasm", "another");
    desk.refused("verify agent --bundle bundle.json --public-key cosign.pub", 4);
    assert!(desk.refused("verify agent --bundle bundle.json", 2).contains("--public-key"));
    let told = desk.refused("verify agent --bundle bundle.json --public-key bundle.json", 2);
    assert!(told.contains("the public key `bundle.json` cannot be used"), "{told}");
}

#[test]
fn a_key_that_others_can_read_is_told_of() {
    let desk = desk(WRITTEN);
    for (mode, is_told) in [("600", false), ("400", false), ("644", true), ("640", true), ("602", true)] {
        desk.other("chmod", &[mode, "alice@example.com.key"]);
        let output = desk.command(SIGN).output().unwrap();
        let told = text(&output.stderr);
        assert!(output.status.success(), "{told}");
        let says = "the key `alice@example.com.key` can be read or changed by others than its owner";
        assert_eq!(told.contains(says) && told.contains("`chmod 600`"), is_told, "{mode}: {told}");
    }
}

#[test]
fn a_command_asks_for_a_pin_on_the_terminal_and_gives_it_back() {
    let desk = desk(WRITTEN);
    let script = "printf 'PIN: ' > /dev/tty\nread pin < /dev/tty\n[ \"$pin\" = 1234 ] || exit 3\n\
        exec openssl dgst -sha256 -sign alice@example.com.key\n";
    desk.write("pin.sh", script);
    // What comes after it has the terminal again, and would be stopped by reading from it if it had not.
    let words = "agent --cert alice@example.com.crt --signer-command 'sh pin.sh'";
    let program = env!("CARGO_BIN_EXE_mentat");
    desk.write(
        "all.sh",
        format!("{program} sign {words} || exit $?\nprintf 'Done: '\nread answer\necho \"heard $answer\"\n"),
    );
    let terminal = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/all/terminal.py");
    let typed = |typed: &str| {
        let mut command = std::process::Command::new("timeout");
        command.args(["60", "python3", terminal, typed, "/bin/sh", "all.sh"]).current_dir(desk.path());
        let output = command.output().unwrap();
        (output.status.code(), text(&output.stdout))
    };
    let (code, shown) = typed("1234\nyes");
    assert!(code == Some(0) && shown.contains("PIN: ") && shown.contains("heard yes"), "{code:?}: {shown}");
    desk.done(VERIFY);
    let (code, shown) = typed("4321");
    assert!(code == Some(2) && shown.contains("exit status: 3"), "{code:?}: {shown}");
}

#[test]
fn verify_says_whether_revocations_were_looked_up_for_all_certificates() {
    let desk = desk(WRITTEN);
    desk.done(SIGN);
    for (crls, lists, is_checked, line) in [
        ("", 0, false, "revocation: not checked, no `--crl` was given\n"),
        ("--crl authority/crl/root_ca.crl", 1, false, "revocation: not checked for all certificates"),
        ("--crl authority/crl/intermediate_ca.crl", 1, false, "revocation: not checked for all certificates"),
        ("--crl authority/crl", 2, true, "revocation: checked, 2 lists\n"),
    ] {
        let told = desk.done(&format!("{VERIFY} {crls}"));
        assert!(told.contains(line), "{crls}: {told}");
        let reply: Value = serde_json::from_str(&desk.done(&format!("{VERIFY} {crls} --json"))).unwrap();
        assert_eq!(
            (&reply["revocation_lists"], &reply["revocation_checked"]),
            (&lists.into(), &is_checked.into()),
            "{crls}"
        );
    }
}

#[test]
fn what_readers_of_yaml_could_take_for_two_manifests_is_neither_signed_nor_verified() {
    let desk = desk(WRITTEN);
    desk.done(SIGN);
    let signed = desk.read("agent/manifest.yaml");
    for (changed, says) in [
        ("x-team: yes\nx-more:", "line 11: `yes` is text for some readers"),
        ("x-more: !!str a\nx-team:", "line 11: it has a tag"),
        ("# a\u{2028}b\nx-team:", "line 11: it has the character U+2028"),
        (
            "x-count: 0.1000000000000000055\nx-team:",
            "line 11: the number `0.1000000000000000055` is more exact",
        ),
    ] {
        desk.write("agent/manifest.yaml", WRITTEN.replace("x-team:", changed));
        assert!(desk.refused(SIGN, 2).contains(says), "{}", desk.refused(SIGN, 2));
        desk.write("agent/manifest.yaml", signed.replace("x-team:", changed));
        let output = desk.command(&format!("{VERIFY} --json")).output().unwrap();
        let reply: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(reply["error"]["details"]["cause"], "manifest_unsignable", "{changed}: {reply}");
    }
}
