//! Statements: what is signed of any text is one JSON document, which says the same when it is read and signed again.

use mentat_attestation::Statement;
use mentat_manifest::ModuleDigest;

/// Makes the statement of the bytes as a manifest.
pub fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let module = ModuleDigest::of(b"module");
    match Statement::new(text, &module) {
        Ok(statement) => {
            let canonical = std::str::from_utf8(statement.canonical()).expect("JSON is UTF-8");
            let digest = format!("\"module_digest\":\"{module}\"");
            assert!(canonical.contains(&digest), "signed without its module: {canonical}");
            // JSON is YAML, so that the statement without the digest is a manifest with the same statement; but for
            // characters that YAML wants escaped, and keys with digits alone, of which it takes no duplicates either.
            let bare =
                canonical.replacen(&format!("{digest},"), "", 1).replacen(&format!(",{digest}"), "", 1);
            if let Ok(again) = Statement::new(&bare, &module) {
                assert_eq!(again, statement, "two statements of one manifest");
            }
            let other = Statement::new(text, &ModuleDigest::of(b"other"));
            assert!(other.is_ok_and(|other| other != statement), "another module has the same statement");
        }
        Err(error) => super::check_text(&error.to_string(), 64 << 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_and_tricks_with_them_hold() {
        let agents = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../agents");
        let folders = std::fs::read_dir(agents).unwrap().map(|entry| entry.unwrap().path());
        let mut seeds: Vec<Vec<u8>> =
            folders.filter_map(|folder| std::fs::read(folder.join("manifest.yaml")).ok()).collect();
        assert!(seeds.len() >= 6, "agents are missing");
        seeds.push(
            b"{\"a\": [1.0, -0.0, 1e3, 9007199254740992, \"\\u00e9\\ud83d\\ude00\"], \"attestation\": {}}"
                .to_vec(),
        );
        seeds.push(b"x: {1: a, \"1\": b, 1.0: c, ~: d}\nmodule_digest: e\n".to_vec());
        for bytes in crate::variations(&seeds, 200) {
            run(&bytes);
        }
    }
}
