//! A root, signers below it and lists of those it took back, by the `openssl` command; and agents signed by them, over the
//! statement that `mentat-attestation` makes.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

use base64::Engine as _;
use chrono::{DateTime, Duration, Utc};
use mentat_attestation::Statement;
use mentat_manifest::{Attestation, ModuleDigest, Signer};

const REQUEST: &str = "[req]\ndistinguished_name = dn\nprompt = no\n[dn]\nCN = x\n";
const ROOT: &str = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n";
/// The policy that careful signers are certified under.
pub const POLICY: &str = "1.3.6.1.4.1.55555.7";

/// An authority and its files.
pub struct Authority {
    folder: tempfile::TempDir,
}

impl Authority {
    /// A root in `roots/root.pem`, and no list.
    pub fn new() -> Self {
        let this = Self { folder: tempfile::tempdir().unwrap() };
        let folder = this.folder.path();
        for name in ["roots", "crls"] {
            std::fs::create_dir(folder.join(name)).unwrap();
        }
        let display = folder.display();
        let config = format!(
            "[ca]\ndefault_ca = own\n[own]\nnew_certs_dir = {display}\ndatabase = {display}/index\nrand_serial = yes\ncrlnumber \
             = {display}/crlnumber\ndefault_md = sha256\ndefault_crl_days = 30\npolicy = any\nunique_subject = no\n[any]\n\
             organizationName = optional\ncommonName = optional\n"
        );
        for (name, text) in
            [("ca.cnf", &*config), ("index", ""), ("crlnumber", "01\n"), ("request.cnf", REQUEST)]
        {
            std::fs::write(folder.join(name), text).unwrap();
        }
        this.key("root");
        this.certify("root", "/O=Example/CN=Root", ROOT, None);
        std::fs::copy(folder.join("root.pem"), folder.join("roots/root.pem")).unwrap();
        this
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Settings of a server that trusts this root, and looks at its files all the time.
    pub fn settings(&self) -> Vec<String> {
        vec![
            format!("attestation.roots=[\"{}\"]", self.path("roots").display()),
            "attestation.reload_ms=20".into(),
        ]
    }

    /// A signer `NAME@example.com` of the organisation Example.
    pub fn signer(&self, name: &str) {
        self.signer_until(name, None, "");
    }

    /// The same until a moment, and with more in the certificate.
    pub fn signer_until(&self, name: &str, until: Option<DateTime<Utc>>, more: &str) {
        let extensions = format!(
            "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=codeSigning\n\
             subjectAltName=email:{name}@example.com\n{more}"
        );
        self.key(name);
        self.certify(name, &format!("/O=Example/CN={name}"), &extensions, until);
    }

    fn key(&self, name: &str) {
        let out = format!("{name}.key");
        self.openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", &out]);
    }

    fn certify(&self, name: &str, subject: &str, extensions: &str, until: Option<DateTime<Utc>>) {
        std::fs::write(self.path("extensions"), extensions).unwrap();
        let (key, request, out) = (format!("{name}.key"), format!("{name}.csr"), format!("{name}.pem"));
        self.openssl(&[
            "req",
            "-new",
            "-config",
            "request.cnf",
            "-key",
            &key,
            "-subj",
            subject,
            "-out",
            &request,
        ]);
        let until = until.map_or_else(|| "20400101000000Z".into(), utc);
        let how = [
            "ca",
            "-batch",
            "-notext",
            "-config",
            "ca.cnf",
            "-extfile",
            "extensions",
            "-keyfile",
            "root.key",
        ];
        let times = ["-startdate", "20200101000000Z", "-enddate", &until, "-in", &request, "-out", &out];
        let by: &[&str] = if name == "root" { &["-selfsign"] } else { &["-cert", "root.pem"] };
        self.openssl(&[&how[..], &times, by].concat());
    }

    pub fn revoke(&self, name: &str) {
        let pem = format!("{name}.pem");
        self.openssl(&[
            "ca", "-config", "ca.cnf", "-keyfile", "root.key", "-cert", "root.pem", "-revoke", &pem,
        ]);
    }

    /// Puts the next list of who was revoked in the place of the one before, due at that time.
    pub fn list(&self, due: DateTime<Utc>) {
        let (now, due) = (utc(Utc::now() - Duration::seconds(1)), utc(due));
        let by = ["-keyfile", "root.key", "-cert", "root.pem", "-out", "list.pem"];
        let times = ["-crl_lastupdate", &now, "-crl_nextupdate", &due];
        self.openssl(&[&["ca", "-gencrl", "-config", "ca.cnf"], &by[..], &times].concat());
        std::fs::rename(self.path("list.pem"), self.path("crls/root.crl")).unwrap();
    }

    /// The block of a signer over a manifest and a module.
    pub fn attest(&self, signer: &str, manifest: &str, module: &[u8]) -> Attestation {
        let statement = Statement::new(manifest, &ModuleDigest::of(module)).unwrap();
        std::fs::write(self.path("statement"), statement.canonical()).unwrap();
        let signature = self.openssl(&["dgst", "-sha256", "-sign", &format!("{signer}.key"), "statement"]);
        Attestation {
            version: "1.0".into(),
            timestamp: DateTime::<Utc>::from(SystemTime::now()).to_rfc3339(),
            signer: Signer { subject: signer.into(), issuer: "Root".into() },
            algorithm: "ECDSA-P256".into(),
            signature: base64::engine::general_purpose::STANDARD.encode(signature),
            certificate_chain: vec![std::fs::read_to_string(self.path(&format!("{signer}.pem"))).unwrap()],
        }
    }

    /// A manifest with the block in it.
    pub fn sign(&self, signer: &str, manifest: &str, module: &[u8]) -> String {
        with(manifest, &self.attest(signer, manifest, module))
    }

    fn openssl(&self, arguments: &[&str]) -> Vec<u8> {
        let mut command = Command::new("openssl");
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null());
        let output = command.output().expect("`openssl` is installed");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {told}");
        output.stdout
    }
}

/// A manifest with a block at its end.
pub fn with(manifest: &str, block: &Attestation) -> String {
    // JSON is YAML.
    format!("{manifest}attestation: {}\n", serde_json::to_string(block).unwrap())
}

/// A file of its own with this text.
pub fn file(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn utc(time: DateTime<Utc>) -> String {
    time.format("%Y%m%d%H%M%SZ").to_string()
}
