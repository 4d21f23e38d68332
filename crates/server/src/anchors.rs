//! What the operator trusts, as files: root certificates and revocation lists, the folders they lie in, and the watch over
//! them. A set with a mistake in it never comes into force; the one before stays, and the log says what is wrong. A revocation
//! list that can no longer be read is overdue some day, and certificates are then refused for it.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use mentat_attestation::{Anchors, Options, Revocations, Verifier};
use mentat_runtime::error::Error;
use tokio_util::sync::CancellationToken;

use crate::config::AttestationSection;
use crate::looks::Looks;

/// How the names of files end that are read in a folder; whatever else lies there is passed over.
const ROOT_EXTENSIONS: &[&str] = &["pem", "crt", "cer", "der"];
const CRL_EXTENSIONS: &[&str] = &["pem", "crl", "der"];
/// Files of one kind at most.
const MAX_FILES: usize = 200;
/// Bytes of all of them at most.
const MAX_BYTES: u64 = 128 << 20;

/// Where roots and revocation lists lie.
#[derive(Clone, Debug)]
pub struct TrustFiles {
    roots: Vec<PathBuf>,
    crls: Vec<PathBuf>,
    options: Options,
}

/// A file as it was found; one that was changed or put in the place of another differs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FoundFile {
    path: PathBuf,
    inode: u64,
    bytes: u64,
    modified: Option<SystemTime>,
}

impl TrustFiles {
    /// Those of the configuration.
    #[must_use]
    pub fn new(section: &AttestationSection) -> Self {
        Self { roots: section.roots.clone(), crls: section.crls.clone(), options: section.options() }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.roots.is_empty() && self.crls.is_empty()
    }

    /// What verifies by them.
    ///
    /// # Errors
    /// `INVALID_REQUEST` for files and folders that cannot be read or have nothing in them, and for what is no root or no
    /// revocation list.
    pub fn read(&self) -> Result<Verifier, Error> {
        let (mut anchors, mut revocations) = (Anchors::default(), Revocations::default());
        let mut left = MAX_BYTES;
        for file in self.find_roots()? {
            let bytes = read_file("roots", &file.path, &mut left)?;
            anchors.add(&bytes).map_err(|error| wrong("roots", &file.path, &error))?;
        }
        for file in self.find_crls()? {
            let bytes = read_file("crls", &file.path, &mut left)?;
            revocations.add(&bytes).map_err(|error| wrong("crls", &file.path, &error))?;
        }
        Ok(Verifier::new(anchors, revocations, self.options.clone()))
    }

    /// The files that there are now.
    ///
    /// # Errors
    /// As [`TrustFiles::read`].
    pub fn find(&self) -> Result<Vec<FoundFile>, Error> {
        Ok(self.find_roots()?.into_iter().chain(self.find_crls()?).collect())
    }

    fn find_roots(&self) -> Result<Vec<FoundFile>, Error> {
        find("roots", &self.roots, ROOT_EXTENSIONS)
    }

    fn find_crls(&self) -> Result<Vec<FoundFile>, Error> {
        find("crls", &self.crls, CRL_EXTENSIONS)
    }
}

fn find(key: &str, places: &[PathBuf], extensions: &[&str]) -> Result<Vec<FoundFile>, Error> {
    let mut found = Vec::new();
    for place in places {
        let failed = |error: std::io::Error| wrong(key, place, &error);
        if !std::fs::metadata(place).map_err(failed)?.is_dir() {
            found.push(FoundFile::at(place.clone()).map_err(failed)?);
            continue;
        }
        let before = found.len();
        for entry in std::fs::read_dir(place).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
            if extensions.contains(&extension) {
                let file = FoundFile::at(path.clone()).map_err(|error| wrong(key, &path, &error))?;
                found.push(file);
            }
            if found.len() > MAX_FILES {
                return Err(wrong(key, place, &format!("there are more than {MAX_FILES} files")));
            }
        }
        if found.len() == before {
            let names: Vec<String> = extensions.iter().map(|extension| format!("`*.{extension}`")).collect();
            let what = format!("there is nothing in it that is read: {}", names.join(", "));
            return Err(wrong(key, place, &what));
        }
    }
    found.sort();
    Ok(found)
}

impl FoundFile {
    fn at(path: PathBuf) -> std::io::Result<Self> {
        let file = std::fs::metadata(&path)?;
        // Before it is opened, since opening a pipe waits for its writer.
        if !file.is_file() {
            return Err(std::io::Error::other("it is not a file"));
        }
        Ok(Self { path, inode: file.ino(), bytes: file.len(), modified: file.modified().ok() })
    }
}

fn read_file(key: &str, path: &Path, left: &mut u64) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path)
        .and_then(|file| file.take(left.saturating_add(1)).read_to_end(&mut bytes))
        .map_err(|error| wrong(key, path, &error))?;
    *left = left
        .checked_sub(read as u64)
        .ok_or_else(|| wrong(key, path, &format!("all files together have more than {MAX_BYTES} bytes")))?;
    Ok(bytes)
}

fn wrong(key: &str, path: &Path, what: &dyn std::fmt::Display) -> Error {
    Error::InvalidRequest { message: format!("`attestation.{key}`: `{}`: {what}", path.display()) }
}

/// Puts what the files hold in force, by `put`, whenever they change, until `closing`. `known` are those that were read, and
/// `lists` what is in force of them: a list that is gone, or older than before, takes nothing back that was revoked.
pub(crate) async fn watch(
    files: TrustFiles,
    known: Vec<FoundFile>,
    mut lists: Revocations,
    put: impl Fn(Verifier),
    every: Duration,
    closing: CancellationToken,
) {
    let mut looks = Looks::new(known);
    let mut last_error = String::new();
    loop {
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            () = closing.cancelled() => return,
        }
        let places = files.clone();
        let look = tokio::task::spawn_blocking(move || {
            let found = places.find().and_then(|found| match looks.changed(found) {
                Some(_) => places.read().map(Some),
                None => Ok(None),
            });
            (looks, found)
        });
        let Ok((after, found)) = look.await else { return };
        looks = after;
        match found {
            Ok(Some(verifier)) => {
                let (verifier, kept) = verifier.keeping_lists(&lists);
                lists = verifier.revocations().clone();
                for issuer in kept {
                    tracing::error!(
                        issuer,
                        "the revocation list is gone, or older than the one before, which stays in force until it is overdue; put \
                         a newer one there, or restart the server to do without"
                    );
                }
                tracing::info!(
                    roots = verifier.anchors().roots().len(),
                    "roots and revocation lists reloaded"
                );
                put(verifier);
                last_error.clear();
            }
            // As they were before: what was wrong in between is told again when it comes back.
            Ok(None) if looks.is_settled() => last_error.clear(),
            Ok(None) => {}
            Err(error) => {
                // Once for each mistake, not once for each look.
                let text = error.to_string();
                if text != last_error {
                    tracing::error!(
                        error = %text,
                        "roots and revocation lists not reloaded; those before stay in force, and what was revoked since is \
                         not known"
                    );
                    last_error = text;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(roots: &[&Path], crls: &[&Path]) -> Result<Verifier, String> {
        let owned = |paths: &[&Path]| paths.iter().map(|path| path.to_path_buf()).collect();
        let files = TrustFiles { roots: owned(roots), crls: owned(crls), options: Options::default() };
        files.read().map_err(|error| error.to_string())
    }

    #[test]
    fn what_cannot_be_read_is_named_with_its_key_and_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.pem");
        let missing = read(&[&file], &[]).unwrap_err();
        assert!(missing.contains("`attestation.roots`") && missing.contains("a.pem"), "{missing}");
        assert!(read(&[folder.path()], &[]).unwrap_err().contains("nothing in it that is read"));
        std::fs::write(folder.path().join("README.md"), "no certificate").unwrap();
        assert!(read(&[folder.path()], &[]).unwrap_err().contains("nothing in it that is read"));
        std::fs::write(&file, "no certificate").unwrap();
        assert!(read(&[folder.path()], &[]).unwrap_err().contains("BEGIN CERTIFICATE"));
        assert!(read(&[], &[&file]).unwrap_err().contains("`attestation.crls`"));
        std::fs::remove_file(&file).unwrap();
        std::fs::create_dir(&file).unwrap();
        assert!(read(&[folder.path()], &[]).unwrap_err().contains("not a file"));
        assert!(read(&[], &[]).unwrap().anchors().roots().is_empty());
    }
}
