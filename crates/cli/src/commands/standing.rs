//! What a server with a given configuration would find of an agent's signature: the same judgement, on this machine.

use std::path::Path;
use std::time::SystemTime;

use mentat_manifest::{ModuleDigest, escape_untrusted};
use mentat_runtime::security::attestation::{Attestations, Candidate};
use mentat_server::anchors::TrustFiles;
use mentat_server::config::{ServerConfig, Sources};
use serde::Serialize;

use crate::output::Failure;
use crate::source::ManifestFile;

/// Characters of a signer or a reason that are shown at most.
const MAX_SHOWN_CHARS: usize = 400;

/// What was found.
#[derive(Debug, Serialize)]
pub(super) struct StandingReport {
    trust: &'static str,
    /// Who signed, where the signature holds.
    signer: Option<String>,
    /// Why the agent would be refused, as a code that never changes.
    refused: Option<&'static str>,
    /// The reason in words, or what the operator should know.
    message: Option<String>,
}

impl StandingReport {
    /// Judges an agent by the `[attestation]` section of a configuration, on behalf of a tenant.
    ///
    /// # Errors
    /// The configuration, or a file that it names, cannot be used.
    pub(super) fn by(
        config: &Path,
        tenant: &str,
        agent: &ManifestFile,
        module: &ModuleDigest,
    ) -> Result<Self, Failure> {
        let wrong = |error: &dyn std::fmt::Display| Failure::invalid(error.to_string());
        let sources = Sources { file: Some(config.to_owned()), flags: Vec::new() };
        let section = ServerConfig::load(&sources).map_err(|error| wrong(&error))?.attestation;
        let rules = section.rules().map_err(|error| wrong(&error))?;
        let attestations = Attestations::new(rules, TrustFiles::new(&section).read()?);
        let manifest = &agent.manifest;
        let candidate = Candidate {
            tenant,
            id: &manifest.id,
            version: &manifest.version,
            manifest: &agent.text,
            module,
            attestation: manifest.attestation.as_ref(),
        };
        let standing = attestations.judge(&candidate, SystemTime::now());
        let (_, message) = standing.told();
        Ok(Self {
            trust: standing.trust().as_str(),
            signer: standing.name().map(|name| escape_untrusted(name, MAX_SHOWN_CHARS)),
            refused: standing.refusal().map(|refusal| refusal.code),
            message: Some(escape_untrusted(&message, MAX_SHOWN_CHARS)).filter(|message| !message.is_empty()),
        })
    }

    /// One line for people.
    pub(super) fn line(&self) -> String {
        let mut line = match (self.refused, &self.signer) {
            (Some(code), _) => format!("refused: {code}"),
            (None, Some(signer)) => format!("{}, signed by `{signer}`", self.trust),
            (None, None) => self.trust.to_owned(),
        };
        if let Some(message) = &self.message {
            line.push_str("; ");
            line.push_str(message);
        }
        line
    }
}
