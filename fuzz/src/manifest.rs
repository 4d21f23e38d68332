//! Manifests: any text is read or refused, and what is refused is explained within bounds.

use mentat_manifest::{Limits, Manifest};
use mentat_runtime::error::Error;
use mentat_runtime::security::policy::Rules;

/// Reads the bytes as a manifest; what can be read can be decided on and explained.
pub fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match Manifest::parse(text) {
        Ok(manifest) => {
            let explained = manifest.explain(&Limits::DEFAULT);
            assert!(!explained.is_empty(), "nothing to say of {manifest:?}");
            let rules = Rules::default();
            if let Ok(limits) = rules.budget(Some(&manifest)) {
                let ceiling = Limits::CEILING;
                assert!(limits.memory_bytes <= ceiling.memory_bytes && limits.fuel <= ceiling.fuel);
                assert!(limits.timeout <= ceiling.timeout && limits.output_bytes <= ceiling.output_bytes);
            }
        }
        Err(error) => {
            assert!(!error.problems().is_empty(), "refused without a reason: {text:?}");
            super::check_error(&Error::InvalidManifest(error));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agents_manifests_and_their_neighbours_hold() {
        let agents = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../agents");
        let folders = std::fs::read_dir(agents).unwrap().map(|entry| entry.unwrap().path());
        let seeds: Vec<Vec<u8>> =
            folders.filter_map(|folder| std::fs::read(folder.join("manifest.yaml")).ok()).collect();
        assert!(seeds.len() >= 6, "agents are missing");
        for bytes in crate::variations(&seeds, 200) {
            run(&bytes);
        }
    }
}
