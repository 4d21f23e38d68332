//! The part of a manifest that a module would have: as text, and put into a manifest that has none yet.

use std::fs;
use std::path::Path;

use mentat_manifest::Manifest;

use super::finding::Findings;
use crate::output::Failure;

/// Bytes of a manifest, as everywhere.
const MAX_MANIFEST_BYTES: u64 = 1 << 20;

/// The text, which ends with a newline. What is asked for is what was seen, and is to be read before it is believed.
pub(super) fn text(findings: &Findings) -> String {
    let mut text = String::from("wasm:\n  engine: wasmtime\n");
    if findings.capabilities.is_empty() {
        text.push_str("  capabilities: []\n");
        return text;
    }
    text.push_str("  capabilities:\n");
    for (capability, place) in &findings.capabilities {
        // As JSON has it, which YAML reads alike.
        let quoted = serde_json::Value::from(capability.as_str());
        text.push_str(&format!("    - {quoted}  # {place}\n"));
    }
    text
}

/// Puts the part into a manifest, or makes a file of it alone.
///
/// # Errors
/// Where the file is no manifest, has such a part, or cannot be written.
pub(super) fn write(path: &Path, part: &str) -> Result<(), Failure> {
    let shown = path.display();
    let failed = |error: std::io::Error| Failure::invalid(format!("`{shown}` cannot be written: {error}"));
    let before = match fs::metadata(path) {
        Ok(file) if file.len() > MAX_MANIFEST_BYTES => {
            return Err(Failure::invalid(format!("`{shown}` is larger than any manifest")));
        }
        Ok(_) => fs::read_to_string(path).map_err(failed)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return fs::write(path, part).map_err(failed);
        }
        Err(error) => return Err(failed(error)),
    };
    let manifest = Manifest::parse(&before)
        .map_err(|error| Failure::from(mentat_runtime::error::Error::from(error)).in_file(path))?;
    if manifest.wasm.is_some() {
        return Err(Failure::invalid(format!(
            "`{shown}` has a `wasm` part already; compare it with what is printed without `--write`"
        )));
    }
    let separator = if before.ends_with('\n') { "" } else { "\n" };
    let after = format!("{before}{separator}{part}");
    // What is written in another style than lines below each other cannot be gone on with.
    if !Manifest::parse(&after).is_ok_and(|after| after.wasm.is_some()) {
        return Err(Failure::invalid(format!(
            "the `wasm` part cannot be put behind what is in `{shown}`; write it there by hand"
        )));
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    std::io::Write::write_all(&mut file, after.as_bytes()).map_err(failed)?;
    let permissions = fs::metadata(path).map_err(failed)?.permissions();
    fs::set_permissions(file.path(), permissions).map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_put_into_a_manifest_that_has_none_and_into_no_other() {
        let mut findings = Findings::default();
        findings.wants("env:API_KEY", "main.py:3");
        findings.wants("filesystem:read:/data", "a\u{1b}[31m: # x\ny");
        let part = text(&findings);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("manifest.yaml");
        let manifest = "id: a.b\nversion: 1.0.0\nruntime: container\nimage: x:1 # kept";
        fs::write(&path, manifest).unwrap();
        write(&path, &part).unwrap();
        let written = fs::read_to_string(&path).unwrap();
        assert!(written.starts_with(manifest));
        let listed = Manifest::parse(&written).unwrap().wasm.unwrap().capabilities;
        assert_eq!(listed, ["env:API_KEY", "filesystem:read:/data"]);
        assert!(write(&path, &part).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), written);

        fs::write(&path, "{ id: a.b, version: 1.0.0, image: x }").unwrap();
        assert!(write(&path, &part).is_err());
        fs::write(&path, "not: a manifest\n").unwrap();
        assert!(write(&path, &part).is_err());
        let alone = folder.path().join("part.yaml");
        write(&alone, &text(&Findings::default())).unwrap();
        assert_eq!(fs::read_to_string(&alone).unwrap(), "wasm:\n  engine: wasmtime\n  capabilities: []\n");
    }
}
