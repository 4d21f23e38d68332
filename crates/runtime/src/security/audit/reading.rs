//! Reading a log: its tiles, its pending records, and all of them in order. Needs no lock: what is read may be moved by a
//! server that writes it, from `pending` into the tree, from a narrow tile into a wider one, or into an archive.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use serde::de::DeserializeOwned;
use signed_note::Note;
use tlog_tiles::{Checkpoint, EMPTY_HASH, HASH_SIZE, Hash, record_hash};

use super::Record;
use super::fault::Fault;
use super::log::{AuditError, CHECKPOINT, KEY, PENDING, broken, without_leave};
use super::tag::{self, Tagger};
use super::tree::{TILE_WIDTH, entries_path, hash_path};
use super::verify::{goes_on_otherwise, signed_checkpoint};

/// Bytes of a file of the log: a bundle has 256 records of 64 KiB at most.
const MAX_FILE_BYTES: u64 = 17 << 20;
/// Bytes of the records that are not in the tree yet; the server has them in memory as well.
const MAX_PENDING_BYTES: u64 = 4 << 30;
/// Bundles after a checkpoint that are looked at.
const MAX_BEYOND: u64 = 1000;

/// Records that are not in the tree yet.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Pending {
    /// The lines that are whole.
    pub(super) lines: Vec<Vec<u8>>,
    /// Whether there is a last one that is not.
    pub(super) torn: bool,
    /// The first that the server has not written, as far as its private key can be read to tell.
    pub(super) forged: Option<u64>,
}

/// The records of one bundle.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Bundle {
    path: PathBuf,
    pub(super) records: Vec<Vec<u8>>,
    /// Whether it has as many as its name says, and nothing else.
    pub(super) is_whole: bool,
}

/// Every record of a log in order, those that are not in the tree yet last.
///
/// # Errors
/// When the log cannot be read.
pub fn read(folder: &Path) -> Result<impl Iterator<Item = Result<Record, AuditError>>, AuditError> {
    read_from(folder, None, 0)
}

/// The same, from the record of that number on, with those that retention has moved to an archive. Records that retention
/// took out, and that are not in the archive either, are left out.
///
/// # Errors
/// As [`read`].
pub fn read_from(
    folder: &Path,
    archive: Option<&Path>,
    from: u64,
) -> Result<impl Iterator<Item = Result<Record, AuditError>>, AuditError> {
    let texts = texts_from(folder, archive, move |_| from)?;
    let folder = folder.to_owned();
    Ok(texts.map(move |text| text.and_then(|(_, text)| parse(&folder, &text))))
}

/// Reads a record, or what else its text is asked for.
pub(super) fn parse<T: DeserializeOwned>(folder: &Path, text: &[u8]) -> Result<T, AuditError> {
    serde_json::from_slice(text).map_err(|error| broken(folder, format!("a record: {error}")))
}

/// The records as they lie there, each with its number; `from` is told how many are signed, and says which is the first.
pub(super) fn texts_from(
    folder: &Path,
    archive: Option<&Path>,
    from: impl FnOnce(u64) -> u64,
) -> Result<impl Iterator<Item = Result<(u64, Vec<u8>), AuditError>>, AuditError> {
    // First, so that what is moved into the tree meanwhile is found in one place at least.
    let pending = read_pending(folder)?;
    // Whoever searches must not be told that there is nothing by somebody who signed nothing.
    let checkpoint = signed_checkpoint(folder, None)?;
    let size = checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.as_ref().map_or(0, Checkpoint::size));
    let fault = checkpoint.err().or_else(|| {
        let is_old = goes_on_otherwise(folder, size);
        is_old.then_some(if size > 0 { Fault::OldCheckpoint { size } } else { Fault::NoCheckpoint })
    });
    if let Some(fault) = fault {
        let why = format!("{fault}; `mentat audit verify` says more");
        return Err(broken(&folder.join(CHECKPOINT), why));
    }
    let from = from(size);
    let (folder, archive) = (folder.to_owned(), archive.map(Path::to_owned));
    let tile = TILE_WIDTH as u64;
    let begin = if archive.is_some() { from / tile } else { (from / tile).max(first_bundle(&folder, size)) };
    let tiles = (begin..size.div_ceil(tile)).flat_map({
        let folder = folder.clone();
        move |number| {
            let width = usize::try_from((size - number * tile).min(tile)).unwrap_or(TILE_WIDTH);
            match read_bundle_or_archived(&folder, archive.as_deref(), number, width).and_then(Bundle::whole)
            {
                Ok(records) => (number * tile..).zip(records).map(Ok).collect(),
                Err(error) if is_missing(&error) && number < first_bundle(&folder, size) => Vec::new(),
                Err(error) => vec![Err(error)],
            }
        }
    });
    let open = pending.lines.into_iter().map(move |line| {
        let Numbered { sequence } = parse(&folder, &line)?;
        Ok((sequence, line))
    });
    let is_wanted = move |text: &Result<(u64, Vec<u8>), AuditError>, from: u64| {
        text.as_ref().map_or(true, |(sequence, _)| *sequence >= from)
    };
    let signed = tiles.filter(move |text| is_wanted(text, from));
    Ok(signed.chain(open.filter(move |text| is_wanted(text, from.max(size)))))
}

/// What tells which record a text is.
#[derive(serde::Deserialize)]
struct Numbered {
    sequence: u64,
}

/// The first record that is in the folder; those before it were taken out.
#[must_use]
pub fn first_kept(folder: &Path) -> u64 {
    let size = read_checkpoint(folder).map_or(0, |checkpoint| checkpoint.size());
    first_bundle(folder, size) * TILE_WIDTH as u64
}

/// The first bundle of records that is in the folder. They are taken out in order, so that a search by halves finds it.
pub(super) fn first_bundle(folder: &Path, size: u64) -> u64 {
    let (mut gone, mut there) = (0, size / TILE_WIDTH as u64);
    while gone < there {
        let middle = gone.midpoint(there);
        if folder.join(entries_path(middle, TILE_WIDTH)).exists() {
            there = middle;
        } else {
            gone = middle + 1;
        }
    }
    there
}

/// The first `width` records of a bundle, as far as they are there.
pub(super) fn read_bundle(folder: &Path, number: u64, width: usize) -> Result<Bundle, AuditError> {
    let (width_there, bytes) = read_at_least(folder, width, |width| entries_path(number, width))?;
    let (mut records, rest) = split(&bytes);
    let is_whole = rest.is_empty() && records.len() == width_there;
    records.truncate(width);
    Ok(Bundle { path: folder.join(entries_path(number, width_there)), records, is_whole })
}

/// The same, of a bundle that may have been moved to an archive.
pub(super) fn read_bundle_or_archived(
    folder: &Path,
    archive: Option<&Path>,
    number: u64,
    width: usize,
) -> Result<Bundle, AuditError> {
    let found = read_bundle(folder, number, width);
    match (found, archive) {
        (Err(error), Some(archive)) if is_missing(&error) => read_bundle(archive, number, width),
        (found, _) => found,
    }
}

impl Bundle {
    /// Its records, if they are all there.
    pub(super) fn whole(self) -> Result<Vec<Vec<u8>>, AuditError> {
        if self.is_whole { Ok(self.records) } else { Err(broken(&self.path, "it was cut or changed".into())) }
    }
}

/// The hashes of a tile, the first `width` of them.
pub(super) fn read_tile(
    folder: &Path,
    level: u8,
    number: u64,
    width: usize,
) -> Result<Vec<Hash>, AuditError> {
    let (width_there, bytes) = read_at_least(folder, width, |width| hash_path(level, number, width))?;
    if bytes.len() != width_there * HASH_SIZE {
        let path = folder.join(hash_path(level, number, width_there));
        let why = format!("it has {} bytes in place of {}", bytes.len(), width_there * HASH_SIZE);
        return Err(broken(&path, why));
    }
    let hashes = bytes.chunks_exact(HASH_SIZE).filter_map(|hash| hash.try_into().ok());
    Ok(hashes.take(width).map(Hash).collect())
}

/// The records that are in the tree after the first `size`, by number and hash: once as they lie there, and once as their
/// hashes do, which stay where retention takes records out. What cannot be read has the hash of nothing.
pub(super) fn beyond(folder: &Path, size: u64) -> Vec<(u64, Hash)> {
    let tile = TILE_WIDTH as u64;
    let first = size / tile;
    let mut found = Vec::new();
    for number in first..first + MAX_BEYOND {
        let known = found.len();
        let skipped = usize::try_from(size.saturating_sub(number * tile)).unwrap_or(TILE_WIDTH);
        let widest = |path: String| widths(&folder.join(path), skipped + 1).pop();
        let records = widest(entries_path(number, TILE_WIDTH)).map(|width| {
            let records = read_bundle(folder, number, width).and_then(Bundle::whole);
            records.map(|records| records.iter().map(|record| record_hash(record)).collect::<Vec<_>>())
        });
        let hashes =
            widest(hash_path(0, number, TILE_WIDTH)).map(|width| read_tile(folder, 0, number, width));
        for read in records.into_iter().chain(hashes) {
            let read = read.unwrap_or_else(|_| vec![EMPTY_HASH; skipped + 1]);
            found.extend((number * tile..).zip(read).skip(skipped));
        }
        // The first of them may have been taken out and the second not.
        if found.len() == known && number > first {
            break;
        }
    }
    found
}

/// Whether those are records that wait, as a crash leaves them which comes before the checkpoint over them; `lines` are
/// those that wait from `size` on.
pub(super) fn are_waiting<'a>(
    beyond: &[(u64, Hash)],
    size: u64,
    lines: impl Iterator<Item = &'a Vec<u8>>,
) -> bool {
    let hashes: Vec<[Hash; 2]> =
        lines.map(|line| [record_hash(line), record_hash(&without_leave(line))]).collect();
    beyond.iter().all(|(number, hash)| {
        let index = number.checked_sub(size).and_then(|index| usize::try_from(index).ok());
        index.and_then(|index| hashes.get(index)).is_some_and(|known| known.contains(hash))
    })
}

/// The records that are not in the tree yet, whoever wrote them.
pub(super) fn read_pending(folder: &Path) -> Result<Pending, AuditError> {
    read_pending_checked(folder, None)
}

/// The same, and which the server has not written, as far as its private key can be read.
pub(super) fn check_pending(folder: &Path) -> Result<Pending, AuditError> {
    let key = read_file(&folder.join(KEY)).ok();
    read_pending_checked(folder, key.map(|key| Tagger::new(&String::from_utf8_lossy(&key))))
}

fn read_pending_checked(folder: &Path, tagger: Option<Tagger>) -> Result<Pending, AuditError> {
    let text = match read_at_most(&folder.join(PENDING), MAX_PENDING_BYTES) {
        Err(error) if is_missing(&error) => return Ok(Pending::default()),
        text => text?,
    };
    let torn = !text.is_empty() && !text.ends_with(b"\n");
    let whole = text.split_inclusive(|byte| *byte == b'\n').filter_map(|line| line.strip_suffix(b"\n"));
    let whole: Vec<&[u8]> = whole.collect();
    let number = |line: &[u8]| Some(serde_json::from_slice::<Record>(tag::record(line)).ok()?.sequence);
    let is_forged = |tagger: &Tagger, line: &[u8]| if tagger.is_tagged(line) { None } else { number(line) };
    Ok(Pending {
        forged: tagger.and_then(|tagger| whole.iter().find_map(|line| is_forged(&tagger, line))),
        lines: whole.into_iter().map(|line| tag::record(line).to_vec()).collect(),
        torn,
    })
}

/// The checkpoint, whoever signed it.
pub(super) fn read_checkpoint(folder: &Path) -> Option<Checkpoint> {
    parse_checkpoint(&read_file(&folder.join(CHECKPOINT)).ok()?).ok()
}

/// The text of a checkpoint, whoever signed it.
pub(super) fn parse_checkpoint(note: &[u8]) -> Result<Checkpoint, String> {
    let note = Note::from_bytes(note).map_err(|_| "it is no signed note".to_owned())?;
    Checkpoint::from_bytes(note.text()).map_err(|_| "it is no checkpoint".to_owned())
}

/// Whether it is a file, and no longer than it can be.
fn ensure_readable(file: &File, path: &Path, limit: u64) -> Result<(), AuditError> {
    let found = file.metadata().map_err(|source| AuditError::File { path: path.into(), source })?;
    if !found.is_file() {
        return Err(broken(path, "it is no file".into()));
    }
    if found.len() > limit {
        return Err(broken(path, format!("it has more than {limit} bytes")));
    }
    Ok(())
}

/// All that is in the file of pending records, which is open.
pub(super) fn read_open_pending(file: &mut File, path: &Path) -> Result<Vec<u8>, AuditError> {
    ensure_readable(file, path, MAX_PENDING_BYTES)?;
    let mut text = Vec::new();
    let read = file.read_to_end(&mut text);
    read.map_err(|source| AuditError::File { path: path.into(), source })?;
    Ok(text)
}

/// One of the log's files but that of pending records.
pub(super) fn read_file(path: &Path) -> Result<Vec<u8>, AuditError> {
    read_at_most(path, MAX_FILE_BYTES)
}

/// A file that somebody may have put there: no pipe, which would keep us waiting, and none without end.
fn read_at_most(path: &Path, limit: u64) -> Result<Vec<u8>, AuditError> {
    let failed = |source| AuditError::File { path: path.into(), source };
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(failed)?;
    ensure_readable(&file, path, limit)?;
    // At once, as far as can be: a server may write it meanwhile.
    let length = file.metadata().map_or(0, |found| found.len());
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default() + 1);
    file.take(limit).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// Whether an error says that a file is not there.
pub(super) fn is_missing(error: &AuditError) -> bool {
    matches!(error, AuditError::File { source, .. } if source.kind() == ErrorKind::NotFound)
}

/// A tile of that width or, where it has grown since, of a larger one; with the width that it has.
fn read_at_least(
    folder: &Path,
    width: usize,
    path: impl Fn(usize) -> String,
) -> Result<(usize, Vec<u8>), AuditError> {
    let exact = read_file(&folder.join(path(width)));
    if !exact.as_ref().is_err_and(is_missing) {
        return exact.map(|bytes| (width, bytes));
    }
    let wider = widths(&folder.join(path(TILE_WIDTH)), width);
    let wider = wider.into_iter().find_map(|width| Some((width, read_file(&folder.join(path(width))).ok()?)));
    wider.map_or_else(|| exact.map(|bytes| (width, bytes)), Ok)
}

/// The widths that a tile is there in, from `least` on. A tile that grows leaves its last narrow form behind its wide one
/// for a moment, so that one of them is always found.
fn widths(full: &Path, least: usize) -> Vec<usize> {
    let mut partial = full.as_os_str().to_owned();
    partial.push(".p");
    let named =
        |entry: io::Result<std::fs::DirEntry>| entry.ok()?.file_name().to_str()?.parse::<usize>().ok();
    let mut widths: Vec<usize> = std::fs::read_dir(partial).into_iter().flatten().filter_map(named).collect();
    if full.is_file() {
        widths.push(TILE_WIDTH);
    }
    widths.retain(|width| (least..=TILE_WIDTH).contains(width));
    widths.sort_unstable();
    widths
}

/// Takes a bundle apart: records, and what is left where lengths and content do not go together.
fn split(bytes: &[u8]) -> (Vec<Vec<u8>>, &[u8]) {
    let mut records = Vec::new();
    let mut rest = bytes;
    while let Some((length, behind)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length));
        let Some((record, behind)) = behind.split_at_checked(length) else { break };
        records.push(record.to_vec());
        rest = behind;
    }
    (records, rest)
}
