//! Finding whatever was changed in a log. Trusts the public key and nothing else: records are held against the hashes of
//! the tree, those against the ones above them, and the root against the signed checkpoint.

mod walk;

use std::path::Path;

use signed_note::{Note, StandardVerifier, VerifierList};
use tlog_tiles::{Checkpoint, Hash};

use self::walk::Walk;
use super::fault::Fault;
use super::log::{AuditError, CHECKPOINT, PUBLIC_KEY};
use super::reading::{
    Pending, are_waiting, beyond, check_pending, is_missing, parse_checkpoint, read_checkpoint, read_file,
    read_pending,
};
use super::{Record, RetentionPart};

/// Faults that are told; a log that was cut to pieces has as many as records.
const MAX_FAULTS: usize = 100;
/// Looks at a log that a server changes meanwhile, before what was found is told as a fault.
const LOOKS: usize = 3;
/// Times that a look goes on with what a server has written meanwhile.
const MAX_CATCHING_UP: usize = 100;

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
        let before = read_file(&folder.join(CHECKPOINT)).ok();
        let report = look(folder, evidence)?;
        // A server that writes beside us moves records while we read.
        let moved = before != read_file(&folder.join(CHECKPOINT)).ok();
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
        Err(AuditError::Broken { why, .. }) => return Ok(Err(Fault::BadCheckpoint(why))),
        note => note?,
    };
    let checkpoint = match parse_checkpoint(&note) {
        Ok(checkpoint) => checkpoint,
        Err(why) => return Ok(Err(Fault::BadCheckpoint(why))),
    };
    Ok(if is_signed(folder, key, &note)? { Ok(Some(checkpoint)) } else { Err(Fault::Signature) })
}

/// The key that a file holds, if it does.
pub(super) fn public_key(text: &[u8]) -> Option<StandardVerifier> {
    StandardVerifier::new(std::str::from_utf8(text).ok()?.trim()).ok()
}

fn is_signed(folder: &Path, key: Option<&[u8]>, note: &[u8]) -> Result<bool, AuditError> {
    let key = key.map_or_else(|| read_file(&folder.join(PUBLIC_KEY)), |key| Ok(key.to_vec()))?;
    let signed = public_key(&key)
        .zip(Note::from_bytes(note).ok())
        .is_some_and(|(verifier, note)| note.verify(&VerifierList::new(vec![Box::new(verifier)])).is_ok());
    Ok(signed)
}

/// What a log says of itself at one time: how many records are signed, and which are not yet.
struct Stand {
    checkpoint: Option<Checkpoint>,
    /// The root that was signed; `None` where nothing was, or nothing that can be trusted.
    root: Option<Hash>,
    pending: Pending,
    fault: Option<Fault>,
}

impl Stand {
    fn read(folder: &Path, key: Option<&[u8]>) -> Result<Self, AuditError> {
        // First, so that what is moved into the tree meanwhile is found in one place at least.
        let (pending, broken) = match check_pending(folder) {
            Err(AuditError::Broken { .. }) => (Pending::default(), true),
            pending => (pending?, false),
        };
        Ok(match signed_checkpoint(folder, key)? {
            Ok(checkpoint) => {
                let root = checkpoint.as_ref().map(|checkpoint| *checkpoint.hash());
                let size = checkpoint.as_ref().map_or(0, Checkpoint::size);
                Self { checkpoint, root, pending, fault: broken.then_some(Fault::Pending(size)) }
            }
            // How many records there should be, even one that nobody signed may tell; what their root is, it may not.
            Err(fault) => {
                Self { checkpoint: read_checkpoint(folder), root: None, pending, fault: Some(fault) }
            }
        })
    }

    fn size(&self) -> u64 {
        self.checkpoint.as_ref().map_or(0, Checkpoint::size)
    }
}

fn look(folder: &Path, evidence: &Evidence<'_>) -> Result<Report, AuditError> {
    let mut report = Report::default();
    let mut stand = Stand::read(folder, evidence.key)?;
    report.faults.extend(stand.fault.take());
    let earlier = earlier(folder, evidence, &mut report)?;
    let mut walk = Walk::new(folder, evidence.archive, earlier.as_ref(), &mut report);
    walk.grow(stand.size(), stand.root);
    walk.full_tiles()?;
    // A server that writes beside us takes records out by leave that it gave meanwhile: that is read as well.
    for _ in 0..MAX_CATCHING_UP {
        let newer = Stand::read(folder, evidence.key)?;
        let is_sound = stand.root.is_some() && newer.root.is_some() && newer.fault.is_none();
        if !is_sound || newer.size() <= stand.size() {
            break;
        }
        stand = newer;
        walk.grow(stand.size(), stand.root);
        walk.full_tiles()?;
    }
    walk.last_tile()?;
    walk.finish();
    let (size, checkpoint) = (stand.size(), &stand.checkpoint);
    if let Some(checkpoint) = checkpoint {
        report.root = checkpoint.hash().to_string();
    }
    if let Some(earlier) = earlier.filter(|earlier| earlier.size() > size) {
        report.faults.push(Fault::Missing { first: size, last: earlier.size() - 1 });
    }
    check_end(folder, size, checkpoint.is_some(), &stand.pending, &mut report);
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
        match serde_json::from_slice::<Record>(line).ok().map(|record| record.sequence) {
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
    report.faults.extend(pending.forged.map(Fault::Forged));
}

/// Whether there are records in the tree after the first `size` that do not wait to get there. A server that writes beside us
/// has them in this order: records wait until the tree has them and a newer checkpoint is over them.
pub(super) fn goes_on_otherwise(folder: &Path, size: u64) -> bool {
    let beyond = beyond(folder, size);
    if beyond.is_empty() {
        return false;
    }
    let is_new = |line: &&Vec<u8>| Head::of(line).is_some_and(|head| head.sequence >= size);
    let are_waiting = read_pending(folder)
        .is_ok_and(|pending| are_waiting(&beyond, size, pending.lines.iter().filter(is_new)));
    !are_waiting && read_checkpoint(folder).is_none_or(|checkpoint| checkpoint.size() <= size)
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
