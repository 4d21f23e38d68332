//! Receipts: what one execution was, did and was given, as an in-toto statement in a DSSE envelope, with the proof that the
//! audit log has it. Signed by the log's own key, so that one public key checks the envelope and the checkpoint in it.
//!
//! Invariant: a receipt is made of the record as it lies in the log, and of nothing else; it says nothing that the log
//! does not vouch for.

#[cfg(test)]
mod tests;
mod verify;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mentat_manifest::{Capability, ModuleDigest};
use serde::{Deserialize, Serialize};
use signed_note::{Signer, StandardSigner};
use tlog_tiles::record_hash;
use tokio::sync::oneshot;

use super::audit::{
    Activity, ContentPart, Ending, Event, GrantPart, ProofError, Proven, ReceiptPart, Record, Recorder,
};
use super::policy::Grant;
use super::powers::{Judge, Powers};
use super::time::rfc3339_of;
use crate::error::Error;

pub use verify::{Content, Fault, MAX_RECEIPT_BYTES, Verified, verify};

/// What is in the envelope, by its media type.
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
/// The form of the statement.
const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
/// The form of what it says; another one gets another number.
const PREDICATE_TYPE: &str = "urn:mentat-runtime:execution-receipt:v1";
/// Bytes of the grants in one record, as JSON: a record has 64 KiB for all that is in it.
const MAX_GRANTS_BYTES: usize = 32 << 10;
/// How long the log has for a proof; checkpoints that are waited for are signed many times a second.
const PROVEN_WITHIN: Duration = Duration::from_secs(10);
/// When to ask again for a receipt that could not be promised.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A receipt that was asked for before the execution began, so that the powers which it is given are kept.
#[derive(Debug)]
pub struct ReceiptRequest {
    powers: Arc<Powers>,
    recorder: Recorder,
}

/// What an execution was given and what came of it, to be named in its receipt by digests.
#[derive(Clone, Copy, Debug)]
pub struct Contents<'a> {
    /// The manifest's text, as it was loaded.
    pub manifest: &'a str,
    /// What the agent read.
    pub input: &'a [u8],
    /// What it wrote, where it ran to its end.
    pub output: Option<&'a [u8]>,
    /// When it began to wait for a place.
    pub started: SystemTime,
    /// When it ended.
    pub finished: SystemTime,
}

/// A receipt that will be there when the log has signed the record.
#[derive(Debug)]
pub struct PendingReceipt {
    proof: oneshot::Receiver<Result<Proven, ProofError>>,
    recorder: Recorder,
}

/// Why there is no receipt of an execution that has ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// The log gives no proof.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// The log does not answer.
    #[error("the audit log took longer than {} seconds", PROVEN_WITHIN.as_secs())]
    Late,
    /// The log was closed.
    #[error("the audit log was closed before the record was signed")]
    Closed,
    /// What was recorded is no record of an execution that can be signed; a bug of ours.
    #[error("the record cannot be made into a receipt")]
    Unfit,
}

/// An in-toto statement about one execution.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Statement {
    /// The form of the statement.
    #[serde(rename = "_type")]
    kind: String,
    /// What it is about: the output; the input of an execution that has none.
    subject: Vec<Subject>,
    /// The form of the predicate.
    #[serde(rename = "predicateType")]
    predicate_type: String,
    predicate: Predicate,
}

/// What a statement is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Subject {
    /// The execution's id, and which of its ends.
    name: String,
    digest: SubjectDigest,
}

/// Its digest in the form of in-toto.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct SubjectDigest {
    /// In hexadecimal digits alone.
    sha256: String,
}

/// What a receipt says of an execution.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Predicate {
    /// The execution's id.
    pub execution_id: String,
    /// What ran.
    pub agent: AgentClaim,
    /// On whose behalf.
    pub tenant: String,
    /// The name of the credential that it was asked for with.
    pub caller: String,
    /// What the agent read.
    pub input: ContentPart,
    /// What it wrote, where it ran to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<ContentPart>,
    /// `success`, or the reason code of the error.
    pub result: String,
    /// The agent's own verdict, where it ran to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The powers that it was given, with the policies that gave them and how often.
    pub grants: Vec<GrantPart>,
    /// Further ones, which stand in the log alone.
    pub grants_left_out: u64,
    /// How often it was refused one.
    pub denials: u64,
    /// Fuel consumed, where it is counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fuel: Option<u64>,
    /// Largest sum of linear memories, in bytes.
    pub memory_bytes: u64,
    /// Microseconds from the first instruction of the entry point to its end.
    pub execution_time_us: u64,
    /// When it began to wait for a place: RFC 3339, UTC.
    pub started: String,
    /// When it ended.
    pub finished: String,
    /// Where it is recorded, and the proof.
    pub log: LogClaim,
}

/// The agent that ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentClaim {
    /// The manifest's id.
    pub id: String,
    /// The manifest's version.
    pub version: String,
    /// What executed it.
    pub runtime: String,
    /// `sha256:` and the digest of the module, or of the image.
    pub module: String,
    /// The same of the module in whose place an image was executed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_place_of: Option<String>,
    /// `sha256:` and the digest of the manifest's text.
    pub manifest: String,
    /// How far its signature is trusted.
    pub trust: String,
    /// Who signed it, where somebody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signer: Option<String>,
}

/// Where an execution is recorded. Bytes and hashes are base64.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogClaim {
    /// What the log calls itself.
    pub origin: String,
    /// The number of the record.
    pub index: u64,
    /// The record's bytes: the leaf of the tree.
    pub leaf: String,
    /// Their hash.
    pub leaf_hash: String,
    /// Records in the tree.
    pub tree_size: u64,
    /// Its root.
    pub root: String,
    /// The hashes beside the way from the leaf to the root, from below.
    pub proof: Vec<String>,
    /// The signed note of the root, as it is.
    pub checkpoint: String,
}

/// A DSSE envelope.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload_type: String,
    payload: String,
    signatures: Vec<EnvelopeSignature>,
}

/// One signature of it.
#[derive(Debug, Serialize, Deserialize)]
struct EnvelopeSignature {
    /// A hint at the key, which nobody vouches for.
    #[serde(default)]
    keyid: String,
    sig: String,
}

impl Grant {
    /// Asks for a receipt of the execution, before it begins.
    ///
    /// # Errors
    /// `INVALID_REQUEST` where nothing is recorded; `OVERLOADED` while the log cannot be written, or too many wait for
    /// their receipts.
    pub fn ask_for_receipt(&self) -> Result<ReceiptRequest, Error> {
        let (Some(recorder), Judge::Policies { .. }) = (self.powers.audit(), &self.powers.judge) else {
            let message =
                "a receipt needs an audit log, and there is none here; executions of `mentat serve` have one";
            return Err(Error::InvalidRequest { message: message.into() });
        };
        if !recorder.proves() {
            let message = "no receipt can be promised: the audit log cannot be written, or is behind; ask again later, or \
                           execute without a receipt";
            return Err(Error::Overloaded { message: message.into(), retry_after: RETRY_AFTER });
        }
        self.powers.ledger.lock().remember_given();
        Ok(ReceiptRequest { powers: Arc::clone(&self.powers), recorder: recorder.clone() })
    }
}

impl ReceiptRequest {
    /// Records the end of the execution, as [`Grant::record_end`] does, and everything that its receipt says. Reads all
    /// of the contents.
    #[must_use]
    pub fn record_end(self, mut ending: Ending, contents: &Contents<'_>) -> PendingReceipt {
        let (grants, grants_left_out) = grants(self.powers.ledger.lock().take_given());
        let part = ReceiptPart {
            manifest: digest(contents.manifest.as_bytes()),
            input: content(contents.input),
            output: contents.output.map(content),
            started: rfc3339_of(contents.started),
            finished: rfc3339_of(contents.finished),
            grants,
            grants_left_out,
        };
        ending.receipt = Some(part.into());
        let ended = self.powers.ended(ending, SystemTime::now());
        let proof = match ended {
            Some(ended) => self.recorder.prove(Record::from(&ended)),
            // Not so: whoever has no policies was not promised a receipt.
            None => oneshot::channel().1,
        };
        PendingReceipt { proof, recorder: self.recorder }
    }
}

impl PendingReceipt {
    /// The receipt, a DSSE envelope in JSON, when the log has signed the record.
    ///
    /// # Errors
    /// When the log cannot be written, or takes too long; the record is written when it can be.
    pub async fn ready(self) -> Result<Vec<u8>, ReceiptError> {
        let answer = tokio::time::timeout(PROVEN_WITHIN, self.proof).await.map_err(|_| ReceiptError::Late)?;
        let proven = answer.map_err(|_| ReceiptError::Closed)??;
        issue(&proven, self.recorder.signer()).ok_or(ReceiptError::Unfit)
    }
}

/// Seals a statement in a DSSE envelope. `None` where the key cannot sign.
#[must_use]
pub fn seal(statement: &[u8], signer: &StandardSigner) -> Option<Vec<u8>> {
    let signature = signer.sign(&pre_authentication(PAYLOAD_TYPE, statement)).ok()?;
    let envelope = Envelope {
        payload_type: PAYLOAD_TYPE.into(),
        payload: STANDARD.encode(statement),
        signatures: vec![EnvelopeSignature {
            keyid: key_name(signer.name(), signer.key_id()),
            sig: STANDARD.encode(signature),
        }],
    };
    serde_json::to_vec(&envelope).ok()
}

fn issue(proven: &Proven, signer: &StandardSigner) -> Option<Vec<u8>> {
    let record: Record = serde_json::from_slice(&proven.leaf).ok()?;
    let statement = Statement::of(&record, LogClaim::of(proven))?;
    seal(&serde_json::to_vec(&statement).ok()?, signer)
}

impl LogClaim {
    fn of(proven: &Proven) -> Self {
        Self {
            origin: proven.origin.clone(),
            index: proven.index,
            leaf: STANDARD.encode(&proven.leaf),
            leaf_hash: record_hash(&proven.leaf).to_string(),
            tree_size: proven.size,
            root: proven.root.to_string(),
            proof: proven.proof.iter().map(ToString::to_string).collect(),
            checkpoint: proven.checkpoint.clone(),
        }
    }
}

impl Statement {
    /// The statement that a record makes. `None` where it is not about an execution whose receipt was asked for.
    fn of(record: &Record, log: LogClaim) -> Option<Self> {
        let predicate = Predicate::of(record, log)?;
        let (which, content) = match &predicate.output {
            Some(output) => ("output", output),
            None => ("input", &predicate.input),
        };
        let subject = Subject {
            name: format!("{}/{which}", predicate.execution_id),
            digest: SubjectDigest { sha256: content.digest.strip_prefix("sha256:")?.to_owned() },
        };
        Some(Self {
            kind: STATEMENT_TYPE.into(),
            subject: vec![subject],
            predicate_type: PREDICATE_TYPE.into(),
            predicate,
        })
    }
}

impl Predicate {
    fn of(record: &Record, log: LogClaim) -> Option<Self> {
        let Event::Execution(activity) = record.event.clone() else { return None };
        let Activity { agent, execution, security, tenant, caller } = *activity;
        let receipt = execution.receipt?;
        Some(Self {
            execution_id: execution.instance_id,
            agent: AgentClaim {
                id: agent.id,
                version: agent.version,
                runtime: agent.runtime,
                module: agent.module,
                in_place_of: agent.in_place_of,
                manifest: receipt.manifest,
                trust: agent.attestation.trust,
                signer: agent.attestation.signer,
            },
            tenant,
            caller,
            input: receipt.input,
            output: receipt.output,
            result: execution.result?,
            exit_code: execution.exit_code,
            grants: receipt.grants,
            grants_left_out: receipt.grants_left_out,
            denials: security.capability_denials,
            fuel: execution.fuel,
            memory_bytes: execution.memory_used?,
            execution_time_us: execution.execution_time_us?,
            started: receipt.started,
            finished: receipt.finished,
            log,
        })
    }
}

/// As many grants as there is room for, and how many more there are.
fn grants(given: impl IntoIterator<Item = ((Capability, Vec<String>), u64)>) -> (Vec<GrantPart>, u64) {
    let (mut grants, mut left_out, mut room) = (Vec::new(), 0, MAX_GRANTS_BYTES);
    for ((capability, policies), count) in given {
        let grant = GrantPart { capability: capability.to_string(), policies, count };
        let bytes = serde_json::to_vec(&grant).map_or(usize::MAX, |json| json.len().saturating_add(1));
        match room.checked_sub(bytes) {
            Some(rest) => {
                room = rest;
                grants.push(grant);
            }
            None => left_out += 1,
        }
    }
    (grants, left_out)
}

/// What DSSE signs: the type and the payload, each with its length before it.
fn pre_authentication(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

/// A key as the first two parts of its `key.pub` name it.
fn key_name(name: &str, id: u32) -> String {
    format!("{name}+{id:08x}")
}

fn content(bytes: &[u8]) -> ContentPart {
    ContentPart { digest: digest(bytes), bytes: bytes.len() as u64 }
}

/// Written as modules' digests are.
fn digest(bytes: &[u8]) -> String {
    ModuleDigest::of(bytes).to_string()
}
