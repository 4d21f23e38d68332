//! Writes a file whole or not at all, with the permissions it is to have from its first byte on. Knows nothing of what is in it.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::NamedTempFile;

/// Who may read a file that is written; its owner may write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readers {
    /// Its owner alone: keys.
    Owner,
    /// Everybody: certificates.
    Everybody,
    /// Whoever could read the file that it replaces; everybody where there is none.
    Same,
}

/// Puts `bytes` in place of the file `path`, which another process sees as it was or as it is to be.
///
/// # Errors
/// When the folder takes no file, or the disk does not keep it.
pub fn replace(path: &Path, bytes: &[u8], readers: Readers) -> io::Result<()> {
    prepared(path, bytes, readers)?.persist(path).map_err(|error| error.error)?;
    sync_folder(path)
}

/// As [`replace`], but never in place of a file that is there.
///
/// # Errors
/// As [`replace`], and [`io::ErrorKind::AlreadyExists`].
pub fn create(path: &Path, bytes: &[u8], readers: Readers) -> io::Result<()> {
    prepared(path, bytes, readers)?.persist_noclobber(path).map_err(|error| error.error)?;
    sync_folder(path)
}

fn prepared(path: &Path, bytes: &[u8], readers: Readers) -> io::Result<NamedTempFile> {
    let mode = match readers {
        Readers::Owner => 0o600,
        Readers::Everybody => 0o644,
        Readers::Same => path.metadata().map_or(0o644, |file| file.permissions().mode() & 0o777),
    };
    // Made with 0600, and for nobody else to read before it is whole.
    let mut file = NamedTempFile::new_in(folder(path))?;
    file.write_all(bytes)?;
    file.as_file().set_permissions(Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    Ok(file)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(folder(path))?.sync_all()
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_file_has_its_permissions_and_keeps_those_of_the_one_it_replaces() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        replace(&path, b"1", Readers::Same).unwrap();
        assert_eq!(mode(&path), 0o644);
        replace(&path, b"2", Readers::Owner).unwrap();
        assert_eq!(mode(&path), 0o600);
        replace(&path, b"3", Readers::Same).unwrap();
        assert_eq!((mode(&path), std::fs::read(&path).unwrap()), (0o600, b"3".to_vec()));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_is_there_is_not_overwritten_by_a_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        create(&path, b"1", Readers::Owner).unwrap();
        let refused = create(&path, b"2", Readers::Owner).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).unwrap(), b"1");
    }
}
