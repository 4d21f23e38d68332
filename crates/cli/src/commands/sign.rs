//! `mentat sign`: writes an agent's attestation into its manifest, or prints it.

use std::path::Path;
use std::process::ExitCode;
use std::time::SystemTime;

use mentat_attestation::Certificate;
use mentat_attestation::signing::atomic::{self, Readers};
use mentat_attestation::signing::{
    SignerCommand, SigningKey, detached, read_certificates, sign, with_attestation,
};
use mentat_manifest::{ByteCount, ModuleDigest, RuntimeKind};
use serde::Serialize;

use crate::args::SignArguments;
use crate::files;
use crate::output::{self, Failure};
use crate::passphrase;
use crate::source::{self, AgentSource, Found, ManifestFile};

/// Bytes of a file of certificates at most.
const MAX_CERTIFICATES: ByteCount = ByteCount(256 << 10);

#[derive(Serialize)]
struct Reply<'a> {
    agent: String,
    version: String,
    module: String,
    attestation: &'a mentat_manifest::Attestation,
}

pub(crate) fn run(arguments: &SignArguments) -> Result<ExitCode, Failure> {
    let (manifest, module) = open_signable(&arguments.agent)?;
    let chain = chain(arguments)?;
    let key = match (&arguments.key, &arguments.signer_command) {
        (_, Some(command)) => {
            let command =
                SignerCommand::parse(command, arguments.signer_input.into(), arguments.signer_timeout);
            SigningKey::Command(command.map_err(|error| Failure::invalid(error.to_string()))?)
        }
        (Some(path), None) => SigningKey::Held(Box::new(passphrase::read_key(path, &arguments.passphrase)?)),
        (None, None) => return Err(Failure::invalid("give the key by `--key`, or a `--signer-command`")),
    };
    let attestation = sign(&manifest.text, &module, &key, &chain, SystemTime::now())
        .map_err(|error| Failure::invalid(error.to_string()))?;
    if !arguments.detached {
        let signed = with_attestation(&manifest.text, &attestation)
            .map_err(|error| Failure::invalid(error.to_string()).in_file(&manifest.path))?;
        replace(&manifest.path, &signed)?;
    }
    if arguments.json.json {
        output::write_json(&Reply {
            agent: manifest.manifest.id.to_string(),
            version: manifest.manifest.version.to_string(),
            module: module.to_string(),
            attestation: &attestation,
        })?;
    } else if arguments.detached {
        output::write_stdout(detached(&attestation).as_bytes())?;
    } else {
        output::write_notice(&format!(
            "`{}` is signed by `{}` ({}), with the module {module}",
            manifest.path.display(),
            attestation.signer.subject,
            attestation.algorithm
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// The manifest of an agent, and the digest of its module.
///
/// # Errors
/// When there is no such agent, or it has no module.
pub(super) fn open_signable(path: &Path) -> Result<(ManifestFile, ModuleDigest), Failure> {
    let Found::Manifest(manifest) = source::find(path)? else {
        return Err(Failure::invalid(format!(
            "`{}` is no manifest; a signature is about a manifest and its module, name the agent's folder",
            path.display()
        )));
    };
    let manifest = ManifestFile::read(manifest)?;
    if manifest.manifest.runtime_kind() == RuntimeKind::Container {
        return Err(Failure::invalid(format!(
            "agent `{}` is a container agent; agents with a module are signed here, images where they are stored",
            manifest.manifest.id
        )));
    }
    let agent = AgentSource::of(manifest)?;
    let module = ModuleDigest::of(&agent.module);
    let missing = || Failure::invalid(format!("`{}` is no manifest", path.display()));
    Ok((agent.manifest.ok_or_else(missing)?, module))
}

/// The signer's certificate and those above it, out of all the files that were given.
fn chain(arguments: &SignArguments) -> Result<Vec<Certificate>, Failure> {
    let mut chain: Vec<Certificate> = Vec::new();
    for path in std::iter::once(&arguments.cert).chain(&arguments.chain) {
        let pem = files::read(path, "certificate", MAX_CERTIFICATES)?;
        let certificates = read_certificates(&pem).map_err(|fault| {
            Failure::invalid(format!("the certificate `{}` cannot be used: {fault}", path.display()))
        })?;
        chain.extend(certificates);
    }
    Ok(chain)
}

/// Replaces a manifest, and the file itself where it is reached by a link.
fn replace(path: &Path, text: &str) -> Result<(), Failure> {
    path.canonicalize().and_then(|path| atomic::replace(&path, text.as_bytes(), Readers::Same)).map_err(
        |error| Failure::invalid(format!("the manifest `{}` cannot be written: {error}", path.display())),
    )
}
