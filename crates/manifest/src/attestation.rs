//! An attestation that comes beside its manifest.

use serde::Deserialize;

use crate::manifest::Attestation;
use crate::parse::{Problem, structural};
use crate::tree::{self, Extensions};

impl Attestation {
    /// Reads a block that comes beside its manifest, as YAML or JSON, with its key `attestation` or without.
    ///
    /// # Errors
    /// What is wrong with the YAML, its keys or their types; lines and keys are the block's own.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let document = tree::read(text)?;
        let json = document.to_json(Extensions::Keep);
        if !json.is_object() {
            let message = "an attestation is a mapping of keys, such as `algorithm: ECDSA-P256`".into();
            return Err(Problem::at(document.place, String::new(), message));
        }
        let wrong = |error| structural(&document, &error);
        if json.get("attestation").is_some() {
            return serde_path_to_error::deserialize(&json)
                .map(|WithKey { attestation }| attestation)
                .map_err(wrong);
        }
        serde_path_to_error::deserialize(&json).map_err(wrong)
    }
}

/// A block as it stands in a manifest, and nothing beside it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WithKey {
    attestation: Attestation,
}
