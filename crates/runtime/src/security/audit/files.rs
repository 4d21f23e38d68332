//! Files that are there whole or not at all, whatever moment the machine stops at.
//!
//! Invariant: a file gets its name once the disk has what is in it.

use std::collections::BTreeSet;
use std::fs::{File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::syncfs;
use tempfile::{NamedTempFile, TempPath};

use super::log::AuditError;

/// Files that the disk is waited for one by one. For more it is asked once, for all that it has not written.
const SYNCED_SINGLY: usize = 8;

/// Files of a folder that are written, and have no names yet.
pub(super) struct WholeFiles<'a> {
    folder: &'a Path,
    is_synced: bool,
    files: Vec<(TempPath, PathBuf)>,
    /// Those that the files are in, and those that these are in.
    folders: BTreeSet<PathBuf>,
}

impl<'a> WholeFiles<'a> {
    /// None yet; `is_synced` says whether the disk is waited for.
    pub(super) fn new(folder: &'a Path, is_synced: bool) -> Self {
        Self { folder, is_synced, files: Vec::new(), folders: BTreeSet::new() }
    }

    /// Writes a file; `name` is its path in the folder.
    pub(super) fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), AuditError> {
        let path = self.folder.join(name);
        let failed = |source| AuditError::File { path: path.clone(), source };
        let within = path.parent().unwrap_or(self.folder);
        if !self.folders.contains(within) {
            std::fs::create_dir_all(within).map_err(failed)?;
            // The name of a new folder must last as well.
            let up = within.ancestors().take_while(|above| above.starts_with(self.folder));
            self.folders.extend(up.map(Path::to_owned));
        }
        let mut file = NamedTempFile::new_in(within).map_err(failed)?;
        file.write_all(bytes).map_err(failed)?;
        self.files.push((file.into_temp_path(), path));
        Ok(())
    }

    /// Gives all files their names. What had such a name before is gone.
    pub(super) fn give_names(self) -> Result<(), AuditError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| AuditError::File { path, source }
        };
        if self.is_synced && self.files.len() > SYNCED_SINGLY {
            let folder = File::open(self.folder).map_err(at(self.folder))?;
            syncfs(&folder).map_err(|error| at(self.folder)(error.into()))?;
        } else if self.is_synced {
            for (file, path) in &self.files {
                File::open(file).and_then(|file| file.sync_data()).map_err(at(path))?;
            }
        }
        for (file, path) in self.files {
            file.persist(&path).map_err(|error| at(&path)(error.error))?;
        }
        if self.is_synced {
            // What is forgotten next is in these files alone.
            self.folders.iter().try_for_each(|folder| sync_folder(folder))?;
        }
        Ok(())
    }
}

/// Waits until the disk has the names of a folder.
pub(super) fn sync_folder(folder: &Path) -> Result<(), AuditError> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|source| AuditError::File { path: folder.into(), source })
}

/// Writes a file of a log that begins, whole or not at all, so that a crash leaves no half of a key.
pub(super) fn write_whole(folder: &Path, name: &str, bytes: &[u8], mode: u32) -> Result<(), AuditError> {
    let path = folder.join(name);
    let failed = |source| AuditError::File { path: path.clone(), source };
    let mut file = tempfile::Builder::new()
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(folder)
        .map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
    file.persist(&path).map(drop).map_err(|error| failed(error.error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn files_have_their_names_together_and_what_is_given_up_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        for count in [SYNCED_SINGLY, SYNCED_SINGLY + 1] {
            let mut files = WholeFiles::new(folder.path(), true);
            for number in 0..count {
                files.write(&format!("a/b/{number}"), number.to_string().as_bytes()).unwrap();
            }
            let within = folder.path().join("a/b");
            assert!(!within.join("0").exists());
            files.give_names().unwrap();
            assert_eq!(names(&within), (0..count).map(|number| number.to_string()).collect::<Vec<_>>());
            assert_eq!(std::fs::read_to_string(within.join("3")).unwrap(), "3");
            std::fs::remove_dir_all(&within).unwrap();
        }
        let mut files = WholeFiles::new(folder.path(), true);
        files.write("c", b"").unwrap();
        drop(files);
        assert_eq!(names(folder.path()), ["a"]);
    }
}
