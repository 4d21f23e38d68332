//! An agent as it lies on disk, a folder, a manifest or a bare module, or in an OCI registry: found from the one path or
//! reference that the user gave. Reads and parses; does not judge whether the module can run.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use mentat_manifest::{Attestation, ByteCount, Manifest, RuntimeKind};
use mentat_oci::{Reference, ReferenceError};
use mentat_runtime::CompileConfig;
use mentat_runtime::error::Error;

use crate::args::RegistryArguments;
use crate::files;
use crate::output::Failure;
use crate::registry;

/// The manifest's name in an agent's folder.
pub(crate) const MANIFEST_NAME: &str = "manifest.yaml";
/// Bytes of a manifest that are read at most; parsing has a lower bound of its own.
const MAX_MANIFEST: ByteCount = ByteCount(4 << 20);

/// Bytes of an attestation that are read at most.
const MAX_ATTESTATION: ByteCount = ByteCount(1 << 20);

/// What a path turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A manifest, in the folder that was named or named itself.
    Manifest(PathBuf),
    /// Anything else is taken for a module.
    Module(PathBuf),
}

/// A manifest and the text it was parsed from.
#[derive(Debug)]
pub(crate) struct ManifestFile {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
    pub(crate) manifest: Manifest,
}

/// A module, with its manifest where it has one.
#[derive(Debug)]
pub(crate) struct AgentSource {
    pub(crate) manifest: Option<ManifestFile>,
    pub(crate) module_path: PathBuf,
    pub(crate) module: Bytes,
}

/// Tells what a path is.
///
/// # Errors
/// When there is nothing, or a folder without a manifest.
pub(crate) fn find(path: &Path) -> Result<Found, Failure> {
    if path.is_dir() {
        let manifest = path.join(MANIFEST_NAME);
        return if manifest.is_file() {
            Ok(Found::Manifest(manifest))
        } else {
            Err(Failure::invalid(format!(
                "the folder `{}` has no `{MANIFEST_NAME}`; name an agent's folder, a manifest or a `.wasm` module",
                path.display()
            )))
        };
    }
    if !path.exists() {
        return Err(Failure::invalid(format!(
            "`{}` does not exist; name an agent's folder, a manifest or a `.wasm` module",
            path.display()
        )));
    }
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    Ok(match extension {
        "yaml" | "yml" => Found::Manifest(path.to_owned()),
        _ => Found::Module(path.to_owned()),
    })
}

impl ManifestFile {
    /// Reads and parses a manifest.
    ///
    /// # Errors
    /// When it cannot be read; `INVALID_MANIFEST` with every problem and its place.
    pub(crate) fn read(path: PathBuf) -> Result<Self, Failure> {
        let bytes = files::read_regular(&path, "manifest", MAX_MANIFEST)?;
        let text = String::from_utf8(bytes.into()).map_err(|error| {
            Failure::invalid(format!(
                "manifest `{}` is not UTF-8: byte {} belongs to no character",
                path.display(),
                error.utf8_error().valid_up_to()
            ))
        })?;
        Self::parse(path, text)
    }

    /// Parses the text of a manifest, which came from `path`.
    ///
    /// # Errors
    /// `INVALID_MANIFEST` with every problem and its place.
    pub(crate) fn parse(path: PathBuf, text: String) -> Result<Self, Failure> {
        let manifest =
            Manifest::parse(&text).map_err(|error| Failure::from(Error::from(error)).in_file(&path))?;
        Ok(Self { path, text, manifest })
    }

    /// Where the module lies that the manifest names.
    ///
    /// # Errors
    /// When the agent is a container agent.
    pub(crate) fn module_path(&self) -> Result<PathBuf, Failure> {
        match self.manifest.runtime_kind() {
            RuntimeKind::Wasm => {
                let folder = self.path.parent().unwrap_or(Path::new(""));
                Ok(folder.join(self.manifest.module_path()))
            }
            RuntimeKind::Container => Err(Failure::invalid(format!(
                "agent `{}` is a container agent, which has no module; a server with a container engine executes it: \
                 `mentat load`, then `mentat execute`",
                self.manifest.id
            ))),
        }
    }
}

impl AgentSource {
    /// Opens whatever the path names.
    ///
    /// # Errors
    /// When there is no agent, its manifest is invalid, or its module cannot be read.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        match find(path)? {
            Found::Module(module_path) => {
                let module = read_module(&module_path)?;
                Ok(Self { manifest: None, module_path, module })
            }
            Found::Manifest(path) => Self::of(ManifestFile::read(path)?),
        }
    }

    /// Opens whatever the path names, or pulls what it refers to in a registry.
    ///
    /// # Errors
    /// As [`AgentSource::open`], and those of the registry.
    pub(crate) fn open_or_pull(path: &Path, arguments: &RegistryArguments) -> Result<Self, Failure> {
        let Some(reference) = referred(path)? else { return Self::open(path) };
        let pulled = registry::pull(&reference, arguments)?;
        let name = PathBuf::from(reference.at(pulled.digest).to_string());
        let manifest = pulled.manifest.map(|text| ManifestFile::parse(name.clone(), text)).transpose()?;
        if let Some(manifest) = &manifest {
            manifest.module_path()?;
        }
        Ok(Self { manifest, module_path: name, module: pulled.module })
    }

    /// Opens the module that a manifest names.
    ///
    /// # Errors
    /// When the agent is a container agent, or its module cannot be read.
    pub(crate) fn of(manifest: ManifestFile) -> Result<Self, Failure> {
        let module_path = manifest.module_path()?;
        let module = read_module(&module_path)?;
        Ok(Self { manifest: Some(manifest), module_path, module })
    }

    /// The manifest, where there is one.
    pub(crate) fn manifest(&self) -> Option<&Manifest> {
        self.manifest.as_ref().map(|file| &file.manifest)
    }
}

/// The agent in a registry that a path is meant to name, if it is.
///
/// # Errors
/// For a reference that is none.
pub(crate) fn referred(path: &Path) -> Result<Option<Reference>, Failure> {
    let Some(text) = path.to_str().filter(|text| Reference::is_meant(text)) else { return Ok(None) };
    text.parse().map(Some).map_err(|error: ReferenceError| Failure::invalid(error.to_string()))
}

/// Reads a module, whatever is in it.
///
/// # Errors
/// When it cannot be read or is larger than any that compiles.
pub(crate) fn read_module(path: &Path) -> Result<Bytes, Failure> {
    files::read_regular(path, "module", CompileConfig::default().max_module)
}

/// Reads an attestation that lies beside its manifest, and sees that it is one.
///
/// # Errors
/// When it cannot be read, or is no attestation.
pub(crate) fn read_attestation(path: &Path) -> Result<String, Failure> {
    let wrong =
        |what: &dyn std::fmt::Display| Failure::invalid(format!("attestation `{}`: {what}", path.display()));
    let bytes = files::read(path, "attestation", MAX_ATTESTATION)?;
    let text = String::from_utf8(bytes.into()).map_err(|_| wrong(&"it is not UTF-8"))?;
    Attestation::parse(&text).map_err(|problem| wrong(&problem))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_manifest_or_a_module_by_what_lies_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        assert!(find(folder.path()).unwrap_err().to_string().contains("no `manifest.yaml`"));
        assert!(find(&path("nothing")).unwrap_err().to_string().contains("does not exist"));
        for name in ["manifest.yaml", "agent.wasm"] {
            std::fs::write(path(name), "").unwrap();
        }
        assert_eq!(find(folder.path()).unwrap(), Found::Manifest(path("manifest.yaml")));
        assert_eq!(find(&path("manifest.yaml")).unwrap(), Found::Manifest(path("manifest.yaml")));
        assert_eq!(find(&path("agent.wasm")).unwrap(), Found::Module(path("agent.wasm")));
    }

    #[test]
    fn the_module_lies_beside_the_manifest() {
        let folder = tempfile::tempdir().unwrap();
        let manifest = "id: a\nversion: 1.0.0\nruntime: wasm\nmodule: own.wasm\n";
        std::fs::write(folder.path().join("manifest.yaml"), manifest).unwrap();
        let error = AgentSource::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("own.wasm") && error.contains("does not exist"), "{error}");
        std::fs::write(folder.path().join("own.wasm"), "bytes").unwrap();
        assert_eq!(AgentSource::open(folder.path()).unwrap().module, "bytes");
    }
}
