//! Files that engines make by themselves in every container, and in whose place it finds ours: Podman copies the machine's
//! list of hosts into it, names of other machines among them. And the list of system calls, which Podman reads from a file.

use std::path::{Path, PathBuf};

use mentat_runtime::error::Error;

use super::system_calls;

/// Where they lie in the server's data directory.
const FOLDER: &str = "container";
const FILES: [(&str, &str, &str); 2] = [
    ("/etc/hosts", "hosts", "127.0.0.1 localhost\n::1 localhost\n"),
    (
        "/etc/resolv.conf",
        "resolv.conf",
        "# No name is looked up in here; what is reached by name is reached by the proxy.\n",
    ),
];

const PROFILE: &str = "seccomp.json";

/// The files by where a container finds them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlainFiles {
    mounted: Vec<(&'static str, PathBuf)>,
    /// Where the list of system calls lies.
    profile: Option<PathBuf>,
}

impl PlainFiles {
    /// Writes them.
    ///
    /// # Errors
    /// `INTERNAL` where the disk refuses.
    pub fn write(data: &Path) -> Result<Self, Error> {
        let failed =
            |error| Error::internal(format!("the files of containers in `{}`", data.display()), error);
        // The engine has a working directory of its own.
        let folder = std::path::absolute(data).map_err(failed)?.join(FOLDER);
        std::fs::create_dir_all(&folder).map_err(failed)?;
        let write = |name: &str, text: &str| -> Result<PathBuf, Error> {
            let path = folder.join(name);
            if std::fs::read_to_string(&path).is_ok_and(|known| known == text) {
                return Ok(path);
            }
            // Whole at once, and for whoever runs in a container.
            let mut file = tempfile::Builder::new()
                .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
                .tempfile_in(&folder)
                .map_err(failed)?;
            std::io::Write::write_all(&mut file, text.as_bytes()).map_err(failed)?;
            file.persist(&path).map_err(|error| failed(error.error))?;
            Ok(path)
        };
        let mut mounted = Vec::new();
        for (guest, name, text) in FILES {
            mounted.push((guest, write(name, text)?));
        }
        let profile = Some(write(PROFILE, &system_calls::profile().to_string())?);
        Ok(Self { mounted, profile })
    }

    /// Where the list of system calls lies, if it was written.
    pub(super) fn profile(&self) -> Option<&Path> {
        self.profile.as_deref()
    }

    /// Each of them: where a container finds it, and where it lies.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        self.mounted.iter().map(|(guest, host)| (*guest, host.as_path()))
    }
}
