//! Tags of records that wait for the tree. Nobody has signed them yet; by its tag the server knows again what it wrote
//! itself, when it finds it after a crash.
//!
//! Invariant: only who has the log's private key can make one.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::digest::Key;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// What the key is made for, so that it is of use for nothing else.
const PURPOSE: &[u8] = b"mentat audit log: records that wait for the tree\n";
/// What stands between a record and its tag; no record has one, as JSON writes it otherwise.
const BEFORE_TAG: u8 = b'\t';

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

    fn tag(&self, record: &[u8]) -> Hmac<Sha256> {
        self.0.clone().chain_update(record)
    }

    /// Writes a record with its tag, as a line.
    pub(super) fn write(&self, text: &mut Vec<u8>, record: &[u8]) {
        let tag = self.tag(record).finalize().into_bytes();
        text.extend_from_slice(record);
        text.push(BEFORE_TAG);
        text.extend_from_slice(URL_SAFE_NO_PAD.encode(tag).as_bytes());
        text.push(b'\n');
    }

    /// Whether a line is one that this key has tagged.
    pub(super) fn is_tagged(&self, line: &[u8]) -> bool {
        let (record, tag) = split(line);
        let tag = URL_SAFE_NO_PAD.decode(tag).unwrap_or_default();
        self.tag(record).verify_slice(&tag).is_ok()
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
