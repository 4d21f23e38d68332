//! Records on their way into the tree: one after the other, each behind its length, as bundles of the tree have them (C2SP
//! tlog-tiles). So there is no memory to be had for each of them, and a bundle is a part of this as it is.

use std::ops::Range;

/// Bytes of one record at most: tlog-tiles writes their length in two bytes.
pub(super) const MAX_RECORD_BYTES: usize = u16::MAX as usize;
/// Bytes of a length.
const LENGTH: usize = size_of::<u16>();

/// Records, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Entries {
    bytes: Vec<u8>,
    /// Where each ends.
    ends: Vec<usize>,
}

impl Entries {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Adds a record; answers whether it is short enough to be one.
    #[must_use]
    pub(super) fn push(&mut self, record: &[u8]) -> bool {
        self.push_with(|bytes| bytes.extend_from_slice(record))
    }

    /// The same, with what is appended to the bytes by `write`.
    #[must_use]
    pub(super) fn push_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        let from = self.bytes.len();
        self.bytes.extend([0; LENGTH]);
        write(&mut self.bytes);
        let length = u16::try_from(self.bytes.len().saturating_sub(from + LENGTH));
        let (Ok(length), Some(place)) = (length, self.bytes.get_mut(from..from + LENGTH)) else {
            self.bytes.truncate(from);
            return false;
        };
        place.copy_from_slice(&length.to_be_bytes());
        self.ends.push(self.bytes.len());
        true
    }

    /// The records.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|index| self.bundle(index..index + 1).get(LENGTH..).unwrap_or_default())
    }

    /// The last record.
    pub(super) fn last(&self) -> Option<&[u8]> {
        let last = self.len().checked_sub(1)?;
        self.bundle(last..self.len()).get(LENGTH..)
    }

    /// Some of them, as a bundle has them.
    pub(super) fn bundle(&self, which: Range<usize>) -> &[u8] {
        let end_of = |count: usize| count.checked_sub(1).map_or(Some(0), |last| self.ends.get(last).copied());
        let bytes =
            end_of(which.start).zip(end_of(which.end)).and_then(|(from, to)| self.bytes.get(from..to));
        bytes.unwrap_or_default()
    }

    /// Takes all of the others', behind its own.
    pub(super) fn append(&mut self, others: &mut Self) {
        let from = self.bytes.len();
        self.bytes.extend_from_slice(&others.bytes);
        self.ends.extend(others.ends.iter().map(|end| from + end));
        others.clear();
    }

    /// Forgets them; the next ones find their room as it is.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// Bytes that they have, and for which there is room.
    pub(super) fn room(&self) -> (usize, usize) {
        (self.bytes.len(), self.bytes.capacity())
    }

    /// Gives back the room that is not used.
    pub(super) fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
        self.ends.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_found_again_one_by_one_and_as_bundles() {
        let (mut all, mut more) = (Entries::default(), Entries::default());
        assert!(all.push(b"one") && all.push(b"") && more.push_with(|bytes| bytes.extend(b"three")));
        all.append(&mut more);
        assert!(more.is_empty() && more.last().is_none());
        assert_eq!(all.iter().collect::<Vec<_>>(), [&b"one"[..], b"", b"three"]);
        assert_eq!((all.len(), all.last()), (3, Some(&b"three"[..])));
        assert_eq!(all.bundle(0..3), b"\0\x03one\0\0\0\x05three");
        assert_eq!(all.bundle(1..2), b"\0\0");
        assert_eq!((all.bundle(2..2), all.bundle(2..9)), (&b""[..], &b""[..]));
        all.clear();
        all.shrink();
        assert!(all.is_empty() && all.push(b"again"));
        assert_eq!(all.last(), Some(&b"again"[..]));
    }

    #[test]
    fn what_is_too_long_leaves_nothing_behind() {
        let mut entries = Entries::default();
        assert!(entries.push(&[1; MAX_RECORD_BYTES]));
        assert!(!entries.push(&[2; MAX_RECORD_BYTES + 1]));
        assert!(entries.push(b"next"));
        assert_eq!(entries.iter().map(<[u8]>::len).collect::<Vec<_>>(), [MAX_RECORD_BYTES, 4]);
    }
}
