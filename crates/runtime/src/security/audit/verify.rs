//! Finding whatever was changed in a log. Trusts the public key and nothing else: records are held against the hashes of
//! the tree, those against the ones above them, and the root against the signed checkpoint.

use std::ops::Range;
use std::path::Path;

use signed_note::{Note, StandardVerifier, VerifierList};
use tlog_tiles::{Checkpoint, Hash, record_hash};

use super::fault::Fault;
use super::log::{AuditError, CHECKPOINT, PUBLIC_KEY};
use super::reading::{
    Bundle, Pending, are_waiting, beyond, is_missing, parse_checkpoint, read_bundle_or_archived,
    read_checkpoint, read_file, read_pending, read_tile,
};
use super::tree::{Edge, HashTile, TILE_HEIGHT, TILE_WIDTH, subtree};
use super::{Event, Record, RetentionPart};

/// Faults that are told; a log that was cut to pieces has as many as records.
const MAX_FAULTS: usize = 100;
/// Looks at a log that a server changes meanwhile, before what was found is told as a fault.
const LOOKS: usize = 3;
/// What a record is about that lets others be taken out.
const RETENTION: &str = "retention";

/// What a log is held against, beside itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Evidence<'a> {
    /// The public key as it was once copied; the log's own `key.pub` where `None`.
    pub key: Option<&'a [u8]>,
    /// An earlier checkpoint: what it was signed over must still be there as it was.
    pub checkpoint: Option<&'a [u8]>,
    /// Where retention moved records to.
    pub archive: Option<&'a Path>,
}

/// What a look at a log found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Records that are there.
    pub records: u64,
    /// Records that the signed checkpoint vouches for, those that were taken out included.
    pub signed: u64,
    /// Records that retention took out, and that are in no archive that was given.
    pub pruned: Option<Pruned>,
    /// Whether the last record was not written whole, as a crash leaves it.
    pub torn: bool,
    /// What is wrong, in order.
    pub faults: Vec<Fault>,
    /// The root that was signed, in base64; empty where nothing was.
    pub root: String,
}

/// Records that are gone by the operator's own rule, as a signed record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pruned {
    /// The first of them.
    pub first: u64,
    /// The last of them.
    pub last: u64,
    /// The record that says so.
    pub by: u64,
    /// When that was made.
    pub at: String,
    /// What it says.
    pub retention: RetentionPart,
}

/// Checks a log by its public key, and against whatever else there is to hold it against.
///
/// # Errors
/// When a file is there and cannot be read.
pub fn check(folder: &Path, evidence: &Evidence<'_>) -> Result<Report, AuditError> {
    let mut looks = 0;
    loop {
        looks += 1;
        let before = std::fs::read(folder.join(CHECKPOINT)).ok();
        let report = look(folder, evidence)?;
        // A server that writes beside us moves records while we read.
        let moved = before != std::fs::read(folder.join(CHECKPOINT)).ok();
        if report.faults.is_empty() || looks == LOOKS || !moved {
            return Ok(report);
        }
    }
}

/// The checkpoint, if it is signed by the key: the one that is given, or else the log's. `None` where there is none yet.
pub(super) fn signed_checkpoint(
    folder: &Path,
    key: Option<&[u8]>,
) -> Result<Result<Option<Checkpoint>, Fault>, AuditError> {
    let note = match read_file(&folder.join(CHECKPOINT)) {
        Err(error) if is_missing(&error) => return Ok(Ok(None)),
        note => note?,
    };
    let checkpoint = match parse_checkpoint(&note) {
        Ok(checkpoint) => checkpoint,
        Err(why) => return Ok(Err(Fault::BadCheckpoint(why))),
    };
    Ok(if is_signed(folder, key, &note)? { Ok(Some(checkpoint)) } else { Err(Fault::Signature) })
}

fn is_signed(folder: &Path, key: Option<&[u8]>, note: &[u8]) -> Result<bool, AuditError> {
    let key = key.map_or_else(|| read_file(&folder.join(PUBLIC_KEY)), |key| Ok(key.to_vec()))?;
    let verifier = std::str::from_utf8(&key).ok().and_then(|key| StandardVerifier::new(key.trim()).ok());
    let signed = verifier
        .zip(Note::from_bytes(note).ok())
        .is_some_and(|(verifier, note)| note.verify(&VerifierList::new(vec![Box::new(verifier)])).is_ok());
    Ok(signed)
}

fn look(folder: &Path, evidence: &Evidence<'_>) -> Result<Report, AuditError> {
    // First, so that what is moved into the tree meanwhile is found in one place at least.
    let pending = read_pending(folder)?;
    let mut report = Report::default();
    let signed = signed_checkpoint(folder, evidence.key)?;
    // How many records there should be, even one that nobody signed may tell; what their root is, it may not.
    let root =
        signed.as_ref().ok().and_then(|checkpoint| checkpoint.as_ref()).map(|checkpoint| *checkpoint.hash());
    let checkpoint = signed.unwrap_or_else(|fault| {
        report.faults.push(fault);
        read_checkpoint(folder)
    });
    let earlier = earlier(folder, evidence, &mut report)?;
    let size = checkpoint.as_ref().map_or(0, Checkpoint::size);
    let mut walk = Walk {
        folder,
        archive: evidence.archive,
        size,
        root,
        earlier: earlier.as_ref(),
        edge: Edge::default(),
        is_whole: true,
        doubted: Vec::new(),
        absent: Vec::new(),
        retention: None,
        leaves: Vec::new(),
        report: &mut report,
    };
    let mut first = 0;
    // A size that nobody signed may be any.
    while first < size && (root.is_some() || walk.report.faults.len() < MAX_FAULTS) {
        let width = usize::try_from((size - first).min(TILE_WIDTH as u64)).unwrap_or(TILE_WIDTH);
        walk.tile(first, width)?;
        first += width as u64;
    }
    walk.finish();
    if let Some(checkpoint) = &checkpoint {
        report.root = checkpoint.hash().to_string();
    }
    if let Some(earlier) = earlier.filter(|earlier| earlier.size() > size) {
        report.faults.push(Fault::Missing { first: size, last: earlier.size() - 1 });
    }
    check_end(folder, size, checkpoint.is_some(), &pending, &mut report);
    report.faults.sort_by_key(Fault::position);
    report.signed = if report.faults.is_empty() { size } else { 0 };
    report.faults.truncate(MAX_FAULTS);
    Ok(report)
}

fn earlier(
    folder: &Path,
    evidence: &Evidence<'_>,
    report: &mut Report,
) -> Result<Option<Checkpoint>, AuditError> {
    let Some(note) = evidence.checkpoint else { return Ok(None) };
    match parse_checkpoint(note) {
        Ok(earlier) => {
            if !is_signed(folder, evidence.key, note)? {
                report.faults.push(Fault::OtherKey);
            }
            Ok(Some(earlier))
        }
        Err(why) => {
            report.faults.push(Fault::BadCheckpoint(why));
            Ok(None)
        }
    }
}

/// What comes after the records that are signed.
fn check_end(folder: &Path, size: u64, has_checkpoint: bool, pending: &Pending, report: &mut Report) {
    report.torn = pending.torn;
    let mut next = size;
    for line in &pending.lines {
        match Head::of(line).map(|head| head.sequence) {
            // Moved into the tree just before a crash.
            Some(number) if number < size => {}
            Some(number) if number == next => {
                next += 1;
                report.records += 1;
            }
            _ => {
                report.faults.push(Fault::Pending(next));
                break;
            }
        }
    }
    // A crash just before the checkpoint leaves tiles that it is not over, and the records of which they were made.
    if report.faults.is_empty() && goes_on_otherwise(folder, size) {
        report.faults.push(if has_checkpoint { Fault::OldCheckpoint { size } } else { Fault::NoCheckpoint });
    }
}

/// Whether there are records in the tree after the first `size` that do not wait to get there. A server that writes beside us
/// has them in this order: records wait until the tree has them and a newer checkpoint is over them.
fn goes_on_otherwise(folder: &Path, size: u64) -> bool {
    let beyond = beyond(folder, size);
    if beyond.is_empty() {
        return false;
    }
    let is_new = |line: &&Vec<u8>| Head::of(line).is_some_and(|head| head.sequence >= size);
    let are_waiting = read_pending(folder)
        .is_ok_and(|pending| are_waiting(&beyond, size, pending.lines.iter().filter(is_new)));
    !are_waiting && read_checkpoint(folder).is_none_or(|checkpoint| checkpoint.size() <= size)
}

/// A way through the tree, tile by tile from the left.
struct Walk<'a> {
    folder: &'a Path,
    archive: Option<&'a Path>,
    size: u64,
    /// The root that was signed.
    root: Option<Hash>,
    earlier: Option<&'a Checkpoint>,
    edge: Edge,
    /// Whether every hash so far was there to go on with.
    is_whole: bool,
    /// Records that agree with their hashes, which do not with those above them.
    doubted: Vec<Range<u64>>,
    /// Records of bundles that are not there.
    absent: Vec<Range<u64>>,
    /// The leave to take records out that lets the most go, the newest of it.
    retention: Option<(Record, RetentionPart)>,
    /// All leave so far: the first record that it keeps, and whether those before it went to an archive.
    leaves: Vec<(u64, bool)>,
    report: &'a mut Report,
}

impl Walk<'_> {
    /// Looks at the records from `first` on whose hashes are one tile.
    fn tile(&mut self, first: u64, width: usize) -> Result<(), AuditError> {
        let number = first / TILE_WIDTH as u64;
        let records = first..first + width as u64;
        let logged = if_usable(read_tile(self.folder, 0, number, width))?;
        let bundle = if_usable(read_bundle_or_archived(self.folder, self.archive, number, width))?;
        let Some(bundle) = bundle else {
            self.lacks(&records);
            self.hashes_alone(records, logged);
            return Ok(());
        };
        let leaves: Vec<Hash> = bundle.records.iter().map(|record| record_hash(record)).collect();
        self.report.records += leaves.len() as u64;
        let is_complete = leaves.len() == width;
        if is_complete && self.is_right(&records, &leaves) {
            if logged.as_ref() != Some(&leaves) {
                self.fault(Fault::Hashes { first: records.start, last: records.end - 1 });
            }
            self.note(&records, &bundle, &leaves, &leaves);
            self.go_on(records.start, &leaves);
        } else if let Some(logged) = logged.as_ref().filter(|logged| **logged != leaves) {
            // With the hashes that were logged, so that one changed record does not hide another.
            self.compare(&records, &leaves, logged);
            self.note(&records, &bundle, &leaves, logged);
            self.go_on(records.start, logged);
        } else {
            self.doubt(&records, logged.is_some());
            self.note(&records, &bundle, &leaves, &leaves);
            self.go_on(records.start, &leaves);
            if !is_complete {
                self.is_whole = false;
                self.fault(Fault::Missing {
                    first: records.start + leaves.len() as u64,
                    last: records.end - 1,
                });
            }
        }
        if !bundle.is_whole && is_complete {
            self.fault(Fault::Surplus { first: records.start, last: records.end - 1 });
        }
        Ok(())
    }

    /// Whether it is records that were changed or the hashes above them, the root will tell. Of the last tile it tells
    /// nothing more than of the whole, where records and hashes agree.
    fn doubt(&mut self, records: &Range<u64>, have_hashes: bool) {
        let is_full = records.end - records.start == TILE_WIDTH as u64;
        if is_full || !have_hashes {
            self.doubted.push(records.clone());
        }
    }

    fn lacks(&mut self, records: &Range<u64>) {
        match self.absent.last_mut() {
            Some(before) if before.end == records.start => before.end = records.end,
            _ => self.absent.push(records.clone()),
        }
    }

    /// Of a bundle that is not there the hashes are all there is to go on with.
    fn hashes_alone(&mut self, records: Range<u64>, logged: Option<Vec<Hash>>) {
        match logged {
            Some(logged) => {
                if !self.is_right(&records, &logged) {
                    self.doubt(&records, true);
                }
                self.go_on(records.start, &logged);
            }
            None => {
                self.is_whole = false;
                self.fault(Fault::Hashes { first: records.start, last: records.end - 1 });
            }
        }
    }

    /// Whether these are the hashes that were logged, by what stands above them: the level above a full tile, the root
    /// above the last one.
    fn is_right(&self, records: &Range<u64>, hashes: &[Hash]) -> bool {
        if hashes.len() == TILE_WIDTH {
            let tile = TILE_WIDTH as u64;
            let (number, full) = (records.start / tile, self.size / tile);
            let above = number / tile;
            let width = usize::try_from((full - above * tile).min(tile)).unwrap_or(TILE_WIDTH);
            let offset = usize::try_from(number % tile).unwrap_or_default();
            let above = read_tile(self.folder, 1, above, width).ok();
            return above.and_then(|above| above.get(offset).copied()) == Some(subtree(hashes));
        }
        let mut edge = self.edge.clone();
        for hash in hashes {
            edge.push(*hash);
        }
        edge.size() == self.size && Some(edge.root()) == self.root
    }

    fn compare(&mut self, records: &Range<u64>, leaves: &[Hash], logged: &[Hash]) {
        for (number, offset) in records.clone().zip(0..) {
            let Some(leaf) = leaves.get(offset) else {
                self.fault(Fault::Missing { first: number, last: records.end - 1 });
                break;
            };
            if logged.get(offset) != Some(leaf) {
                self.fault(Fault::Changed(number));
            }
        }
    }

    /// Looks into records that are the ones of these hashes: at their numbers, and for leave to take others out.
    fn note(&mut self, records: &Range<u64>, bundle: &Bundle, leaves: &[Hash], hashes: &[Hash]) {
        let as_logged = leaves.iter().zip(hashes).map(|(leaf, hash)| leaf == hash);
        for ((number, record), as_logged) in records.clone().zip(&bundle.records).zip(as_logged) {
            if !as_logged {
                continue;
            }
            let head = Head::of(record);
            if head.as_ref().is_none_or(|head| head.sequence != number) {
                self.fault(Fault::Changed(number));
            } else if head.is_some_and(|head| head.event_type == RETENTION)
                && let Ok(record) = serde_json::from_slice::<Record>(record)
                && let Event::Retention { retention } = &record.event
                && self.is_furthest(number, retention)
            {
                let retention = retention.clone();
                self.leaves.push((retention.first_kept, retention.archived));
                self.retention = Some((record, retention));
            }
        }
    }

    /// Whether it lets more go than any leave before it. One that lets itself go was made by no server.
    fn is_furthest(&self, number: u64, retention: &RetentionPart) -> bool {
        let furthest = self.retention.as_ref().map_or(0, |(_, before)| before.first_kept);
        (furthest.max(1)..=number).contains(&retention.first_kept)
    }

    fn go_on(&mut self, first: u64, hashes: &[Hash]) {
        for (size, hash) in (first + 1..).zip(hashes) {
            for tile in self.edge.push(*hash) {
                self.compare_above(&tile);
            }
            let earlier = self.earlier.filter(|earlier| self.is_whole && earlier.size() == size);
            if earlier.is_some_and(|earlier| *earlier.hash() != self.edge.root()) {
                self.fault(Fault::Rewritten { size });
            }
        }
    }

    /// Holds a tile of hashes above those of bundles against what is below it. Nothing else reads it but who goes on with the
    /// log, or proves a record.
    fn compare_above(&mut self, tile: &HashTile) {
        // Of the two levels below, whatever is wrong shows with the records.
        if tile.level < 2 || !self.is_whole {
            return;
        }
        let logged = read_tile(self.folder, tile.level, tile.number, tile.hashes.len());
        if logged.ok().as_ref() != Some(&tile.hashes) {
            let records =
                1_u64.checked_shl(u32::from(TILE_HEIGHT) * u32::from(tile.level)).unwrap_or(u64::MAX);
            let first = tile.number.saturating_mul(records).saturating_mul(TILE_WIDTH as u64);
            let last = first.saturating_add(records.saturating_mul(tile.hashes.len() as u64)) - 1;
            self.fault(Fault::Hashes { first, last });
        }
    }

    /// Judges what only the whole tree tells.
    fn finish(mut self) {
        let is_signed = self.is_whole && Some(self.edge.root()) == self.root;
        if is_signed {
            for tile in self.edge.partial() {
                self.compare_above(&tile);
            }
        }
        for records in std::mem::take(&mut self.doubted) {
            let (first, last) = (records.start, records.end - 1);
            self.fault(if is_signed { Fault::Hashes { first, last } } else { Fault::Tile { first, last } });
        }
        let mut pruned: Option<Range<u64>> = None;
        for records in std::mem::take(&mut self.absent) {
            let mut from = records.start;
            // Each part of them went by the first leave that lets it go.
            for (first_kept, archived) in self.leaves.clone() {
                let last = first_kept.min(records.end);
                if last <= from {
                    continue;
                }
                if archived && self.archive.is_some() {
                    self.fault(Fault::Missing { first: from, last: last - 1 });
                } else {
                    let first = pruned.map_or(from, |pruned| pruned.start);
                    pruned = Some(first..last);
                }
                from = last;
            }
            if records.end > from {
                self.fault(Fault::Missing { first: from, last: records.end - 1 });
            }
        }
        if let (Some(pruned), Some((record, retention))) = (pruned, self.retention.take()) {
            self.report.pruned = Some(Pruned {
                first: pruned.start,
                last: pruned.end - 1,
                by: record.sequence,
                at: record.timestamp,
                retention,
            });
        }
        if self.report.faults.is_empty() && !is_signed && self.root.is_some() {
            self.fault(Fault::Root);
        }
    }

    fn fault(&mut self, fault: Fault) {
        if self.report.faults.len() < MAX_FAULTS {
            self.report.faults.push(fault);
        }
    }
}

/// `None` for a file that is not there, or is not what it should be.
fn if_usable<T>(read: Result<T, AuditError>) -> Result<Option<T>, AuditError> {
    match read {
        Ok(found) => Ok(Some(found)),
        Err(AuditError::Broken { .. }) => Ok(None),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What every form of records has.
#[derive(serde::Deserialize)]
struct Head {
    sequence: u64,
    event_type: String,
}

impl Head {
    fn of(record: &[u8]) -> Option<Self> {
        serde_json::from_slice(record).ok()
    }
}
