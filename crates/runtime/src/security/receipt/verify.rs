//! Checking a receipt, away from the server that gave it: with its public key and nothing else. Every byte of a receipt is a
//! stranger's until the signature of the envelope holds.
//!
//! Invariant: a [`Verified`] is a receipt of which everything that can be checked was checked.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use mentat_manifest::escape_untrusted;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use signed_note::{Note, StandardVerifier, Verifier, VerifierList};
use tlog_tiles::{Checkpoint, Hash, check_record, record_hash};

use super::{
    Envelope, LogClaim, PAYLOAD_TYPE, PREDICATE_TYPE, Predicate, STATEMENT_TYPE, Statement, content,
    key_name, pre_authentication,
};
use crate::security::audit::{ContentPart, Record};

/// Bytes of a receipt at most; the largest that is given has a third of that.
pub const MAX_RECEIPT_BYTES: u64 = 1 << 20;
/// Signatures of an envelope that are tried at most; ours have one.
const MAX_SIGNATURES: usize = 16;
/// Hashes of a proof at most: no tree is higher.
const MAX_PROOF: usize = 64;
/// Characters of a receipt's own text that are shown in an error.
const MAX_SHOWN_CHARS: usize = 200;

/// A receipt that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    predicate: Predicate,
    key: String,
}

/// Something of an execution that a receipt names by its digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// What the agent read.
    Input,
    /// What it wrote.
    Output,
    /// The module that ran.
    Module,
    /// The manifest's text.
    Manifest,
}

/// Why a receipt does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The key is none.
    #[error(
        "the key is no public key of signed notes; it is the file `key.pub` in the folder of the audit log"
    )]
    Key,
    /// More than is read.
    #[error("the receipt has more than {MAX_RECEIPT_BYTES} bytes, the limit")]
    TooLarge,
    /// A part of it is not what it has to be.
    #[error("{part} cannot be read: {why}")]
    Unreadable {
        /// Which part.
        part: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// It is something else, and no receipt.
    #[error("this is no receipt of an execution: `{part}` is `{found}`, not `{expected}`")]
    OtherKind {
        /// Which part says so.
        part: &'static str,
        /// What it says.
        found: String,
        /// What it would have to say.
        expected: &'static str,
    },
    /// Nobody who is known has signed it.
    #[error("the receipt is not signed by the key `{key}`; it says that `{said}` has signed it")]
    Signature {
        /// The key that was given.
        key: String,
        /// The keys that the envelope names.
        said: String,
    },
    /// The record is not the leaf.
    #[error("`log.leaf_hash` is not the hash of `log.leaf`")]
    Leaf,
    /// The leaf is no record of this.
    #[error("`log.leaf` is no record of an execution with a receipt: {0}")]
    Record(String),
    /// The record has another place than the receipt says.
    #[error("`log.index` is {said}, and the record is number {recorded}")]
    Index {
        /// By the receipt.
        said: u64,
        /// By the record.
        recorded: u64,
    },
    /// The checkpoint is not signed by the same key.
    #[error("`log.checkpoint` is not signed by the key `{0}`")]
    CheckpointSignature(String),
    /// The checkpoint is over another tree than the receipt says.
    #[error("`{0}` is not what the signed checkpoint says")]
    Checkpoint(&'static str),
    /// The tree has no such leaf.
    #[error("`log.proof` does not prove that the record is in the tree")]
    Inclusion,
    /// The statement says something else than the record.
    #[error("`{0}` is not what the record in the log says")]
    Disagrees(String),
    /// A file is not the one that the receipt is about.
    #[error("{0} is not the one of the execution: {1}")]
    OtherContent(&'static str, String),
}

impl Fault {
    /// Whether what was given is a receipt, and does not hold; else it is none, or the key is none.
    #[must_use]
    pub fn is_rejection(&self) -> bool {
        match self {
            Self::Key | Self::TooLarge | Self::Unreadable { .. } | Self::OtherKind { .. } => false,
            Self::Signature { .. }
            | Self::Leaf
            | Self::Record(_)
            | Self::Index { .. }
            | Self::CheckpointSignature(_)
            | Self::Checkpoint(_)
            | Self::Inclusion
            | Self::Disagrees(_)
            | Self::OtherContent(..) => true,
        }
    }
}

impl Verified {
    /// What it says.
    #[must_use]
    pub fn predicate(&self) -> &Predicate {
        &self.predicate
    }

    /// The key that signed it.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Checks that these bytes are the ones that the receipt is about.
    ///
    /// # Errors
    /// When they are others.
    pub fn check(&self, which: Content, bytes: &[u8]) -> Result<(), Fault> {
        let found = content(bytes);
        let differs = |said: String| {
            let why = format!("it is {} of {} bytes, the receipt says {said}", found.digest, found.bytes);
            Fault::OtherContent(which.as_str(), why)
        };
        let is = |said: &ContentPart| {
            if *said == found { Ok(()) } else { Err(differs(format!("{} of {}", said.digest, said.bytes))) }
        };
        let has_digest = |said: &String| {
            if *said == found.digest { Ok(()) } else { Err(differs(said.clone())) }
        };
        let Predicate { input, output, agent, result, .. } = &self.predicate;
        match (which, output) {
            (Content::Input, _) => is(input),
            (Content::Output, Some(output)) => is(output),
            (Content::Output, None) => Err(differs(format!("that there is none, for {result}"))),
            (Content::Module, _) => has_digest(&agent.module),
            (Content::Manifest, _) => has_digest(&agent.manifest),
        }
    }
}

impl Content {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Input => "the input",
            Self::Output => "the output",
            Self::Module => "the module",
            Self::Manifest => "the manifest",
        }
    }
}

/// Checks a receipt: that the key has signed it, that the record in it is a leaf of the tree whose root the same key has
/// signed, and that the statement says what the record says.
///
/// # Errors
/// The first thing that does not hold.
pub fn verify(receipt: &[u8], key: &str) -> Result<Verified, Fault> {
    if receipt.len() as u64 > MAX_RECEIPT_BYTES {
        return Err(Fault::TooLarge);
    }
    let verifier = StandardVerifier::new(key.trim()).map_err(|_| Fault::Key)?;
    let key = key_name(verifier.name(), verifier.key_id());
    let payload = open(receipt, &verifier, &key)?;
    // Read in two steps, so that a statement about something else is told from a broken one.
    let statement: Value = read("the statement", &payload)?;
    let kind = |part: &'static str, expected| {
        is_kind(part, statement.get(part).and_then(Value::as_str).unwrap_or_default(), expected)
    };
    kind("_type", STATEMENT_TYPE)?;
    kind("predicateType", PREDICATE_TYPE)?;
    let statement: Statement = serde_json::from_value(statement).map_err(unreadable("the statement"))?;
    let leaf = decode("`log.leaf`", &statement.predicate.log.leaf)?;
    let record: Record =
        serde_json::from_slice(&leaf).map_err(|error| Fault::Record(shown(&error.to_string())))?;
    check_log(&statement.predicate.log, &leaf, record.sequence, verifier, &key)?;
    let expected = Statement::of(&record, statement.predicate.log.clone())
        .ok_or_else(|| Fault::Record("it is about something else".into()))?;
    agree(&expected, &statement)?;
    Ok(Verified { predicate: statement.predicate, key })
}

/// Opens the envelope; whoever signs it with another key besides is of no matter.
fn open(receipt: &[u8], verifier: &StandardVerifier, key: &str) -> Result<Vec<u8>, Fault> {
    let envelope: Envelope = read("the receipt", receipt)?;
    is_kind("payloadType", &envelope.payload_type, PAYLOAD_TYPE)?;
    let payload = decode("`payload`", &envelope.payload)?;
    let signed = pre_authentication(&envelope.payload_type, &payload);
    let signatures = || envelope.signatures.iter().take(MAX_SIGNATURES);
    for signature in signatures() {
        if verifier.verify(&signed, &decode("`sig`", &signature.sig)?) {
            return Ok(payload);
        }
    }
    let said: Vec<&str> = signatures().map(|signature| signature.keyid.as_str()).collect();
    Err(Fault::Signature { key: shown(key), said: shown(&said.join(", ")) })
}

/// Checks that the record is a leaf of the tree, and that the key has signed the tree.
fn check_log(
    log: &LogClaim,
    leaf: &[u8],
    sequence: u64,
    verifier: StandardVerifier,
    key: &str,
) -> Result<(), Fault> {
    let leaf_hash = record_hash(leaf);
    if log.leaf_hash != leaf_hash.to_string() {
        return Err(Fault::Leaf);
    }
    if log.index != sequence {
        return Err(Fault::Index { said: log.index, recorded: sequence });
    }
    let malformed = |part: &'static str, why: &str| Fault::Unreadable { part, why: why.into() };
    let note = Note::from_bytes(log.checkpoint.as_bytes())
        .map_err(|_| malformed("`log.checkpoint`", "it is no signed note"))?;
    note.verify(&VerifierList::new(vec![Box::new(verifier)]))
        .map_err(|_| Fault::CheckpointSignature(shown(key)))?;
    let checkpoint = Checkpoint::from_bytes(note.text())
        .map_err(|_| malformed("`log.checkpoint`", "its text is no checkpoint"))?;
    let said = [
        ("log.origin", log.origin == checkpoint.origin()),
        ("log.tree_size", log.tree_size == checkpoint.size()),
        ("log.root", log.root == checkpoint.hash().to_string()),
    ];
    if let Some((part, _)) = said.into_iter().find(|(_, agrees)| !agrees) {
        return Err(Fault::Checkpoint(part));
    }
    if log.proof.len() > MAX_PROOF {
        return Err(Fault::Inclusion);
    }
    let hash = |text: &String| Hash::parse_hash(text).map_err(|_| malformed("`log.proof`", "a hash is none"));
    let proof = log.proof.iter().map(hash).collect::<Result<Vec<Hash>, Fault>>()?;
    check_record(&proof, checkpoint.size(), *checkpoint.hash(), log.index, leaf_hash)
        .map_err(|_| Fault::Inclusion)
}

/// Checks that a statement is the one that its record makes.
fn agree(expected: &Statement, found: &Statement) -> Result<(), Fault> {
    let (said, recorded) = (&found.predicate, &expected.predicate);
    if said.execution_id != recorded.execution_id {
        // Then everything differs, and this says why.
        Err(Fault::Disagrees("execution_id".into()))
    } else if said != recorded {
        Err(Fault::Disagrees(shown(&difference(&json(recorded), &json(said), ""))))
    } else if found.subject != expected.subject {
        Err(Fault::Disagrees("subject".into()))
    } else {
        Ok(())
    }
}

/// Where two values differ, by the keys that lead there.
fn difference(expected: &Value, found: &Value, at: &str) -> String {
    if let (Value::Object(expected), Value::Object(found)) = (expected, found) {
        for key in expected.keys().chain(found.keys()) {
            let (one, other) = (expected.get(key), found.get(key));
            if one != other {
                let at = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
                return difference(one.unwrap_or(&Value::Null), other.unwrap_or(&Value::Null), &at);
            }
        }
    }
    at.to_owned()
}

fn json<T: Serialize>(value: &T) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

fn is_kind(part: &'static str, found: &str, expected: &'static str) -> Result<(), Fault> {
    if found == expected { Ok(()) } else { Err(Fault::OtherKind { part, found: shown(found), expected }) }
}

fn read<T: DeserializeOwned>(part: &'static str, bytes: &[u8]) -> Result<T, Fault> {
    serde_json::from_slice(bytes).map_err(unreadable(part))
}

fn unreadable(part: &'static str) -> impl Fn(serde_json::Error) -> Fault {
    move |error| Fault::Unreadable { part, why: shown(&error.to_string()) }
}

/// DSSE allows both alphabets.
fn decode(part: &'static str, text: &str) -> Result<Vec<u8>, Fault> {
    let decoded = STANDARD.decode(text).or_else(|_| URL_SAFE.decode(text));
    decoded.map_err(|error| Fault::Unreadable { part, why: format!("it is no base64: {error}") })
}

fn shown(text: &str) -> String {
    escape_untrusted(text, MAX_SHOWN_CHARS)
}
