//! Reading a log back, and finding whatever was changed in it. Trusts the public key and nothing else.

use std::fmt;
use std::path::Path;

use signed_note::{Note, StandardVerifier, VerifierList};
use tlog_tiles::{Checkpoint, Hash, record_hash};

use super::Record;
use super::log::{AuditError, CHECKPOINT, PENDING, PUBLIC_KEY, parse_checkpoint, read_file, read_hashes};
use super::tree::{Edge, TILE_WIDTH, entries_path, hash_path};

/// Faults that are told; a log that was cut to pieces has as many as records.
const MAX_FAULTS: usize = 100;

/// What a look at a log found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Records that are there.
    pub records: u64,
    /// Of those, records that the signed checkpoint vouches for.
    pub signed: u64,
    /// Whether the last record was not written whole, as a crash leaves it.
    pub torn: bool,
    /// What is wrong, in order.
    pub faults: Vec<Fault>,
    /// The root that was signed, in base64; empty where nothing was.
    pub root: String,
}

/// Something wrong with a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// This record is not the one that was logged here.
    Changed(u64),
    /// These records are gone.
    Missing {
        /// The first of them.
        first: u64,
        /// The last of them.
        last: u64,
    },
    /// Among these records some were changed, and their hashes with them.
    Tile {
        /// The first of them.
        first: u64,
        /// The last of them.
        last: u64,
    },
    /// The records do not make the root that was signed.
    Root,
    /// The checkpoint is not signed by the log's key.
    Signature,
    /// There is no checkpoint, though there are records in the tree.
    NoCheckpoint,
    /// The checkpoint cannot be read.
    BadCheckpoint(String),
    /// The records up to an earlier checkpoint are not those that it was signed over.
    Rewritten {
        /// How many records that checkpoint is over.
        size: u64,
    },
    /// Records that are not in the tree yet do not follow those that are.
    Pending(u64),
}

/// Checks a log by the public key that lies in it; with an earlier checkpoint, that nothing was rewritten since.
///
/// # Errors
/// When a file is there and cannot be read.
pub fn check(folder: &Path, earlier: Option<&[u8]>) -> Result<Report, AuditError> {
    let mut report = Report::default();
    let checkpoint = match signed_checkpoint(folder)? {
        Ok(checkpoint) => checkpoint,
        Err(Some(fault)) => {
            report.faults.push(fault);
            read_checkpoint(folder)
        }
        Err(None) => None,
    };
    let size = checkpoint.as_ref().map_or(0, Checkpoint::size);
    // A crash before the first checkpoint leaves tiles, and the records of which they were made.
    let has_tiles = folder.join("tile").exists();
    if checkpoint.is_none() && report.faults.is_empty() && has_tiles && pending(folder)?.0.is_empty() {
        report.faults.push(Fault::NoCheckpoint);
    }
    let mut edge = Edge::default();
    let earlier = match earlier.map(parse_checkpoint) {
        Some(Ok(earlier)) => Some(earlier),
        Some(Err(why)) => {
            report.faults.push(Fault::BadCheckpoint(why));
            None
        }
        None => None,
    };
    let mut number = 0;
    while number < size {
        let width = usize::try_from((size - number).min(TILE_WIDTH as u64)).unwrap_or(TILE_WIDTH);
        check_tile(folder, number, width, size, &mut edge, earlier.as_ref(), &mut report);
        number += width as u64;
    }
    if let Some(checkpoint) = &checkpoint {
        report.root = checkpoint.hash().to_string();
        let is_whole = edge.size() == size && report.faults.is_empty();
        if is_whole && edge.root() != *checkpoint.hash() {
            report.faults.push(Fault::Root);
        }
    }
    if let Some(earlier) = earlier.filter(|earlier| earlier.size() > size) {
        report.faults.push(Fault::Missing { first: size, last: earlier.size() - 1 });
    }
    report.signed = if report.faults.is_empty() { size } else { 0 };
    check_pending(folder, size, &mut report)?;
    report.faults.truncate(MAX_FAULTS);
    Ok(report)
}

/// Every record of a log in order, those that are not in the tree yet last.
///
/// # Errors
/// When the log cannot be read.
pub fn read(folder: &Path) -> Result<impl Iterator<Item = Result<Record, AuditError>>, AuditError> {
    read_from(folder, 0)
}

/// The same, from the record of that number on.
///
/// # Errors
/// As [`read`].
pub fn read_from(
    folder: &Path,
    from: u64,
) -> Result<impl Iterator<Item = Result<Record, AuditError>>, AuditError> {
    // First, so that what is moved into the tree meanwhile is found in one place at least.
    let (pending, _) = pending(folder)?;
    let size = read_checkpoint(folder).map_or(0, |checkpoint| checkpoint.size());
    let folder = folder.to_owned();
    let tile = TILE_WIDTH as u64;
    let tiles = (from / tile..size.div_ceil(tile)).flat_map({
        let folder = folder.clone();
        move |number| {
            let width = usize::try_from((size - number * tile).min(tile)).unwrap_or(TILE_WIDTH);
            match entries(&folder, number, width) {
                Ok(records) => records.into_iter().map(Ok).collect(),
                Err(error) => vec![Err(error)],
            }
        }
    });
    let parse = move |bytes: Vec<u8>| {
        serde_json::from_slice::<Record>(&bytes)
            .map_err(|error| AuditError::Broken { path: folder.clone(), why: format!("a record: {error}") })
    };
    let is_wanted = move |record: &Result<Record, AuditError>, from: u64| {
        record.as_ref().map_or(true, |record| record.sequence >= from)
    };
    let signed = tiles.map({
        let parse = parse.clone();
        move |bytes| bytes.and_then(&parse)
    });
    let signed = signed.filter(move |record| is_wanted(record, from));
    let open = pending.into_iter().map(parse).filter(move |record| is_wanted(record, from.max(size)));
    Ok(signed.chain(open))
}

fn check_tile(
    folder: &Path,
    first: u64,
    width: usize,
    size: u64,
    edge: &mut Edge,
    earlier: Option<&Checkpoint>,
    report: &mut Report,
) {
    let number = first / TILE_WIDTH as u64;
    let last = first + width as u64 - 1;
    let hashes = read_hashes(&folder.join(hash_path(0, number, width)), width).ok();
    let records = entries(folder, number, width).unwrap_or_default();
    let mut faults = Vec::new();
    for (number, offset) in (first..=last).zip(0..) {
        let Some(record) = records.get(offset) else {
            faults.push(Fault::Missing { first: number, last });
            break;
        };
        report.records += 1;
        let leaf = record_hash(record);
        let logged = hashes.as_ref().and_then(|hashes| hashes.get(offset)).copied();
        if logged.is_some_and(|logged| logged != leaf) || !is_numbered(record, number) {
            faults.push(Fault::Changed(number));
        }
        // With the hash that was logged, so that one changed record does not hide another.
        edge.push(logged.unwrap_or(leaf));
        if let Some(earlier) = earlier.filter(|earlier| earlier.size() == number + 1)
            && edge.root() != *earlier.hash()
        {
            faults.push(Fault::Rewritten { size: number + 1 });
        }
    }
    if faults.is_empty() && !agrees_above(folder, first, width, size, hashes.as_deref()) {
        faults.push(Fault::Tile { first, last });
    }
    report.faults.extend(faults);
}

/// Whether the hash over a full tile is the one that the level above holds.
fn agrees_above(folder: &Path, first: u64, width: usize, size: u64, hashes: Option<&[Hash]>) -> bool {
    let Some(hashes) = hashes else { return false };
    if width < TILE_WIDTH {
        return true;
    }
    let mut tile = Edge::default();
    for hash in hashes {
        tile.push(*hash);
    }
    let number = first / TILE_WIDTH as u64;
    let above = number / TILE_WIDTH as u64;
    let full = size / TILE_WIDTH as u64;
    let above_width =
        usize::try_from((full - above * TILE_WIDTH as u64).min(TILE_WIDTH as u64)).unwrap_or(TILE_WIDTH);
    let offset = usize::try_from(number % TILE_WIDTH as u64).unwrap_or_default();
    let logged = read_hashes(&folder.join(hash_path(1, above, above_width)), above_width).ok();
    logged.and_then(|logged| logged.get(offset).copied()) == Some(tile.root())
}

fn is_numbered(record: &[u8], number: u64) -> bool {
    serde_json::from_slice::<Record>(record).is_ok_and(|record| record.sequence == number)
}

fn check_pending(folder: &Path, size: u64, report: &mut Report) -> Result<(), AuditError> {
    let (lines, torn) = pending(folder)?;
    report.torn = torn;
    let mut next = size;
    for line in lines {
        match serde_json::from_slice::<Record>(&line) {
            // Moved into the tree just before a crash.
            Ok(record) if record.sequence < size => {}
            Ok(record) if record.sequence == next => {
                next += 1;
                report.records += 1;
            }
            _ => {
                report.faults.push(Fault::Pending(next));
                break;
            }
        }
    }
    Ok(())
}

/// The lines of records that are not in the tree yet, and whether the last was cut off.
fn pending(folder: &Path) -> Result<(Vec<Vec<u8>>, bool), AuditError> {
    let path = folder.join(PENDING);
    if !path.exists() {
        return Ok((Vec::new(), false));
    }
    let text = read_file(&path)?;
    let torn = !text.is_empty() && !text.ends_with(b"\n");
    let whole = text.split_inclusive(|byte| *byte == b'\n').filter_map(|line| line.strip_suffix(b"\n"));
    Ok((whole.map(<[u8]>::to_vec).collect(), torn))
}

/// The records of one tile.
pub(super) fn entries(folder: &Path, number: u64, width: usize) -> Result<Vec<Vec<u8>>, AuditError> {
    let path = folder.join(entries_path(number, width));
    let bytes = read_file(&path)?;
    let mut records = Vec::new();
    let mut rest = bytes.as_slice();
    while let Some((length, behind)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length));
        let Some((record, behind)) = behind.split_at_checked(length) else { break };
        records.push(record.to_vec());
        rest = behind;
    }
    Ok(records)
}

fn read_checkpoint(folder: &Path) -> Option<Checkpoint> {
    parse_checkpoint(&std::fs::read(folder.join(CHECKPOINT)).ok()?).ok()
}

/// The checkpoint, if the log's key has signed it; `Err(None)` where there is none.
fn signed_checkpoint(folder: &Path) -> Result<Result<Option<Checkpoint>, Option<Fault>>, AuditError> {
    let path = folder.join(CHECKPOINT);
    if !path.exists() {
        return Ok(Err(None));
    }
    let bytes = read_file(&path)?;
    let key = read_file(&folder.join(PUBLIC_KEY))?;
    let checkpoint = match parse_checkpoint(&bytes) {
        Ok(checkpoint) => checkpoint,
        Err(why) => return Ok(Err(Some(Fault::BadCheckpoint(why)))),
    };
    let verifier = std::str::from_utf8(&key).ok().and_then(|key| StandardVerifier::new(key.trim()).ok());
    let is_signed = verifier
        .zip(Note::from_bytes(&bytes).ok())
        .is_some_and(|(verifier, note)| note.verify(&VerifierList::new(vec![Box::new(verifier)])).is_ok());
    Ok(if is_signed { Ok(Some(checkpoint)) } else { Err(Some(Fault::Signature)) })
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed(number) => write!(formatter, "record {number} is not the one that was logged"),
            Self::Missing { first, last } if first == last => write!(formatter, "record {first} is missing"),
            Self::Missing { first, last } => write!(formatter, "records {first} to {last} are missing"),
            Self::Tile { first, last } => {
                write!(formatter, "records {first} to {last}: some were changed, and their hashes with them")
            }
            Self::Root => write!(formatter, "the records do not make the root that was signed"),
            Self::Signature => write!(formatter, "the checkpoint is not signed by the log's key"),
            Self::NoCheckpoint => write!(formatter, "there are records, and no checkpoint"),
            Self::BadCheckpoint(why) => write!(formatter, "the checkpoint cannot be read: {why}"),
            Self::Rewritten { size } => {
                write!(formatter, "the first {size} records are not those of the earlier checkpoint")
            }
            Self::Pending(number) => {
                write!(formatter, "record {number}, not in the tree yet, is not the next one or is no record")
            }
        }
    }
}
