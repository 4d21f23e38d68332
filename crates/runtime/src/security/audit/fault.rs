//! What can be wrong with a log, and how it is said.

use std::fmt;

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
    /// The hashes of these records are gone or were changed; the records, where they are there, were not.
    Hashes {
        /// The first of them.
        first: u64,
        /// The last of them.
        last: u64,
    },
    /// The file of these records holds something behind them.
    Surplus {
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
    /// There are more records in the tree than the checkpoint is over: an old one was put back.
    OldCheckpoint {
        /// How many records it is over.
        size: u64,
    },
    /// The earlier checkpoint is not signed by the log's key.
    OtherKey,
    /// The records up to an earlier checkpoint are not those that it was signed over.
    Rewritten {
        /// How many records that checkpoint is over.
        size: u64,
    },
    /// Records that are not in the tree yet do not follow those that are.
    Pending(u64),
    /// This record, which is not in the tree yet, was not written by the server. Who can read the private key can tell.
    Forged(u64),
}

impl Fault {
    /// Where it stands among the others: those of records in their order, then those of the whole.
    pub(super) fn position(&self) -> u64 {
        match self {
            Self::Changed(first) | Self::Pending(first) | Self::Forged(first) => *first,
            Self::Missing { first, .. }
            | Self::Tile { first, .. }
            | Self::Hashes { first, .. }
            | Self::Surplus { first, .. } => *first,
            _ => u64::MAX,
        }
    }
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
            Self::Hashes { first, last } => {
                write!(formatter, "the hashes of records {first} to {last} are missing or were changed")
            }
            Self::Surplus { first, last } => {
                write!(formatter, "the file of records {first} to {last} holds something behind them")
            }
            Self::Root => write!(formatter, "the records do not make the root that was signed"),
            Self::Signature => write!(formatter, "the checkpoint is not signed by the log's key"),
            Self::NoCheckpoint => write!(formatter, "there are records, and no checkpoint"),
            Self::BadCheckpoint(why) => write!(formatter, "the checkpoint cannot be read: {why}"),
            Self::OldCheckpoint { size } => {
                write!(
                    formatter,
                    "the checkpoint is over {size} records, and there are more: it is an old one"
                )
            }
            Self::OtherKey => write!(formatter, "the earlier checkpoint is not signed by the log's key"),
            Self::Rewritten { size } => {
                write!(formatter, "the first {size} records are not those of the earlier checkpoint")
            }
            Self::Forged(number) => {
                write!(formatter, "record {number}, which is not signed yet, was not written by the server")
            }
            Self::Pending(number) => {
                write!(formatter, "record {number}, not in the tree yet, is not the next one or is no record")
            }
        }
    }
}
