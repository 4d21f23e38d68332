//! The trail of one execution: its records, found without reading the log from its beginning.
//!
//! Invariant: what is read for one question is bounded, and who asks is told where to go on when that was not enough. What
//! is answered is of one tenant, whoever else may have used the same id.

use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use aho_corasick::AhoCorasick;

use super::log::{AuditError, broken};
use super::reading::{first_bundle, parse, read_bundle_or_archived, texts_from};
use super::tree::TILE_WIDTH;
use super::{Event, Record};
use crate::model::ExecutionId;
use crate::security::time::parse_rfc3339;

/// Records that are looked at for one question.
const MAX_LOOKED_AT: u64 = 200_000;
/// How long a question may take.
const MAX_SEARCH: Duration = Duration::from_secs(1);
/// Records of one answer.
pub(crate) const MAX_FOUND: usize = 1000;
/// Bytes of the records of one answer, one more aside; clients of gRPC take 4 MiB where nobody told them otherwise.
const MAX_FOUND_BYTES: usize = 2 << 20;

/// Where trails are looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrailSource {
    /// The folder of the log.
    pub folder: PathBuf,
    /// Where retention moves records to, where it keeps them.
    pub archive: Option<PathBuf>,
}

/// Which trail is looked for, and from where on.
#[derive(Clone, Copy, Debug)]
pub struct TrailQuestion<'a> {
    /// Whose execution it was.
    pub tenant: &'a str,
    /// Which one.
    pub execution: ExecutionId,
    /// Where its records begin.
    pub from: TrailStart,
}

/// Where the records of a trail begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrailStart {
    /// None was made before.
    Time(SystemTime),
    /// Those before that number were looked at.
    Record(u64),
}

/// What was found of a trail.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trail {
    /// The records as they lie in the log, in JSON, in their order.
    pub records: Vec<String>,
    /// Where to go on, where the search ended before the log and the execution did.
    pub next: Option<u64>,
}

impl TrailSource {
    /// Reads the records of one execution until that of its end, or until the end of the log.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn find(&self, question: &TrailQuestion<'_>) -> Result<Trail, AuditError> {
        let TrailQuestion { tenant, execution, from } = *question;
        let id = execution.to_string();
        // A record is taken apart only where the id stands somewhere in it.
        let mention = AhoCorasick::new([&id]).map_err(|error| broken(&self.folder, error.to_string()))?;
        let from = |size| match from {
            TrailStart::Record(number) => number,
            TrailStart::Time(time) => self.first_since(size, time),
        };
        let (began, mut bytes, mut trail) = (Instant::now(), 0, Trail::default());
        for (looked_at, text) in (0..).zip(texts_from(&self.folder, self.archive.as_deref(), from)?) {
            let (sequence, text) = text?;
            // One is always looked at, so that who goes on gets on.
            let is_enough = looked_at > 0 && (looked_at >= MAX_LOOKED_AT || began.elapsed() > MAX_SEARCH);
            if is_enough || trail.records.len() == MAX_FOUND || bytes > MAX_FOUND_BYTES {
                trail.next = Some(sequence);
                break;
            }
            if !mention.is_match(&text) {
                continue;
            }
            let record: Record = parse(&self.folder, &text)?;
            let is_of_it = record
                .activity()
                .is_some_and(|activity| activity.tenant == tenant && activity.execution.instance_id == id);
            if is_of_it {
                bytes += text.len();
                trail.records.push(String::from_utf8_lossy(&text).into_owned());
                if matches!(record.event, Event::Execution(_)) {
                    break;
                }
            }
        }
        Ok(trail)
    }

    /// A record with none behind it that was made before that time. Records are nearly in the order of their times, so that a
    /// search by halves comes near, and beginning one file earlier makes up for the rest.
    fn first_since(&self, size: u64, time: SystemTime) -> u64 {
        let tile = TILE_WIDTH as u64;
        let kept = if self.archive.is_some() { 0 } else { first_bundle(&self.folder, size) };
        let (mut before, mut since) = (kept, size / tile);
        while before < since {
            let middle = before.midpoint(since);
            // What is gone or cannot be read is no place to begin at.
            if self.time_of(middle).is_some_and(|first| first >= time) {
                since = middle;
            } else {
                before = middle + 1;
            }
        }
        before.saturating_sub(1) * tile
    }

    /// When the first record of a bundle was made.
    fn time_of(&self, bundle: u64) -> Option<SystemTime> {
        let found = read_bundle_or_archived(&self.folder, self.archive.as_deref(), bundle, TILE_WIDTH);
        let record: Record = parse(&self.folder, found.ok()?.records.first()?).ok()?;
        parse_rfc3339(&record.timestamp)
    }
}
