//! The way through the tree from its first record to its last, and what is found on it.

use std::ops::Range;
use std::path::Path;

use tlog_tiles::{Checkpoint, Hash, record_hash};

use super::{Head, MAX_FAULTS, Pruned, Report};
use crate::security::audit::fault::Fault;
use crate::security::audit::log::AuditError;
use crate::security::audit::reading::{Bundle, is_missing, read_bundle_or_archived, read_tile};
use crate::security::audit::tree::{Edge, HashTile, TILE_HEIGHT, TILE_WIDTH, subtree};
use crate::security::audit::{Event, Record, RetentionPart};

/// What a record is about that lets others be taken out.
const RETENTION: &str = "retention";

/// A way through the tree, tile by tile from the left.
pub(super) struct Walk<'a> {
    folder: &'a Path,
    archive: Option<&'a Path>,
    size: u64,
    /// The first record that was not looked at.
    next: u64,
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

impl<'a> Walk<'a> {
    /// A way through an empty tree.
    pub(super) fn new(
        folder: &'a Path,
        archive: Option<&'a Path>,
        earlier: Option<&'a Checkpoint>,
        report: &'a mut Report,
    ) -> Self {
        Self {
            folder,
            archive,
            size: 0,
            next: 0,
            root: None,
            earlier,
            edge: Edge::default(),
            is_whole: true,
            doubted: Vec::new(),
            absent: Vec::new(),
            retention: None,
            leaves: Vec::new(),
            report,
        }
    }

    /// The tree has become so large; its root, where one was signed.
    pub(super) fn grow(&mut self, size: u64, root: Option<Hash>) {
        (self.size, self.root) = (size, root);
    }

    /// Looks at the tiles that are full, as far as they were not looked at.
    pub(super) fn full_tiles(&mut self) -> Result<(), AuditError> {
        while self.next + TILE_WIDTH as u64 <= self.size && self.goes_on() {
            self.tile(self.next, TILE_WIDTH)?;
            self.next += TILE_WIDTH as u64;
        }
        Ok(())
    }

    /// Looks at the records behind the full tiles.
    pub(super) fn last_tile(&mut self) -> Result<(), AuditError> {
        match usize::try_from(self.size.saturating_sub(self.next)) {
            Ok(width @ 1..TILE_WIDTH) if self.goes_on() => self.tile(self.next, width),
            _ => Ok(()),
        }
    }

    /// A size that nobody signed may be any, and one that a stranger signed as well.
    fn goes_on(&self) -> bool {
        self.report.faults.len() < MAX_FAULTS
    }

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
    pub(super) fn finish(mut self) {
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
