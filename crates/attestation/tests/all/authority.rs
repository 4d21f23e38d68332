//! Authorities, signers and signatures by the `openssl` command, each test's in a folder of its own.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use mentat_attestation::{Anchors, Options, Rejection, Revocations, Signer, Statement, Verifier};
use mentat_manifest::{Attestation, ModuleDigest};

pub(crate) const MANIFEST: &str = "id: team.agent\nversion: 1.2.0\nruntime: wasm\nmodule: agent.wasm\nwasm:\n  fuel: \
    1000000\n  capabilities: [\"env:A\", \"env:B\"]\nmetadata: { note: Grüße, ratio: 0.5 }\n";
pub(crate) const MODULE: &[u8] = b"\0asm\x01\0\0\0";

/// What a root and an intermediate say of themselves.
pub(crate) const ROOT: &str = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n";
pub(crate) const INTERMEDIATE: &str =
    "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\n";
/// What a signer's certificate says.
pub(crate) const SIGNER: &str = "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n\
    extendedKeyUsage=codeSigning\nsubjectAltName=email:dev@example.com\n\
    certificatePolicies=1.3.6.1.4.1.55555.1,1.3.6.1.4.1.55555.2\n";

/// A key's kind, as `openssl genpkey` is told.
pub(crate) const P256: &[&str] = &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
pub(crate) const P384: &[&str] = &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"];
pub(crate) const ED25519: &[&str] = &["-algorithm", "ED25519"];
pub(crate) const RSA_2048: &[&str] = &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"];

/// A folder of keys and certificates.
pub(crate) struct Workshop {
    folder: tempfile::TempDir,
}

/// One certificate with its key; files `NAME.key` and `NAME.pem`.
#[derive(Clone)]
pub(crate) struct Holder {
    pub(crate) name: String,
    folder: PathBuf,
}

/// What a certificate is to be like.
pub(crate) struct Order<'a> {
    pub(crate) subject: &'a str,
    pub(crate) extensions: &'a str,
    pub(crate) key: &'a [&'a str],
    pub(crate) digest: &'a str,
    /// `YYYYMMDDHHMMSSZ`
    pub(crate) from: &'a str,
    pub(crate) to: &'a str,
}

impl Default for Order<'_> {
    fn default() -> Self {
        Self {
            subject: "/O=Example/CN=Dev",
            extensions: SIGNER,
            key: P256,
            digest: "sha256",
            from: "20200101000000Z",
            to: "20400101000000Z",
        }
    }
}

impl Holder {
    pub(crate) fn path(&self, ending: &str) -> PathBuf {
        self.folder.join(format!("{}.{ending}", self.name))
    }

    pub(crate) fn pem(&self) -> String {
        std::fs::read_to_string(self.path("pem")).unwrap()
    }
}

impl Workshop {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs `openssl` and returns what it wrote.
    pub(crate) fn openssl(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Vec<u8> {
        let mut command = Command::new("openssl");
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null());
        let output = command.output().expect("`openssl` is installed");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {told}");
        output.stdout
    }

    pub(crate) fn holder(&self, name: &str) -> Holder {
        Holder { name: name.into(), folder: self.folder.path().into() }
    }

    /// A key and a certificate for it, by `issuer`, or by itself.
    pub(crate) fn issue(&self, name: &str, issuer: Option<&Holder>, order: &Order<'_>) -> Holder {
        let holder = self.holder(name);
        if !holder.path("key").exists() {
            self.openssl([&["genpkey", "-out", &format!("{name}.key")], order.key].concat());
        }
        let by = issuer.map_or(name, |issuer| issuer.name.as_str());
        self.prepare(by);
        std::fs::write(self.path(&format!("{name}.ext")), order.extensions).unwrap();
        let (key, request, out) = (format!("{name}.key"), format!("{name}.csr"), format!("{name}.pem"));
        let utf8 = ["-utf8", "-config", "request.cnf"];
        self.openssl(
            [&["req", "-new", "-key", &key, "-subj", order.subject, "-out", &request], &utf8[..]].concat(),
        );
        let (config, extensions) = (format!("{by}.cnf"), format!("{name}.ext"));
        let by_key = format!("{by}.key");
        let mut arguments = vec![
            "ca",
            "-batch",
            "-notext",
            "-config",
            &config,
            "-extfile",
            &extensions,
            "-in",
            &request,
            "-out",
            &out,
            "-keyfile",
            &by_key,
            "-startdate",
            order.from,
            "-enddate",
            order.to,
            "-md",
            order.digest,
        ];
        let by_pem = format!("{by}.pem");
        match issuer {
            Some(_) => arguments.extend(["-cert", &by_pem]),
            None => arguments.push("-selfsign"),
        }
        self.openssl(arguments);
        holder
    }

    /// The database and the configuration of an authority.
    fn prepare(&self, name: &str) {
        if self.path(&format!("{name}.cnf")).exists() {
            return;
        }
        let index = self.path(&format!("{name}.index"));
        std::fs::write(&index, "").unwrap();
        std::fs::write(self.path(&format!("{name}.index.attr")), "unique_subject = no\n").unwrap();
        std::fs::write(self.path(&format!("{name}.crlnumber")), "01\n").unwrap();
        let request = "[req]\ndistinguished_name = dn\nprompt = no\n[dn]\nCN = x\n";
        std::fs::write(self.path("request.cnf"), request).unwrap();
        let folder = self.folder.path().display();
        let config = format!(
            "[ca]\ndefault_ca = own\n[own]\nnew_certs_dir = {folder}\ndatabase = {folder}/{name}.index\nrand_serial = \
             yes\ncrlnumber = {folder}/{name}.crlnumber\ndefault_md = sha256\ndefault_crl_days = 30\npolicy = any\nunique_subject = \
             no\nemail_in_dn = yes\n[any]\ncountryName = optional\nstateOrProvinceName = optional\nlocalityName = \
             optional\norganizationName = optional\norganizationalUnitName = optional\ncommonName = \
             optional\nemailAddress = optional\n[list]\nauthorityKeyIdentifier = keyid:always\n"
        );
        std::fs::write(self.path(&format!("{name}.cnf")), config).unwrap();
    }

    /// A list of what `issuer` revoked, in PEM.
    pub(crate) fn list(&self, issuer: &Holder, more: &[&str]) -> Vec<u8> {
        self.prepare(&issuer.name);
        let (config, key, pem) =
            (format!("{}.cnf", issuer.name), format!("{}.key", issuer.name), format!("{}.pem", issuer.name));
        let arguments =
            ["ca", "-gencrl", "-config", &config, "-keyfile", &key, "-cert", &pem, "-crlexts", "list"];
        self.openssl([&arguments, more].concat())
    }

    pub(crate) fn revoke(&self, issuer: &Holder, holder: &Holder) {
        let (config, key, pem) =
            (format!("{}.cnf", issuer.name), format!("{}.key", issuer.name), format!("{}.pem", issuer.name));
        let revoked = format!("{}.pem", holder.name);
        self.openssl(["ca", "-config", &config, "-keyfile", &key, "-cert", &pem, "-revoke", &revoked]);
    }

    /// What `openssl` makes of these bytes with a holder's key.
    pub(crate) fn sign(&self, holder: &Holder, algorithm: &str, message: &[u8]) -> Vec<u8> {
        std::fs::write(self.path("message"), message).unwrap();
        let key = format!("{}.key", holder.name);
        match algorithm {
            "Ed25519" => self.openssl(["pkeyutl", "-sign", "-inkey", &key, "-rawin", "-in", "message"]),
            "ECDSA-P384" => self.openssl(["dgst", "-sha384", "-sign", &key, "message"]),
            _ => self.openssl(["dgst", "-sha256", "-sign", &key, "message"]),
        }
    }

    /// A block by a holder over the manifest and the module of these tests.
    pub(crate) fn attest(&self, signer: &Holder, algorithm: &str, chain: &[&Holder]) -> Attestation {
        let statement = Statement::new(MANIFEST, &ModuleDigest::of(MODULE)).unwrap();
        let signature = self.sign(signer, algorithm, statement.canonical());
        let chain = chain.iter().map(|holder| holder.pem()).collect();
        self.block(signer, algorithm, &signature, chain)
    }

    pub(crate) fn block(
        &self,
        signer: &Holder,
        algorithm: &str,
        signature: &[u8],
        certificate_chain: Vec<String>,
    ) -> Attestation {
        use base64::Engine as _;
        let name = |which: &str| {
            let pem = format!("{}.pem", signer.name);
            let told =
                self.openssl(["x509", "-in", &pem, "-noout", which, "-nameopt", "RFC2253,utf8,-esc_msb"]);
            String::from_utf8(told).unwrap().split_once('=').unwrap().1.trim().to_owned()
        };
        Attestation {
            version: "1.0".into(),
            timestamp: "2026-06-01T12:00:00Z".into(),
            signer: mentat_manifest::Signer { subject: name("-subject"), issuer: name("-issuer") },
            algorithm: algorithm.into(),
            signature: base64::engine::general_purpose::STANDARD.encode(signature),
            certificate_chain,
        }
    }
}

/// A root, an intermediate and a signer, all on P-256.
pub(crate) struct Usual {
    pub(crate) workshop: Workshop,
    pub(crate) root: Holder,
    pub(crate) intermediate: Holder,
    pub(crate) signer: Holder,
}

impl Usual {
    pub(crate) fn new() -> Self {
        Self::of(&Order::default())
    }

    /// The same, with another signer.
    pub(crate) fn of(order: &Order<'_>) -> Self {
        let workshop = Workshop::new();
        let root = workshop.issue(
            "root",
            None,
            &Order { subject: "/O=Example/CN=Root", extensions: ROOT, ..Order::default() },
        );
        let intermediate = workshop.issue(
            "intermediate",
            Some(&root),
            &Order { subject: "/O=Example/CN=Intermediate", extensions: INTERMEDIATE, ..Order::default() },
        );
        let signer = workshop.issue("signer", Some(&intermediate), order);
        Self { workshop, root, intermediate, signer }
    }

    pub(crate) fn attest(&self) -> Attestation {
        self.workshop.attest(&self.signer, "ECDSA-P256", &[&self.signer, &self.intermediate])
    }

    pub(crate) fn verify(&self, attestation: &Attestation) -> Result<Signer, Rejection> {
        self.verifier(&[], Options::default()).verify(MANIFEST, attestation, &ModuleDigest::of(MODULE), now())
    }

    pub(crate) fn verifier(&self, lists: &[&[u8]], options: Options) -> Verifier {
        let mut revocations = Revocations::default();
        for list in lists {
            revocations.add(list).unwrap();
        }
        Verifier::new(anchors(&[&self.root]), revocations, options)
    }
}

pub(crate) fn anchors(roots: &[&Holder]) -> Anchors {
    let mut anchors = Anchors::default();
    for root in roots {
        anchors.add(root.pem().as_bytes()).unwrap();
    }
    anchors
}

/// Midsummer of 2026, a while after everything was signed; revocation lists are made with this machine's clock.
pub(crate) fn now() -> SystemTime {
    let midsummer = SystemTime::UNIX_EPOCH + Duration::from_secs(1_782_000_000);
    midsummer.max(SystemTime::now())
}

/// The Python that `cargo xtask` has installed `cryptography` for.
pub(crate) fn python() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let python = workspace.join(".tools/python/bin/python");
    assert!(python.exists(), "`cargo xtask agents` installs `{}`", python.display());
    python
}
