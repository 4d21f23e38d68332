//! `mentat keygen` and `mentat pki`: an authority from its first day to a revocation, as a small team has it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::guests::{EXIT_3, assemble, manifest};
use crate::program::{mentat, text};

/// A folder to work in.
pub struct Desk(tempfile::TempDir);

impl Desk {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// With an authority and Alice's key and certificate.
    pub fn with_alice() -> Self {
        let desk = Self::new();
        desk.done("pki init --organisation Example");
        desk.done("pki issue --email alice@example.com");
        desk
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// `mentat` with these words, here.
    pub fn command(&self, words: &str) -> Command {
        let mut command = mentat();
        command.args(words.split_whitespace()).current_dir(self.path());
        command
    }

    /// What it wrote to stdout; it must succeed.
    pub fn done(&self, words: &str) -> String {
        let output = self.command(words).output().unwrap();
        assert!(output.status.success(), "{words}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// What it wrote to stderr; it must end with this exit code.
    pub fn refused(&self, words: &str, code: i32) -> String {
        let output = self.command(words).output().unwrap();
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{words}: {told}{}", text(&output.stdout));
        told
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path().join(name)).unwrap()
    }

    pub fn mode(&self, name: &str) -> u32 {
        self.path().join(name).metadata().unwrap().permissions().mode() & 0o777
    }

    /// An agent in the folder `agent`.
    pub fn agent(&self) {
        self.write("agent/manifest.yaml", manifest("team.agent", "1.0.0"));
        self.write("agent/agent.wasm", assemble(EXIT_3));
    }

    /// Runs another program here, which must succeed.
    pub fn other(&self, program: &str, arguments: &[&str]) -> Output {
        let output = Command::new(program)
            .args(arguments)
            .current_dir(self.path())
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|error| panic!("`{program}` cannot be started: {error}"));
        assert!(output.status.success(), "{program} {arguments:?}: {}", text(&output.stderr));
        output
    }

    pub fn openssl(&self, arguments: &[&str]) -> String {
        text(&self.other("openssl", arguments).stdout)
    }
}

const SIGN: &str = "sign agent --key alice@example.com.key --cert alice@example.com.crt";
const VERIFY: &str = "verify agent --roots authority/certs/root_ca.crt --crl authority/crl --require-crl";

#[test]
fn an_agent_is_signed_verified_and_no_longer_after_its_signer_was_revoked() {
    let desk = Desk::with_alice();
    desk.agent();
    desk.done(SIGN);
    let told = desk.done(VERIFY);
    for line in [
        "signer: alice@example.com\n",
        "subject: CN=alice@example.com,O=Example\n",
        "issuer: CN=Example Agent CA,O=Example\n",
        "root: CN=Example Root CA,O=Example, sha256:",
        " by ECDSA-P256\n",
        "revocation: checked, 2 lists\n",
        "trust: signed",
    ] {
        assert!(told.contains(line), "{line}: {told}");
    }
    let told = desk.done("pki revoke alice@example.com --reason key-compromise");
    assert!(told.contains("is revoked; give operators `authority/crl/intermediate_ca.crl`"), "{told}");
    let told = desk.refused(VERIFY, 4);
    assert!(told.contains("was revoked by its issuer") && told.contains("[ATTESTATION_REJECTED]"), "{told}");
    // Who reads no lists does not hear of it, and is told so.
    let told = desk.done("verify agent --roots authority/certs/root_ca.crt");
    assert!(told.contains("revocation: not checked"), "{told}");
    let list: Value = serde_json::from_str(&desk.done("pki list --json")).unwrap();
    let alice = &list["certificates"][2];
    assert_eq!(
        (&alice["status"], &alice["revoked"]["reason"]),
        (&"revoked".into(), &"key-compromise".into())
    );
    assert!(desk.refused("pki revoke alice@example.com", 2).contains("`mentat pki list` shows all"));

    // A new certificate for the same address, and a list that is due.
    desk.done("pki issue --email alice@example.com --out new.crt --key new.key");
    desk.done("sign agent --key new.key --cert new.crt");
    desk.done(VERIFY);
    let told = desk.done("pki crl --days 7");
    assert!(told.starts_with("revocation list in `authority/crl/intermediate_ca.crl`, until "), "{told}");
    desk.done("pki crl --root");
    let numbers = desk.openssl(&["crl", "-in", "authority/crl/intermediate_ca.crl", "-noout", "-crlnumber"]);
    assert_eq!(numbers.trim(), "crlNumber=0x03");
    desk.done(VERIFY);
}

#[test]
fn keys_are_for_their_owner_alone_and_are_never_overwritten() {
    let desk = Desk::with_alice();
    for key in
        ["authority/private/root_ca.key", "authority/private/intermediate_ca.key", "alice@example.com.key"]
    {
        assert_eq!(desk.mode(key), 0o600, "{key}");
        assert!(desk.read(key).starts_with("-----BEGIN PRIVATE KEY-----"));
    }
    assert_eq!(desk.mode("authority/private"), 0o700);
    assert_eq!(desk.mode("alice@example.com.crt"), 0o644);
    let (key, count) = (desk.read("alice@example.com.key"), desk.read("authority/authority.json"));
    assert!(desk.refused("pki issue --email alice@example.com", 2).contains("is there already"));
    assert!(desk.refused("keygen --out alice@example.com.key", 2).contains("a key is not overwritten"));
    for taken in ["alice@example.com.key", "fresh.key"] {
        let refused = desk.refused(&format!("keygen --out fresh.key --csr {taken}"), 2);
        assert!(refused.contains("is there already, or is to be the key"), "{refused}");
    }
    assert!(desk.refused("pki init", 2).contains("an authority begins in a folder of its own"));
    assert_eq!((desk.read("alice@example.com.key"), desk.read("authority/authority.json")), (key, count));
    desk.other("chmod", &["g+r", "authority/private/intermediate_ca.key"]);
    assert!(desk.refused("pki issue --email bob@example.com", 2).contains("`chmod 600`"));
    assert!(!desk.path().join("bob@example.com.key").exists());
}

#[test]
fn two_who_issue_at_once_get_a_certificate_each() {
    let desk = Desk::with_alice();
    let children: Vec<_> = (0..6)
        .map(|number| {
            let words = format!("pki issue --email dev{number}@example.com");
            desk.command(&words).stdout(Stdio::null()).spawn().unwrap()
        })
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let list: Value = serde_json::from_str(&desk.done("pki list --json")).unwrap();
    let certificates = list["certificates"].as_array().unwrap();
    let mut serials: Vec<_> = certificates.iter().map(|row| row["serial"].as_str().unwrap()).collect();
    serials.sort_unstable();
    serials.dedup();
    assert_eq!((certificates.len(), serials.len()), (9, 9));
    for serial in &serials[..] {
        let issued = desk.path().join(format!("authority/issued/{serial}.crt"));
        let kind =
            certificates.iter().find(|row| row["serial"] == **serial).unwrap()["kind"].as_str().unwrap();
        assert_eq!(issued.exists(), kind == "developer");
    }
}

#[test]
fn encrypted_keys_are_opened_by_a_file_the_environment_or_a_terminal() {
    let desk = Desk::new();
    desk.write("passphrase", "corréct horse\nanother line\n");
    desk.write("wrong", "incorrect\n");
    desk.done("pki init --encrypt --passphrase-file passphrase");
    assert!(desk.read("authority/private/root_ca.key").starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"));
    desk.done(
        "keygen --algorithm ed25519 --encrypt --passphrase-file passphrase --out bob.key --csr bob.csr",
    );
    let issue = "pki issue --email bob@example.com --csr bob.csr --out bob.crt";
    let told = desk.refused(&format!("{issue} --passphrase-file wrong"), 2);
    assert!(told.contains("the passphrase does not open it"), "{told}");
    let output = desk.command(issue).env("MENTAT_KEY_PASSPHRASE", "corréct horse").output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    desk.agent();
    desk.done("sign agent --key bob.key --cert bob.crt --passphrase-file passphrase");

    // Without a terminal there is nobody to ask.
    let mut alone = Command::new("setsid");
    alone.args([
        "--wait",
        env!("CARGO_BIN_EXE_mentat"),
        "sign",
        "agent",
        "--key",
        "bob.key",
        "--cert",
        "bob.crt",
    ]);
    let output = alone.current_dir(desk.path()).stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output.stderr).contains("give its passphrase by `--passphrase-file`"),
        "{}",
        text(&output.stderr)
    );

    // With one, the passphrase is asked for and not shown.
    let terminal = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/all/terminal.py");
    let typed = |typed: &str, words: &str| {
        let output = Command::new("python3")
            .arg(terminal)
            .args([typed, env!("CARGO_BIN_EXE_mentat")])
            .args(words.split_whitespace())
            .current_dir(desk.path())
            .output()
            .unwrap();
        (output.status.code(), text(&output.stdout))
    };
    let (code, shown) = typed("corréct horse", "sign agent --key bob.key --cert bob.crt");
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("Passphrase of `bob.key`:") && !shown.contains("horse"), "{shown}");
    let (code, shown) = typed("one\ntwo", "keygen --encrypt --out new.key");
    assert_eq!(code, Some(2), "{shown}");
    assert!(shown.contains("the two passphrases differ") && !desk.path().join("new.key").exists(), "{shown}");
}

#[test]
fn what_is_wrong_with_an_authority_or_a_request_is_told() {
    let desk = Desk::with_alice();
    let told = desk.refused("pki list --authority nowhere", 2);
    assert!(told.contains("make one with `mentat pki init`"), "{told}");
    for (email, why) in
        [("alice", "is no email address"), ("a@b\u{e9}", "is no email address"), ("../a@b", "is no email")]
    {
        let told = desk.refused(&format!("pki issue --email {email} --out x.crt --key x.key"), 2);
        assert!(told.contains(why), "{told}");
    }
    let told = desk.refused("pki issue --email bob@example.com --policy any", 2);
    assert!(told.contains("`any` is no certificate policy"), "{told}");
    desk.write("no.csr", "nothing");
    let told = desk.refused("pki issue --email bob@example.com --csr no.csr", 2);
    assert!(told.contains("`openssl req -new` make one"), "{told}");
    assert!(
        desk.refused("keygen --algorithm rsa --out rsa.key", 2).contains("openssl genpkey -algorithm RSA")
    );
    let told = desk.refused("pki init --authority other --organisation \u{7f}x", 2);
    assert!(told.contains("cannot stand in a certificate") && !desk.path().join("other").exists(), "{told}");
    assert!(std::fs::read_dir(desk.path()).unwrap().all(|file| {
        let name = file.unwrap().file_name().into_string().unwrap();
        name == "authority" || name.starts_with("alice@") || name == "no.csr"
    }));

    let index = desk.read("authority/authority.json");
    desk.write("authority/authority.json", index.replace("\"version\": 1", "\"version\": 9"));
    assert!(desk.refused("pki list", 2).contains("has the version 9, and this program knows 1"));
    desk.write("authority/authority.json", &index[..index.len() / 2]);
    assert!(desk.refused("pki list", 2).contains("`authority.json` cannot be read"));
}

#[test]
fn an_authority_is_certified_anew_before_its_five_years_are_over() {
    let desk = Desk::with_alice();
    desk.agent();
    desk.done(SIGN);
    let before = desk.read("authority/certs/intermediate_ca.crt");
    let told = desk.done("pki renew");
    assert!(
        told.contains("of Example Agent CA in `authority/certs/intermediate_ca.crt`, until 20"),
        "{told}"
    );
    let after = desk.read("authority/certs/intermediate_ca.crt");
    assert_ne!(after, before);
    let key = |pem: &str| {
        desk.write("one.crt", pem);
        desk.openssl(&["x509", "-in", "one.crt", "-noout", "-pubkey"])
    };
    assert_eq!(key(&after), key(&before));
    // What was signed holds, what is issued is below the new one, and the lists are about both.
    desk.done(VERIFY);
    desk.done("pki issue --email bob@example.com");
    assert!(desk.read("bob@example.com.crt").ends_with(&after));
    desk.done("sign agent --key bob@example.com.key --cert bob@example.com.crt");
    desk.done(VERIFY);
    desk.done("pki revoke bob@example.com");
    assert!(desk.refused(VERIFY, 4).contains("was revoked by its issuer"));
    let renewed: Value = serde_json::from_str(&desk.done("pki renew --json")).unwrap();
    assert_eq!(renewed["kind"], "intermediate");
    let listed: Value = serde_json::from_str(&desk.done("pki list --json")).unwrap();
    let kinds = listed["certificates"].as_array().unwrap().iter().map(|one| one["kind"].as_str().unwrap());
    assert_eq!(kinds.filter(|kind| *kind == "intermediate").count(), 3);
    // By the root's key, which is best kept elsewhere.
    std::fs::rename(desk.path().join("authority/private/root_ca.key"), desk.path().join("kept.key")).unwrap();
    assert!(desk.refused("pki renew", 2).contains("root_ca.key"));
}

#[test]
fn an_address_that_stands_for_everybody_is_certified_for_nobody() {
    let desk = Desk::with_alice();
    for email in ["*@example.com", "*@*", "a*@example.com", "a@*.example.com"] {
        let output = desk.command("pki issue --out x.crt --key x.key --email").arg(email).output().unwrap();
        let told = text(&output.stderr);
        assert!(output.status.code() == Some(2) && told.contains("is no email address"), "{email}: {told}");
        assert!(!desk.path().join("x.key").exists());
    }
}

#[test]
fn an_authority_holds_for_ten_years_five_and_one_with_the_names_and_usages_of_each() {
    let desk = Desk::with_alice();
    let listed: Value = serde_json::from_str(&desk.done("pki list --json")).unwrap();
    let day = |text: &Value| chrono::DateTime::parse_from_rfc3339(text.as_str().unwrap()).unwrap();
    let kinds: Vec<(String, i64)> = listed["certificates"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            (
                one["kind"].as_str().unwrap().to_owned(),
                (day(&one["not_after"]) - day(&one["not_before"])).num_days(),
            )
        })
        .collect();
    let expected = [("root", 3652), ("intermediate", 1826), ("developer", 365)];
    assert_eq!(kinds, expected.map(|(kind, days)| (kind.to_owned(), days)));
    for (file, expected) in [
        (
            "authority/certs/root_ca.crt",
            ["CN = Example Root CA", "CA:TRUE, pathlen:1", "Certificate Sign, CRL Sign"],
        ),
        (
            "authority/certs/intermediate_ca.crt",
            ["CN = Example Agent CA", "CA:TRUE, pathlen:0", "Code Signing"],
        ),
        ("alice@example.com.crt", ["email:alice@example.com", "Digital Signature", "Code Signing"]),
    ] {
        let told = desk.openssl(&["x509", "-in", file, "-noout", "-text"]);
        for line in expected {
            assert!(told.contains(line), "{file}: {line}: {told}");
        }
    }
}
