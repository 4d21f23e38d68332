//! `mentat pull`: an agent out of an OCI registry, as a folder of this machine. What is there already stays, unless the user
//! says otherwise; what is there afterwards is whole.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use mentat_oci::{Pulled, Reference};
use serde::Serialize;
use tempfile::{Builder, NamedTempFile};

use crate::args::PullArguments;
use crate::output::{self, Failure};
use crate::registry;
use crate::source::{MANIFEST_NAME, ManifestFile};

/// How WebAssembly begins.
const WASM_MAGIC: &[u8] = b"\0asm";
/// What a module is called that has no manifest to call it something else.
const MODULE_NAME: &str = "agent.wasm";

#[derive(Serialize)]
struct Report {
    /// With the digest.
    reference: String,
    digest: String,
    directory: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
}

/// A file of the agent: where in its folder, and what is in it.
type Part<'a> = (PathBuf, &'a [u8]);

pub(crate) fn run(arguments: &PullArguments) -> Result<ExitCode, Failure> {
    let folder = arguments.directory.clone().unwrap_or_else(|| default_folder(&arguments.reference));
    let exists = may_write(&folder, arguments.force)?;
    let Pulled { digest, manifest, module } = registry::pull(&arguments.reference, &arguments.registry)?;
    // What lands on this machine's disk under a name of a stranger's is a module, and not a script of somebody's.
    if !module.starts_with(WASM_MAGIC) {
        return Err(Failure::invalid(format!(
            "`{}`: what the artifact has for a module is none, which begins with `\\0asm`",
            arguments.reference
        )));
    }
    let pinned = arguments.reference.at(digest).to_string();
    // Where the module goes is the manifest's word, which must be a plain path within the folder to be a manifest at all.
    let manifest = manifest.map(|text| ManifestFile::parse(pinned.clone().into(), text)).transpose()?;
    let mut parts: Vec<Part<'_>> = Vec::new();
    match &manifest {
        Some(file) => {
            file.module_path()?;
            parts.push((file.manifest.module_path().into(), &module));
            parts.push((MANIFEST_NAME.into(), file.text.as_bytes()));
        }
        None => {
            parts.push((MODULE_NAME.into(), &module));
            output::write_notice("it is a module alone, without a manifest");
        }
    }
    let written = if exists { overwrite(&folder, &parts) } else { create(&folder, &parts) };
    written.map_err(|error| {
        Failure::invalid(format!("the folder `{}` cannot be written: {error}", folder.display()))
    })?;
    let report = Report {
        reference: pinned,
        digest: digest.to_string(),
        directory: folder.display().to_string(),
        agent: manifest.as_ref().map(|file| file.manifest.id.to_string()),
        version: manifest.as_ref().map(|file| file.manifest.version.to_string()),
    };
    if arguments.json.json {
        output::write_json(&report)?;
    } else {
        output::write_stdout(format!("{}\n", report.reference).as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn default_folder(reference: &Reference) -> PathBuf {
    reference.repository.rsplit('/').next().unwrap_or_default().into()
}

/// Whether the folder is there and is to be written into; asked before anything is pulled.
fn may_write(folder: &Path, force: bool) -> Result<bool, Failure> {
    let shown = folder.display();
    match fs::read_dir(folder).map(|mut entries| entries.next().is_none()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Failure::invalid(format!("`{shown}` is no folder for an agent: {error}"))),
        // Nothing is in the way of anything, and the folder itself stays as it is.
        Ok(true) => Ok(true),
        Ok(false) if force => Ok(true),
        Ok(false) => Err(Failure::invalid(format!(
            "the folder `{shown}` is not empty; name another one, or overwrite the agent in it with --force"
        ))),
    }
}

/// Makes the folder, which then has all of the agent or is not there.
fn create(folder: &Path, parts: &[Part<'_>]) -> io::Result<()> {
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent)?;
    let made = Builder::new().prefix(".mentat-pull-").tempdir_in(parent)?;
    for (name, bytes) in parts {
        place(made.path(), name, bytes)?;
    }
    readable(made.path(), 0o755)?;
    fs::rename(made.path(), folder)?;
    // It has another name by now, under which it stays.
    let _ = made.keep();
    fs::File::open(parent)?.sync_all()
}

/// Puts each file in the place of the one that is there; the manifest comes last.
fn overwrite(folder: &Path, parts: &[Part<'_>]) -> io::Result<()> {
    parts.iter().try_for_each(|(name, bytes)| place(folder, name, bytes))
}

fn place(folder: &Path, name: &Path, bytes: &[u8]) -> io::Result<()> {
    let path = folder.join(name);
    let parent = path.parent().unwrap_or(folder);
    fs::create_dir_all(parent)?;
    let mut file = NamedTempFile::with_prefix_in(".mentat-pull-", parent)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    readable(file.path(), 0o644)?;
    // A link of that name is replaced, and not followed.
    file.persist(&path).map(drop).map_err(|error| error.error)
}

/// Temporary files are made for their owner alone; an agent is not secret.
fn readable(path: &Path, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_made_whole_and_one_that_has_something_in_it_is_left_alone() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = scratch.path().join("a/b");
        let parts: [Part<'_>; 2] = [("out/m.wasm".into(), b"module"), ("manifest.yaml".into(), b"manifest")];
        assert!(!may_write(&folder, false).unwrap());
        create(&folder, &parts).unwrap();
        assert_eq!(fs::read(folder.join("out/m.wasm")).unwrap(), b"module");
        let names: Vec<_> =
            fs::read_dir(scratch.path().join("a")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["b"]);
        assert!(may_write(&folder, false).unwrap_err().to_string().contains("--force"));
        assert!(may_write(&folder, true).unwrap());
    }

    #[test]
    fn overwriting_follows_no_link_and_leaves_other_files() {
        let scratch = tempfile::tempdir().unwrap();
        let (folder, outside) = (scratch.path().join("agent"), scratch.path().join("outside"));
        fs::create_dir(&folder).unwrap();
        fs::write(&outside, "precious").unwrap();
        fs::write(folder.join("README.md"), "mine").unwrap();
        std::os::unix::fs::symlink(&outside, folder.join("manifest.yaml")).unwrap();
        overwrite(&folder, &[("manifest.yaml".into(), b"manifest")]).unwrap();
        assert_eq!(fs::read(&outside).unwrap(), b"precious");
        assert_eq!(fs::read(folder.join("manifest.yaml")).unwrap(), b"manifest");
        assert_eq!(fs::read(folder.join("README.md")).unwrap(), b"mine");
    }

    #[test]
    fn a_folder_is_called_as_the_repository_is() {
        assert_eq!(default_folder(&"oci://h/agents/echo:1".parse().unwrap()), Path::new("echo"));
    }
}
