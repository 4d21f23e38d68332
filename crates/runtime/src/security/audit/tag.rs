//! Tags of records that wait for the tree. Nobody has signed them yet; by its tag the server knows again what it wrote
//! itself, when it finds it after a crash.
//!
//! Invariant: only who has the log's private key can make one.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::digest::Key;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use tlog_tiles::{Hash, record_hash};

/// What the key is made for, so that it is of use for nothing else.
const PURPOSE: &[u8] = b"mentat audit log: records that wait for the tree\n";
/// What stands between a record and its tag; no record has one, as JSON writes it otherwise.
const BEFORE_TAG: u8 = b'\t';
/// Bytes of a tag, as it is written.
const TAG_BYTES: usize = 43;

/// Makes and checks tags. Its state is that of a tag of nothing so far.
pub(super) struct Tagger(Hmac<Sha256>);

impl Tagger {
    /// By the text of the log's private key.
    pub(super) fn new(private_key: &str) -> Self {
        let mut key = Sha256::new();
        key.update(PURPOSE);
        key.update(private_key.trim());
        let mut block = Key::<Hmac<Sha256>>::default();
        block.iter_mut().zip(key.finalize()).for_each(|(byte, of_key)| *byte = of_key);
        Self(Hmac::new(&block))
    }

    fn tag(&self, of: &[u8]) -> Hmac<Sha256> {
        self.0.clone().chain_update(of)
    }

    /// Writes a record with its tag, as a line. The tag is that of the record's hash, which the tree needs all the same.
    pub(super) fn write(&self, text: &mut Vec<u8>, record: &[u8], hash: &Hash) {
        let tag = self.tag(&hash.0).finalize().into_bytes();
        text.extend_from_slice(record);
        text.push(BEFORE_TAG);
        let mut written = [0; TAG_BYTES];
        // It has room for it, so that nothing is left out.
        let length = URL_SAFE_NO_PAD.encode_slice(tag, &mut written).unwrap_or_default();
        text.extend_from_slice(written.get(..length).unwrap_or_default());
        text.push(b'\n');
    }

    /// Whether a line is one that this key has tagged.
    pub(super) fn is_tagged(&self, line: &[u8]) -> bool {
        let (record, tag) = split(line);
        let tag = URL_SAFE_NO_PAD.decode(tag).unwrap_or_default();
        // Servers of before wrote that of the record itself.
        self.tag(&record_hash(record).0).verify_slice(&tag).is_ok()
            || self.tag(record).verify_slice(&tag).is_ok()
    }
}

/// The record of a line, whoever wrote it.
pub(super) fn record(line: &[u8]) -> &[u8] {
    split(line).0
}

fn split(line: &[u8]) -> (&[u8], &[u8]) {
    let at = line.iter().rposition(|byte| *byte == BEFORE_TAG);
    let (record, rest) = line.split_at(at.unwrap_or(line.len()));
    (record, rest.get(1..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_known_again_by_whoever_has_its_key() {
        let (ours, other) = (Tagger::new("ours"), Tagger::new("other"));
        let record = br#"{"sequence":1}"#;
        let mut line = Vec::new();
        ours.write(&mut line, record, &record_hash(record));
        assert_eq!(line.len(), record.len() + TAG_BYTES + 2);
        let line = line.strip_suffix(b"\n").unwrap();
        assert!(ours.is_tagged(line) && !other.is_tagged(line));
        assert_eq!(super::record(line), record);
        let mut changed = line.to_vec();
        changed[12] = b'2';
        assert!(!ours.is_tagged(&changed) && !ours.is_tagged(record));
    }

    #[test]
    fn what_a_server_of_before_has_tagged_is_known_as_well() {
        let (tagger, record) = (Tagger::new("ours"), br#"{"sequence":1}"#);
        let tag = URL_SAFE_NO_PAD.encode(tagger.tag(record).finalize().into_bytes());
        let line = [record, tag.as_bytes()].join(&BEFORE_TAG);
        assert!(tagger.is_tagged(&line) && !Tagger::new("other").is_tagged(&line));
    }
}
