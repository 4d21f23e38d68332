//! `mentat pki`: a certificate authority in a folder.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use mentat_attestation::signing::NewKey;
use mentat_attestation::signing::atomic::{self, Readers};
use mentat_attestation::signing::authority::{
    Authority, CertificateKind, Developer, Founding, Issued, IssuedCertificate,
};
use mentat_manifest::{ByteCount, escape_untrusted};
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::args::{
    PkiCrlArguments, PkiInitArguments, PkiIssueArguments, PkiListArguments, PkiRenewArguments,
    PkiRevokeArguments, PkiVerb,
};
use crate::files;
use crate::output::{self, Failure};
use crate::passphrase::{self, authority_failed};

/// Bytes of a certificate request at most.
const MAX_REQUEST: ByteCount = ByteCount(64 << 10);
/// Characters of a name that are shown at most.
const MAX_SHOWN_CHARS: usize = 100;

#[derive(Serialize)]
struct IssueReply<'a> {
    #[serde(flatten)]
    certificate: &'a IssuedCertificate,
    certificate_file: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_file: Option<String>,
}

#[derive(Serialize)]
struct ListReply<'a> {
    certificates: Vec<ListedCertificate<'a>>,
}

#[derive(Serialize)]
struct ListedCertificate<'a> {
    #[serde(flatten)]
    certificate: &'a IssuedCertificate,
    status: &'static str,
}

pub(crate) fn run(verb: &PkiVerb) -> Result<ExitCode, Failure> {
    match verb {
        PkiVerb::Init(arguments) => init(arguments),
        PkiVerb::Issue(arguments) => issue(arguments),
        PkiVerb::Renew(arguments) => renew(arguments),
        PkiVerb::Revoke(arguments) => revoke(arguments),
        PkiVerb::Crl(arguments) => crl(arguments),
        PkiVerb::List(arguments) => list(arguments),
    }?;
    Ok(ExitCode::SUCCESS)
}

fn init(arguments: &PkiInitArguments) -> Result<(), Failure> {
    let folder = &arguments.authority.authority;
    let founding = Founding {
        organisation: arguments.organisation.clone(),
        algorithm: arguments.algorithm.into(),
        passphrase: passphrase::for_new_key(&arguments.encryption)?,
        crl_days: arguments.crl_days,
    };
    Authority::init(folder, &founding, OffsetDateTime::now_utc()).map_err(authority_failed)?;
    let authority = Authority::open(folder).map_err(authority_failed)?;
    let shown = |path: PathBuf| path.display().to_string();
    output::write_notice(&format!(
        "operators trust `{}` and read the revocation lists beside `{}`; the keys in `{}` are yours alone",
        shown(authority.certificate_path(CertificateKind::Root)),
        shown(authority.crl_path(CertificateKind::Intermediate)),
        shown(folder.join("private")),
    ));
    if !arguments.encryption.encrypt {
        output::write_notice("its keys are not encrypted; `--encrypt` does that");
    }
    Ok(())
}

fn issue(arguments: &PkiIssueArguments) -> Result<(), Failure> {
    let named = |given: Option<&PathBuf>, extension: &str| {
        given.cloned().unwrap_or_else(|| PathBuf::from(format!("{}.{extension}", arguments.email)))
    };
    let developer = Developer {
        email: arguments.email.clone(),
        name: arguments.name.clone(),
        days: arguments.days,
        policies: arguments.policies.clone(),
    };
    let certificate_path = named(arguments.out.as_ref(), "crt");
    let mut authority = Authority::open(&arguments.authority.authority).map_err(authority_failed)?;
    let new_key = match &arguments.csr {
        Some(_) => None,
        None => {
            let key = NewKey::generate(arguments.algorithm.into())
                .map_err(|error| Failure::invalid(error.to_string()))?;
            Some((key, named(arguments.key.as_ref(), "key")))
        }
    };
    // What would keep the key or the certificate from being written is told before anything is issued.
    for path in new_key.iter().map(|(_, path)| path).chain([&certificate_path]) {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let why = if path.exists() {
            "is there already"
        } else if folder.is_some_and(|folder| !folder.is_dir()) {
            "is in no folder that exists"
        } else {
            continue;
        };
        return Err(Failure::invalid(format!(
            "`{}` {why}; name another file by `--out` and `--key`",
            path.display()
        )));
    }
    let request = match (&arguments.csr, &new_key) {
        (Some(path), _) => {
            let bytes = files::read(path, "certificate request", MAX_REQUEST)?;
            String::from_utf8_lossy(&bytes).into_owned()
        }
        (None, Some((key, _))) => {
            key.certificate_request().map_err(|error| Failure::invalid(error.to_string()))?
        }
        (None, None) => String::new(),
    };
    let key = authority_key(&authority, CertificateKind::Intermediate, &arguments.passphrase)?;
    let now = OffsetDateTime::now_utc();
    let Issued { certificate, chain_pem } =
        authority.issue(key, &developer, &request, now).map_err(authority_failed)?;
    if let Some((key, path)) = &new_key {
        passphrase::write_key(path, key, None)?;
    }
    atomic::create(&certificate_path, chain_pem.as_bytes(), Readers::Everybody)
        .map_err(|error| unwritable(&certificate_path, &error))?;
    if arguments.json.json {
        let key_file = new_key.map(|(_, path)| path.display().to_string());
        let certificate_file = certificate_path.display().to_string();
        return output::write_json(&IssueReply { certificate: &certificate, certificate_file, key_file });
    }
    let mut text = format!(
        "certificate {} in `{}`, until {}\n",
        certificate.serial,
        certificate_path.display(),
        shown_time(certificate.not_after)
    );
    if let Some((_, path)) = new_key {
        text.push_str(&format!("key in `{}`, for its owner alone\n", path.display()));
    }
    output::write_stdout(text.as_bytes())
}

fn renew(arguments: &PkiRenewArguments) -> Result<(), Failure> {
    let mut authority = Authority::open(&arguments.authority.authority).map_err(authority_failed)?;
    let key = authority_key(&authority, CertificateKind::Root, &arguments.passphrase)?;
    let renewed = authority.renew(key, OffsetDateTime::now_utc()).map_err(authority_failed)?;
    if arguments.json.json {
        return output::write_json(&renewed);
    }
    let text = format!(
        "certificate {} of {} in `{}`, until {}; what was issued before holds as it is\n",
        renewed.serial,
        owner(&renewed),
        authority.certificate_path(CertificateKind::Intermediate).display(),
        shown_time(renewed.not_after)
    );
    output::write_stdout(text.as_bytes())
}

fn revoke(arguments: &PkiRevokeArguments) -> Result<(), Failure> {
    let mut authority = Authority::open(&arguments.authority.authority).map_err(authority_failed)?;
    let now = OffsetDateTime::now_utc();
    let issuer = authority.find(&arguments.which, now).map_err(authority_failed)?.kind.issuer();
    let key = authority_key(&authority, issuer, &arguments.passphrase)?;
    let revoked = authority
        .revoke(key, &arguments.which, arguments.reason.into(), list_days(issuer, arguments.days), now)
        .map_err(authority_failed)?;
    if arguments.json.json {
        return output::write_json(&revoked);
    }
    let text = format!(
        "certificate {} of {} is revoked; give operators `{}`\n",
        revoked.serial,
        owner(&revoked),
        authority.crl_path(issuer).display()
    );
    output::write_stdout(text.as_bytes())
}

/// Days that lists hold: the root's, and those of the authority below it.
const ROOT_LIST_DAYS: u32 = 365;
const LIST_DAYS: u32 = 30;

/// How long a list holds: that of the root, whose key is rarely at hand, for a year.
fn list_days(issuer: CertificateKind, asked: Option<u32>) -> u32 {
    let usual = if issuer == CertificateKind::Root { ROOT_LIST_DAYS } else { LIST_DAYS };
    asked.unwrap_or(usual)
}

fn crl(arguments: &PkiCrlArguments) -> Result<(), Failure> {
    let mut authority = Authority::open(&arguments.authority.authority).map_err(authority_failed)?;
    let issuer = if arguments.root { CertificateKind::Root } else { CertificateKind::Intermediate };
    let key = authority_key(&authority, issuer, &arguments.passphrase)?;
    let days = list_days(issuer, arguments.days);
    authority.publish(issuer, key, days, OffsetDateTime::now_utc()).map_err(authority_failed)?;
    let text = format!(
        "revocation list in `{}`, until {}\n",
        authority.crl_path(issuer).display(),
        shown_time(authority.next_update(issuer))
    );
    output::write_stdout(text.as_bytes())
}

fn list(arguments: &PkiListArguments) -> Result<(), Failure> {
    let authority = Authority::open(&arguments.authority.authority).map_err(authority_failed)?;
    let now = OffsetDateTime::now_utc();
    let listed = authority.certificates().iter();
    let listed =
        listed.map(|certificate| ListedCertificate { certificate, status: status(certificate, now) });
    if arguments.json.json {
        return output::write_json(&ListReply { certificates: listed.collect() });
    }
    let mut text = format!("{:<32}  {:<12}  {:<7}  {:<20}  OWNER\n", "SERIAL", "KIND", "STATUS", "UNTIL");
    for ListedCertificate { certificate, status } in listed {
        text.push_str(&format!(
            "{:<32}  {:<12}  {status:<7}  {:<20}  {}\n",
            certificate.serial,
            certificate.kind.as_str(),
            shown_time(certificate.not_after),
            owner(certificate)
        ));
    }
    output::write_stdout(text.as_bytes())
}

fn authority_key(
    authority: &Authority,
    issuer: CertificateKind,
    argument: &crate::args::PassphraseArgument,
) -> Result<mentat_attestation::signing::PrivateKey, Failure> {
    let file = authority.key(issuer).map_err(authority_failed)?;
    passphrase::open_key(file, &authority.key_path(issuer), argument)
}

fn status(certificate: &IssuedCertificate, now: OffsetDateTime) -> &'static str {
    if certificate.revoked.is_some() {
        "revoked"
    } else if certificate.holds_at(now) {
        "valid"
    } else {
        "expired"
    }
}

fn owner(certificate: &IssuedCertificate) -> String {
    let name = match &certificate.email {
        Some(email) if *email != certificate.name => format!("{} <{email}>", certificate.name),
        _ => certificate.name.clone(),
    };
    escape_untrusted(&name, MAX_SHOWN_CHARS)
}

fn shown_time(time: OffsetDateTime) -> String {
    time.format(&Rfc3339).unwrap_or_default()
}

fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::invalid(format!("`{}` cannot be written: {error}", path.display()))
}
