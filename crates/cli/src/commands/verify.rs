//! `mentat verify`: who signed an agent, or why nobody did. Trust levels beyond `signed` are the server's to give.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use chrono::{DateTime, SecondsFormat, Utc};
use mentat_attestation::sigstore::{Endorsement, Form, verify_bundle};
use mentat_attestation::{Anchors, MissingCrl, Options, PublicKey, Rejection, Revocations, Signer, Verifier};
use mentat_manifest::{Attestation, ByteCount, ModuleDigest, escape_untrusted};
use mentat_runtime::error::Reason;
use serde::Serialize;

use super::sign::open_signable;
use crate::args::VerifyArguments;
use crate::files;
use crate::output::{self, Failure};
use crate::source::{self, AgentSource, Found, ManifestFile};

/// Bytes of a file of roots, of revocation lists, or of a bundle.
const MAX_FILE: ByteCount = ByteCount(16 << 20);
/// How the files of revocation lists in a folder end.
const CRL_EXTENSIONS: [&str; 3] = ["crl", "pem", "der"];
/// Characters of one line that are shown at most.
const MAX_SHOWN_CHARS: usize = 400;

#[derive(Serialize)]
struct Reply {
    valid: bool,
    agent: String,
    version: String,
    module: String,
    signer: SignerBody,
    /// Lists that were given.
    revocation_lists: usize,
    /// Whether one of them is about each certificate; else one that was revoked may not be found out.
    revocation_checked: bool,
    trust: &'static str,
}

#[derive(Serialize)]
struct SignerBody {
    name: String,
    subject: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    organisation: Option<String>,
    issuer: String,
    root: String,
    root_fingerprint: String,
    serial: String,
    fingerprint: String,
    policies: Vec<String>,
    algorithm: &'static str,
    signed_at: String,
    not_after: String,
}

#[derive(Serialize)]
struct BundleReply<'a> {
    valid: bool,
    module: String,
    form: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    predicate_type: Option<&'a str>,
    key: &'a str,
}

pub(crate) fn run(arguments: &VerifyArguments) -> Result<ExitCode, Failure> {
    match (&arguments.bundle, &arguments.public_key) {
        (Some(bundle), Some(key)) => check_bundle(arguments, bundle, key)?,
        _ => check_attestation(arguments)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn check_attestation(arguments: &VerifyArguments) -> Result<(), Failure> {
    let (manifest, module) = open_signable(&arguments.agent)?;
    let attestation = attestation(arguments, &manifest)?;
    let (verifier, lists) = verifier(arguments)?;
    let signer = verifier
        .verify(&manifest.text, &attestation, &module, SystemTime::now())
        .map_err(|rejection| rejected(&rejection).in_file(&manifest.path))?;
    // Whether there was a list for every certificate: what would be refused without one, says so.
    let is_complete =
        verifier.demanding_crls().verify(&manifest.text, &attestation, &module, SystemTime::now()).is_ok();
    if arguments.json.json {
        return output::write_json(&Reply {
            valid: true,
            agent: manifest.manifest.id.to_string(),
            version: manifest.manifest.version.to_string(),
            module: module.to_string(),
            signer: SignerBody::of(&signer),
            revocation_lists: lists,
            revocation_checked: is_complete,
            trust: "signed",
        });
    }
    write_lines(&lines(&signer, &module, lists, is_complete))
}

/// What is trusted, and how many revocation lists that has.
fn verifier(arguments: &VerifyArguments) -> Result<(Verifier, usize), Failure> {
    let mut anchors = Anchors::default();
    for path in &arguments.roots {
        let bytes = files::read(path, "root certificate", MAX_FILE)?;
        anchors.add(&bytes).map_err(|error| {
            Failure::invalid(format!("the roots `{}` cannot be used: {error}", path.display()))
        })?;
    }
    let mut revocations = Revocations::default();
    for path in revocation_files(&arguments.crl)? {
        let bytes = files::read_regular(&path, "revocation list", MAX_FILE)?;
        revocations.add(&bytes).map_err(|error| {
            Failure::invalid(format!("the revocation lists `{}` cannot be used: {error}", path.display()))
        })?;
    }
    let lists = revocations.count();
    let missing_crl = if arguments.require_crl { MissingCrl::Refuse } else { MissingCrl::Accept };
    Ok((Verifier::new(anchors, revocations, Options { missing_crl, ..Options::default() }), lists))
}

/// The block in the manifest, or the one that stands by itself.
fn attestation(arguments: &VerifyArguments, manifest: &ManifestFile) -> Result<Attestation, Failure> {
    if let Some(path) = &arguments.attestation {
        let bytes = files::read(path, "attestation", ByteCount(1 << 20))?;
        return Attestation::parse(&String::from_utf8_lossy(&bytes)).map_err(|error| {
            Failure::invalid(format!(
                "`{}` is no attestation as `mentat sign --detached` prints it: {error}",
                path.display()
            ))
        });
    }
    manifest.manifest.attestation.clone().ok_or_else(|| {
        let message = format!("agent `{}` is not signed; `mentat sign` does that", manifest.manifest.id);
        Failure::answered(Reason::AttestationRejected, message, [("cause".to_owned(), "unsigned".to_owned())])
            .in_file(&manifest.path)
    })
}

/// The files, and those in the folders.
fn revocation_files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let unreadable = |error: std::io::Error| {
            Failure::invalid(format!("the folder `{}` cannot be read: {error}", path.display()))
        };
        let mut found = Vec::new();
        for entry in fs::read_dir(path).map_err(unreadable)? {
            let file = entry.map_err(unreadable)?.path();
            let extension = file.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
            if CRL_EXTENSIONS.contains(&extension) {
                found.push(file);
            }
        }
        if found.is_empty() {
            return Err(Failure::invalid(format!(
                "the folder `{}` has no revocation list; their names end with `.crl`, `.pem` or `.der`",
                path.display()
            )));
        }
        found.sort();
        files.append(&mut found);
    }
    Ok(files)
}

fn check_bundle(arguments: &VerifyArguments, bundle: &Path, key: &Path) -> Result<(), Failure> {
    let module = match source::find(&arguments.agent)? {
        Found::Module(path) => source::read_module(&path)?,
        Found::Manifest(path) => AgentSource::of(ManifestFile::read(path)?)?.module,
    };
    let bundle = files::read(bundle, "bundle", MAX_FILE)?;
    let bytes = files::read(key, "public key", MAX_FILE)?;
    let key = PublicKey::read(&bytes).map_err(|fault| {
        Failure::invalid(format!("the public key `{}` cannot be used: {fault}", key.display()))
    })?;
    let endorsement = verify_bundle(&bundle, &key, &module)
        .map_err(|error| Failure::answered(Reason::AttestationRejected, error.to_string(), []))?;
    let module = ModuleDigest::of(&module);
    if arguments.json.json {
        return output::write_json(&BundleReply {
            valid: true,
            module: module.to_string(),
            form: form(&endorsement),
            predicate_type: endorsement.predicate_type.as_deref(),
            key: &endorsement.key,
        });
    }
    let mut lines = vec![
        format!("module: {module}"),
        format!("signed: by the key {}", endorsement.key),
        format!("form: {}", form(&endorsement)),
    ];
    lines.extend(endorsement.predicate_type.map(|predicate| format!("says: {predicate}")));
    write_lines(&lines)
}

fn form(endorsement: &Endorsement) -> &'static str {
    match endorsement.form {
        Form::Statement => "in-toto statement",
        Form::SimpleSigning => "simple signing",
        Form::Bytes => "bytes",
    }
}

fn lines(signer: &Signer, module: &ModuleDigest, lists: usize, is_complete: bool) -> Vec<String> {
    let mut lines = vec![
        format!("signer: {}", signer.name()),
        format!("subject: {}", signer.subject),
        format!("issuer: {}", signer.issuer),
        format!("root: {}, {}", signer.root, signer.root_fingerprint),
        format!("signed: {} by {}", time(signer.signed_at), signer.algorithm),
        format!(
            "certificate: {}, {}, until {}",
            signer.serial.to_ascii_uppercase(),
            signer.fingerprint,
            time(signer.not_after)
        ),
        format!("module: {module}"),
    ];
    if !signer.policies.is_empty() {
        lines.push(format!("policies: {}", signer.policies.join(", ")));
    }
    lines.push(match lists {
        0 => "revocation: not checked, no `--crl` was given".to_owned(),
        _ if !is_complete => {
            "revocation: not checked for all certificates: no list given is about each of them".to_owned()
        }
        1 => "revocation: checked, 1 list".to_owned(),
        lists => format!("revocation: checked, {lists} lists"),
    });
    lines.push("trust: signed; whether a server trusts this signer more is in its configuration".to_owned());
    lines
}

fn write_lines(lines: &[String]) -> Result<(), Failure> {
    let shown = lines.iter().map(|line| escape_untrusted(line, MAX_SHOWN_CHARS) + "\n");
    output::write_stdout(shown.collect::<String>().as_bytes())
}

fn rejected(rejection: &Rejection) -> Failure {
    let cause = [("cause".to_owned(), rejection.code().to_owned())];
    Failure::answered(Reason::AttestationRejected, rejection.to_string(), cause)
}

fn time(time: SystemTime) -> String {
    DateTime::<Utc>::from(time).to_rfc3339_opts(SecondsFormat::Secs, true)
}

impl SignerBody {
    fn of(signer: &Signer) -> Self {
        Self {
            name: signer.name().to_owned(),
            subject: signer.subject.clone(),
            email: signer.email.clone(),
            organisation: signer.organisation.clone(),
            issuer: signer.issuer.clone(),
            root: signer.root.clone(),
            root_fingerprint: signer.root_fingerprint.clone(),
            serial: signer.serial.to_ascii_uppercase(),
            fingerprint: signer.fingerprint.clone(),
            policies: signer.policies.clone(),
            algorithm: signer.algorithm.name(),
            signed_at: time(signer.signed_at),
            not_after: time(signer.not_after),
        }
    }
}
