//! Taking the oldest records out of the folder. The log is one for ever; what goes are bundles, the files of 256 records,
//! from the left. The hashes stay, so that the root of what is left is still the one that was signed.
//!
//! Invariant: no bundle goes before a record that allows it is under a signed checkpoint, and none goes that has not got
//! to the archive whole, where there is one. Wherever a crash interrupts it, the next round goes on. Of bundles that are gone
//! otherwise nothing is signed that would allow it afterwards.

use std::collections::BTreeSet;
use std::fs::DirBuilder;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::files::sync_folder;
use super::log::{AuditError, Log, broken};
use super::reading::{first_bundle, is_missing, read_bundle, read_file};
use super::tree::{TILE_WIDTH, entries_path};
use super::{Event, Record, RetentionPart, RetentionReason, proof};
use crate::security::time::parse_rfc3339;

/// Bundles that are looked at and taken out in one round at most, so that records do not wait for it.
const MAX_PRUNED: u64 = 64;
/// Bundles that are measured in one round at most: after a start, all there are.
const MAX_MEASURED: u64 = 10_000;
/// Records of a bundle.
const BUNDLE: u64 = TILE_WIDTH as u64;

/// How long records are kept; for ever, where nothing is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetentionConfig {
    /// How old they may become.
    pub age: Option<Duration>,
    /// How many bytes of them there may be; what is not 256 records yet counts for nothing.
    pub bytes: Option<u64>,
    /// Where they are moved to; they are deleted where `None`.
    pub archive: Option<PathBuf>,
}

/// What is kept, and what is about to go.
#[derive(Debug)]
pub(super) struct Retention {
    config: RetentionConfig,
    /// The first bundle that is there.
    first: u64,
    /// The bundles from the first one up to this one take so many `bytes`.
    measured: u64,
    bytes: u64,
    /// When the newest record of a bundle was made, of the one that was looked at last.
    newest: Option<(u64, SystemTime)>,
    /// Leave that was asked for: the record that gives it, and the first bundle that it keeps.
    leave: Option<(u64, u64)>,
    /// The first bundle that all leave which is signed keeps, once it was looked for.
    allowed: Option<u64>,
}

impl Retention {
    /// # Errors
    /// When the archive is the log itself.
    pub(super) fn new(config: RetentionConfig, log: &Log) -> Result<Self, AuditError> {
        if let Some(archive) = &config.archive {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(archive);
            made.map_err(|source| AuditError::File { path: archive.clone(), source })?;
            let real = |path: &Path| path.canonicalize().ok();
            if real(archive) == real(log.folder()) {
                return Err(broken(
                    archive,
                    "it is the log's own folder; its archive must be another one".into(),
                ));
            }
        }
        let first = first_bundle(log.folder(), log.size());
        Ok(Self { config, first, measured: first, bytes: 0, newest: None, leave: None, allowed: None })
    }

    /// Does a bounded piece of what is to be done. Answers the record that is to be written before it can go on.
    ///
    /// # Errors
    /// When a bundle cannot be read, archived or removed; the next round tries again.
    pub(super) fn round(&mut self, log: &Log) -> Result<Option<RetentionPart>, AuditError> {
        match self.leave {
            Some((record, bound)) if record < log.size() => {
                self.allowed = Some(bound);
                self.prune(log, bound)?;
                self.leave = None;
                Ok(None)
            }
            // The record is written when the disk takes it.
            Some(_) => Ok(None),
            None => {
                let retention = self.plan(log, SystemTime::now())?;
                self.leave = retention.as_ref().map(|retention| (log.next(), retention.first_kept / BUNDLE));
                Ok(retention)
            }
        }
    }

    /// What should go now.
    fn plan(&mut self, log: &Log, now: SystemTime) -> Result<Option<RetentionPart>, AuditError> {
        let full = log.size() / BUNDLE;
        if (self.config.age.is_some() || self.config.bytes.is_some()) && self.first > 0 {
            self.excuse(log, self.first - 1)?;
        }
        let last = full.min(self.first + MAX_PRUNED);
        let archived = self.config.archive.is_some();
        let part = |bundle: u64, reason, limit| RetentionPart {
            first_kept: bundle * BUNDLE,
            reason,
            limit,
            archived,
        };
        let mut planned = None;
        if let Some(age) = self.config.age {
            let mut bound = self.first;
            while bound < last && self.newest_of(log, bound)?.is_some_and(|made| is_older(made, age, now)) {
                bound += 1;
            }
            planned = (bound > self.first).then(|| part(bound, RetentionReason::Age, age.as_secs()));
        }
        if let Some(limit) = self.config.bytes {
            self.measure(log, full)?;
            let (mut bound, mut left) = (self.first, self.bytes);
            while bound < last && left > limit {
                left = left.saturating_sub(self.length_of(log, bound)?);
                bound += 1;
            }
            if planned.as_ref().map_or(self.first, |planned| planned.first_kept / BUNDLE) < bound {
                planned = Some(part(bound, RetentionReason::Size, limit));
            }
        }
        Ok(planned)
    }

    /// Takes bundles out, from the first to the bound.
    fn prune(&mut self, log: &Log, bound: u64) -> Result<(), AuditError> {
        // What allows it must not be lost by a crash that this survives.
        sync_folder(log.folder())?;
        if let Some(archive) = &self.config.archive {
            let mut changed = BTreeSet::new();
            for bundle in self.first..bound {
                copy_to(archive, log.folder(), &entries_path(bundle, TILE_WIDTH), &mut changed)?;
            }
            for folder in &changed {
                sync_folder(folder)?;
            }
        }
        while self.first < bound {
            let path = log.folder().join(entries_path(self.first, TILE_WIDTH));
            let bytes = length(&path)?.unwrap_or_default();
            // Where it stood before it was full; a crash may have left some of it there.
            let narrow = path.with_extension("p");
            for removed in [std::fs::remove_dir_all(&narrow), std::fs::remove_file(&path)] {
                match removed {
                    Err(source) if source.kind() != ErrorKind::NotFound => {
                        return Err(AuditError::File { path, source });
                    }
                    _ => {}
                }
            }
            // A folder of a thousand bundles that has become empty goes too; one that has not stays.
            let is_group = |folder: &&Path| {
                folder.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"x"))
            };
            if let Some(folder) = path.parent().filter(is_group) {
                let _ = std::fs::remove_dir(folder);
            }
            self.bytes = self.bytes.saturating_sub(bytes);
            self.first += 1;
            self.measured = self.measured.max(self.first);
        }
        Ok(())
    }

    fn newest_of(&mut self, log: &Log, bundle: u64) -> Result<Option<SystemTime>, AuditError> {
        if let Some((known, made)) = self.newest
            && known == bundle
        {
            return Ok(Some(made));
        }
        let made = match read_bundle(log.folder(), bundle, TILE_WIDTH) {
            Ok(read) => {
                let newest =
                    read.records.last().and_then(|record| serde_json::from_slice::<Record>(record).ok());
                newest.and_then(|record| parse_rfc3339(&record.timestamp))
            }
            Err(error) if is_missing(&error) => {
                self.excuse(log, bundle)?;
                Some(SystemTime::UNIX_EPOCH)
            }
            Err(error) => return Err(error),
        };
        self.newest = made.map(|made| (bundle, made));
        Ok(made)
    }

    /// Counts the bytes of bundles that came to be full.
    fn measure(&mut self, log: &Log, full: u64) -> Result<(), AuditError> {
        let last = full.min(self.measured + MAX_MEASURED);
        while self.measured < last {
            self.bytes += self.length_of(log, self.measured)?;
            self.measured += 1;
        }
        Ok(())
    }

    fn length_of(&mut self, log: &Log, bundle: u64) -> Result<u64, AuditError> {
        match length(&log.folder().join(entries_path(bundle, TILE_WIDTH)))? {
            Some(bytes) => Ok(bytes),
            None => self.excuse(log, bundle).map(|()| 0),
        }
    }

    /// A bundle may be missing where leave that is signed already lets it go: it was taken out before a crash, which can
    /// have brought back one before it. Any other was taken out by somebody else.
    fn excuse(&mut self, log: &Log, bundle: u64) -> Result<(), AuditError> {
        let allowed = match self.allowed {
            Some(allowed) => allowed,
            None => *self.allowed.insert(allowed(log, self.first)?),
        };
        if bundle < allowed {
            return Ok(());
        }
        let why = "it is gone, and no signed record allows that; `mentat audit verify` says more";
        Err(broken(&log.folder().join(entries_path(bundle, TILE_WIDTH)), why.into()))
    }
}

/// The first bundle that the newest leave keeps which is under the checkpoint. It is in none that it lets go.
fn allowed(log: &Log, first: u64) -> Result<u64, AuditError> {
    for number in (first..log.size().div_ceil(BUNDLE)).rev() {
        let width = usize::try_from((log.size() - number * BUNDLE).min(BUNDLE)).unwrap_or(TILE_WIDTH);
        let records = match read_bundle(log.folder(), number, width) {
            Ok(bundle) => bundle.records,
            Err(error) if is_missing(&error) => continue,
            Err(error) => return Err(error),
        };
        for (index, bytes) in (number * BUNDLE..).zip(records).collect::<Vec<_>>().into_iter().rev() {
            if let Ok(Record { event: Event::Retention { retention }, .. }) = serde_json::from_slice(&bytes)
                && (1..=index).contains(&retention.first_kept)
                && proof::is_logged(log, index, bytes)
            {
                return Ok(retention.first_kept / BUNDLE);
            }
        }
    }
    Ok(0)
}

fn is_older(made: SystemTime, age: Duration, now: SystemTime) -> bool {
    now.duration_since(made).is_ok_and(|old| old > age)
}

/// The length of a bundle; `None` where it is not there.
fn length(path: &Path) -> Result<Option<u64>, AuditError> {
    match std::fs::metadata(path) {
        Ok(file) => Ok(Some(file.len())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(AuditError::File { path: path.into(), source }),
    }
}

/// Copies a bundle into the archive, which may be on another disk, and waits until that has its content. The folders that
/// have new names in them are `changed`.
fn copy_to(
    archive: &Path,
    folder: &Path,
    name: &str,
    changed: &mut BTreeSet<PathBuf>,
) -> Result<(), AuditError> {
    let bytes = match read_file(&folder.join(name)) {
        // Moved before a crash.
        Err(error) if is_missing(&error) && archive.join(name).is_file() => return Ok(()),
        bytes => bytes?,
    };
    let path = archive.join(name);
    let failed = |source| AuditError::File { path: path.clone(), source };
    let folder = path.parent().unwrap_or(archive);
    // Of one that was copied before a crash, the disk may not have the name.
    changed.extend(folder.ancestors().take_while(|above| above.starts_with(archive)).map(Path::to_owned));
    match read_file(&path) {
        Ok(there) if there == bytes => return Ok(()),
        Ok(_) => {
            let why = "it is there and holds something else; each log needs an archive of its own";
            return Err(broken(&path, why.into()));
        }
        Err(error) if is_missing(&error) => {}
        Err(error) => return Err(error),
    }
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    file.write_all(&bytes).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
    file.persist(&path).map_err(|error| failed(error.error))?;
    Ok(())
}
