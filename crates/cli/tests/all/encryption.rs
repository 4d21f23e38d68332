//! TLS on both doors, and callers known by their certificates.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};

use crate::guests::{ECHO, assemble, manifest};
use crate::program::{agent_folder, mentat, text};
use crate::server::Server;

/// A certification authority of this test's own, and what it has signed, as files.
pub struct Authority {
    folder: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let root = parameters.self_signed(&key).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), root.pem()).unwrap();
        Self { folder, issuer: Issuer::new(parameters, key) }
    }

    /// Signs a certificate; its files are `name.pem` and `name.key`.
    fn sign(&self, name: &str, names: Vec<SanType>, usage: ExtendedKeyUsagePurpose) {
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::default();
        parameters.subject_alt_names = names;
        // Not the authority's: some would take it for a certificate that signs itself.
        parameters.distinguished_name.push(rcgen::DnType::CommonName, name);
        parameters.extended_key_usages = vec![usage];
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.path(&format!("{name}.pem")), certificate.pem()).unwrap();
        std::fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    pub fn sign_server(&self) {
        let local = SanType::IpAddress("127.0.0.1".parse().unwrap());
        self.sign("server", vec![local], ExtendedKeyUsagePurpose::ServerAuth);
    }

    /// For a name, as the files `server`.
    pub fn sign_server_of(&self, name: &str) {
        let names = vec![SanType::DnsName(name.to_owned().try_into().unwrap())];
        self.sign("server", names, ExtendedKeyUsagePurpose::ServerAuth);
    }

    fn sign_client(&self, name: &str, uri: &str) {
        let names = vec![SanType::URI(uri.to_owned().try_into().unwrap())];
        self.sign(name, names, ExtendedKeyUsagePurpose::ClientAuth);
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn setting(&self, key: &str, file: &str) -> String {
        format!("{key}={}", self.path(file).display())
    }
}

/// Runs a client's verb against a server that speaks TLS; answers exit code, stdout and stderr.
fn call(server: &Server, verb: &[&str], options: &[(&str, &Path)]) -> (i32, String, String) {
    let mut command = mentat();
    command.args(verb).args(["--server", &server.grpc.replace("http://", "https://")]);
    for (option, path) in options {
        command.arg(option).arg(path);
    }
    let output = command.output().unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn both_doors_speak_tls_and_who_cannot_check_the_server_does_not_talk_to_it() {
    let authority = Authority::new();
    authority.sign_server();
    let settings =
        [authority.setting("tls.certificate", "server.pem"), authority.setting("tls.key", "server.key")];
    let server = Server::with(&[&settings[0], &settings[1]]);
    let ca = authority.path("ca.pem");
    let folder = agent_folder(&manifest("a.echo", "1.0.0"), &assemble(ECHO));
    let folder = folder.path().to_str().unwrap();
    let (exit, _, said) = call(&server, &["load", folder], &[("--ca", &ca)]);
    assert_eq!(exit, 0, "{said}");
    let (exit, output, said) = call(&server, &["execute", "a.echo", "--input", "sealed"], &[("--ca", &ca)]);
    assert_eq!((exit, output.as_str()), (0, "sealed"), "{said}");

    // The system's roots do not know this authority.
    let (exit, _, said) = call(&server, &["list"], &[]);
    assert_eq!(exit, 9, "{said}");
    let plain = mentat().args(["list", "--server", &server.grpc]).output().unwrap();
    assert_eq!(plain.status.code(), Some(9), "{}", text(&plain.stderr));

    let roots = ureq::tls::parse_pem(&std::fs::read(&ca).unwrap())
        .filter_map(|item| match item.unwrap() {
            ureq::tls::PemItem::Certificate(certificate) => Some(certificate),
            _ => None,
        })
        .collect::<Vec<_>>();
    let tls = ureq::tls::TlsConfig::builder().root_certs(roots.into()).build();
    let agent: ureq::Agent = ureq::Agent::config_builder().tls_config(tls).build().into();
    let url = server.http.replace("http://", "https://");
    assert_eq!(agent.get(format!("{url}/healthz")).call().unwrap().status(), 200);
}

#[test]
fn a_caller_is_known_by_its_certificate() {
    let authority = Authority::new();
    authority.sign_server();
    authority.sign_client("bus", "spiffe://fleet.example/bus");
    authority.sign_client("other", "spiffe://fleet.example/other");
    let elsewhere = Authority::new();
    elsewhere.sign_client("forged", "spiffe://fleet.example/bus");
    let settings = [
        authority.setting("tls.certificate", "server.pem"),
        authority.setting("tls.key", "server.key"),
        authority.setting("tls.client_ca", "ca.pem"),
        r#"auth.clients=[{ name = "bus", tenant = "fleet", san = "spiffe://fleet.example/bus" }]"#.to_owned(),
    ];
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let server = Server::with(&settings);
    let ca = authority.path("ca.pem");
    let list = |authority: &Authority, client: &str| {
        let (certificate, key) =
            (authority.path(&format!("{client}.pem")), authority.path(&format!("{client}.key")));
        let options = [("--ca", &*ca), ("--client-cert", &*certificate), ("--client-key", &*key)];
        call(&server, &["list"], &options)
    };
    let (exit, _, said) = list(&authority, "bus");
    assert_eq!(exit, 0, "{said}");
    let (exit, _, said) = list(&authority, "other");
    assert_eq!(exit, 4, "{said}");
    assert!(said.contains("auth.clients"), "{said}");
    let (exit, _, said) = call(&server, &["list"], &[("--ca", &ca)]);
    assert_eq!(exit, 4, "{said}");
    assert!(said.contains("client certificate"), "{said}");
    // The right name, signed by nobody whom the operator believes: the handshake fails.
    let (exit, _, said) = list(&elsewhere, "forged");
    assert_eq!(exit, 9, "{said}");
}

#[test]
fn files_that_hold_no_certificates_are_refused_at_start() {
    let authority = Authority::new();
    authority.sign_server();
    let start = |certificate: &str, key: &str| {
        let data = tempfile::tempdir().unwrap();
        let mut command = mentat();
        command
            .args(["serve", "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data-dir"])
            .arg(data.path());
        command.args(["--set", &authority.setting("tls.certificate", certificate)]);
        let output = command.args(["--set", &authority.setting("tls.key", key)]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
        text(&output.stderr)
    };
    assert!(start("none.pem", "server.key").contains("`tls.certificate`"));
    assert!(start("server.key", "server.key").contains("there is no certificate in it"));
    assert!(start("server.pem", "ca.pem").contains("`tls.key`"));
}
