//! Receipts from a real log: what they say, that they hold, and that nothing in them can be changed unnoticed.

use std::path::Path;

use mentat_manifest::{CapabilityKind, Manifest, RuntimeKind};
use serde_json::{Value, json};
use tlog_tiles::Hash;

use super::*;
use crate::model::{Caller, ExecutionId};
use crate::security::audit::{
    AuditConfig, Evidence, OnAuditFailure, RetentionConfig, SensitiveValues, SyncMode, check, read,
};
use crate::security::authority::{Applicant, Authority, LastCase};
use crate::security::cedar::{Policies, PolicySource};
use crate::security::denial::DenialReason;
use crate::security::offers::Offers;
use crate::security::policy::{OnViolation, Rules, UserPowers};
use crate::security::principal::Trust;

const MANIFEST: &str = "id: a.b\nversion: 1.2.3\nruntime: wasm\nmodule: agent.wasm\nwasm:\n  \
    capabilities: [\"filesystem:read:/data\", \"env:KEY\"]\n";
const POLICIES: &str = "@id(\"data\") permit (principal, action, resource in Path::\"/data\");";

/// A log that signs nothing unless somebody waits for it, and the authority before it.
struct Node {
    folder: tempfile::TempDir,
    recorder: Recorder,
    authority: Authority,
}

impl Node {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let recorder = Recorder::open(&config(folder.path())).unwrap();
        let authority = authority(Some(recorder.clone()));
        Self { folder, recorder, authority }
    }

    fn key(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("key.pub")).unwrap()
    }

    fn request(&self) -> (Grant, ReceiptRequest) {
        let grant = grant(&self.authority);
        let request = grant.ask_for_receipt().unwrap();
        (grant, request)
    }

    /// The receipt of an execution that read a file twice, was denied a variable, and answered `out`.
    async fn receipt(&self) -> Vec<u8> {
        let (grant, request) = self.request();
        for _ in 0..2 {
            grant.decide(&"filesystem:read:/data/x".parse().unwrap()).unwrap();
        }
        grant.decide(&"env:KEY".parse().unwrap()).unwrap_err();
        request.record_end(ending(), &contents(Some(b"out"))).ready().await.unwrap()
    }

    /// Signs another statement with the node's own key.
    fn seal(&self, statement: &Value) -> Vec<u8> {
        seal(&serde_json::to_vec(statement).unwrap(), self.recorder.signer()).unwrap()
    }
}

fn config(folder: &Path) -> AuditConfig {
    AuditConfig {
        folder: folder.into(),
        origin: "test.log".into(),
        sync: SyncMode::Never,
        on_failure: OnAuditFailure::Refuse,
        checkpoint_every: Duration::from_secs(3600),
        retention: RetentionConfig::default(),
        sensitive: SensitiveValues::default(),
    }
}

fn authority(audit: Option<Recorder>) -> Authority {
    let policies = Policies::parse(&[PolicySource { name: "own".into(), text: POLICIES.into() }]).unwrap();
    Authority::new(Rules::default(), OnViolation::Deny, Offers::default(), policies, audit)
}

fn grant(authority: &Authority) -> Grant {
    grant_for(authority, None)
}

fn grant_for(authority: &Authority, in_place_of: Option<&ModuleDigest>) -> Grant {
    let applicant = Applicant {
        manifest: &Manifest::parse(MANIFEST).unwrap(),
        module: &ModuleDigest::of(b"module"),
        runtime: RuntimeKind::Wasm,
        in_place_of,
        trust: Trust::Signed,
        signer: Some(&"CN=Somebody".into()),
        caller: &Caller::local(),
        execution: ExecutionId::new(),
        narrowing: &[],
        last: &LastCase::default(),
    };
    authority.decide(&applicant).unwrap()
}

fn ending() -> Ending {
    Ending {
        memory_used: 65536,
        execution_time_us: 7,
        fuel: Some(42),
        result: "success",
        exit_code: Some(3),
        ..Ending::default()
    }
}

fn contents(output: Option<&[u8]>) -> Contents<'_> {
    let started = SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_510_800_042);
    let finished = started + Duration::from_secs(1);
    Contents { manifest: MANIFEST, input: b"in", output, started, finished }
}

fn statement(receipt: &[u8]) -> Value {
    let envelope: Value = serde_json::from_slice(receipt).unwrap();
    serde_json::from_slice(&STANDARD.decode(envelope["payload"].as_str().unwrap()).unwrap()).unwrap()
}

/// Where there is text or a number in a value.
fn scalars(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            map.iter().for_each(|(key, value)| scalars(value, &format!("{at}/{key}"), found));
        }
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(at_, value)| scalars(value, &format!("{at}/{at_}"), found));
        }
        _ => found.push(at.to_owned()),
    }
}

#[tokio::test]
async fn a_receipt_says_what_was_executed_and_holds_by_the_public_key_alone() {
    let node = Node::new();
    let receipt = node.receipt().await;
    let verified = verify(&receipt, &node.key()).unwrap();
    let said = verified.predicate();
    let agent = &said.agent;
    assert_eq!((agent.id.as_str(), agent.version.as_str(), agent.runtime.as_str()), ("a.b", "1.2.3", "wasm"));
    assert_eq!((agent.trust.as_str(), agent.signer.as_deref()), ("signed", Some("CN=Somebody")));
    assert_eq!((said.result.as_str(), said.exit_code, said.fuel), ("success", Some(3), Some(42)));
    assert_eq!(said.started, "2026-11-24T09:00:00.042Z");
    assert_eq!(said.finished, "2026-11-24T09:00:01.042Z");
    let given =
        GrantPart { capability: "filesystem:read:/data/x".into(), policies: vec!["data".into()], count: 2 };
    assert_eq!((said.grants.as_slice(), said.grants_left_out), (&[given][..], 0));
    let all: [(Content, &[u8]); 4] = [
        (Content::Input, b"in"),
        (Content::Output, b"out"),
        (Content::Module, b"module"),
        (Content::Manifest, MANIFEST.as_bytes()),
    ];
    for (which, bytes) in all {
        verified.check(which, bytes).unwrap();
        let fault = verified.check(which, b"other").unwrap_err();
        assert!(fault.is_rejection() && fault.to_string().starts_with(which.as_str()), "{fault}");
    }
    let statement = statement(&receipt);
    assert_eq!(statement["subject"][0]["name"], format!("{}/output", said.execution_id));
    assert_eq!(
        statement["subject"][0]["digest"]["sha256"],
        // printf out | sha256sum
        "762069bc07a6e1b5df123a5ae7bd91c10daa04694fbaa17fba0cd6a8dcce8f22"
    );
}

#[tokio::test]
async fn a_receipt_names_the_module_in_whose_place_an_image_was_executed() {
    let node = Node::new();
    let replaced = ModuleDigest::of(b"replaced");
    let request = grant_for(&node.authority, Some(&replaced)).ask_for_receipt().unwrap();
    let receipt = request.record_end(ending(), &contents(Some(b"out"))).ready().await.unwrap();
    let said = verify(&receipt, &node.key()).unwrap().predicate().agent.clone();
    assert_eq!(said.in_place_of, Some(replaced.to_string()));
    let mut other = statement(&receipt);
    other["predicate"]["agent"]["in_place_of"] = ModuleDigest::of(b"other").to_string().into();
    let fault = verify(&node.seal(&other), &node.key()).unwrap_err();
    assert!(fault.to_string().contains("agent.in_place_of"), "{fault}");
    let itself = statement(&node.receipt().await);
    assert!(itself["predicate"]["agent"].get("in_place_of").is_none(), "{itself}");
}

#[tokio::test]
async fn an_execution_without_an_output_is_known_by_its_input() {
    let node = Node::new();
    let (_grant, request) = node.request();
    let ending = Ending { result: "TRAP", ..Ending::default() };
    let receipt = request.record_end(ending, &contents(None)).ready().await.unwrap();
    let verified = verify(&receipt, &node.key()).unwrap();
    let name = statement(&receipt)["subject"][0]["name"].clone();
    assert_eq!(name, format!("{}/input", verified.predicate().execution_id));
    assert_eq!((verified.predicate().output.as_ref(), verified.predicate().exit_code), (None, None));
    let fault = verified.check(Content::Output, b"").unwrap_err();
    assert!(fault.to_string().ends_with("the receipt says that there is none, for TRAP"), "{fault}");
}

#[tokio::test]
async fn receipts_at_any_place_of_the_log_hold_and_share_checkpoints() {
    let node = Node::new();
    let wanted: Vec<PendingReceipt> =
        (0..600).map(|_| node.request().1.record_end(ending(), &contents(Some(b"")))).collect();
    let mut checkpoints = std::collections::HashSet::new();
    for (index, pending) in (0..).zip(wanted) {
        let verified = verify(&pending.ready().await.unwrap(), &node.key()).unwrap();
        assert_eq!(verified.predicate().log.index, index);
        checkpoints.insert(verified.predicate().log.checkpoint.clone());
    }
    assert!(checkpoints.len() < 100, "{}", checkpoints.len());
    node.recorder.close();
    let report = check(node.folder.path(), &Evidence::default()).unwrap();
    assert_eq!((report.signed, report.faults.as_slice()), (600, &[][..]));
}

#[tokio::test]
async fn whatever_is_changed_in_a_statement_is_named_though_it_be_signed_again() {
    let node = Node::new();
    let (_first, receipt) = (node.receipt().await, node.receipt().await);
    let statement = statement(&receipt);
    assert!(verify(&node.seal(&statement), &node.key()).is_ok());
    let mut all = Vec::new();
    scalars(&statement, "", &mut all);
    assert!(all.len() > 30, "{all:?}");
    for place in all {
        let mut changed = statement.clone();
        let value = changed.pointer_mut(&place).unwrap();
        *value = match &value {
            Value::String(text) => json!(text.clone() + "x"),
            Value::Number(number) => json!(number.as_i64().unwrap() + 1),
            other => panic!("{other}"),
        };
        let fault = verify(&node.seal(&changed), &node.key()).unwrap_err();
        let keys = place.trim_start_matches("/predicate/").trim_start_matches('/').split('/');
        // Of a list, the whole is named.
        let name = keys.take_while(|key| key.parse::<u8>().is_err()).collect::<Vec<_>>().join(".");
        let said = fault.to_string();
        assert!(said.contains(&format!("`{name}`")), "{place}: {said}");
    }
}

#[tokio::test]
async fn what_does_not_fit_together_in_the_log_is_told_apart() {
    let node = Node::new();
    let (first, receipt) = (node.receipt().await, node.receipt().await);
    let (first, statement) = (statement(&first), statement(&receipt));
    let other = Node::new();
    let elsewhere = self::statement(&other.receipt().await);
    let fault = |change: &dyn Fn(&mut Value)| {
        let mut changed = statement.clone();
        change(&mut changed["predicate"]["log"]);
        verify(&node.seal(&changed), &node.key()).unwrap_err()
    };
    let log = |statement: &Value, key: &str| statement["predicate"]["log"][key].clone();
    let key = key_name("test.log", node.recorder.signer().key_id());
    // Another record, with its own hash, at the same place.
    let swapped = fault(&|log_| {
        let leaf = STANDARD.decode(log_["leaf"].as_str().unwrap()).unwrap();
        let leaf =
            String::from_utf8(leaf).unwrap().replace("\"tenant\":\"default\"", "\"tenant\":\"another\"");
        log_["leaf"] = json!(STANDARD.encode(&leaf));
        log_["leaf_hash"] = json!(record_hash(leaf.as_bytes()).to_string());
    });
    assert_eq!(swapped, Fault::Inclusion);
    assert_eq!(fault(&|log_| log_["leaf_hash"] = log(&first, "leaf_hash")), Fault::Leaf);
    assert!(matches!(fault(&|log_| log_["index"] = json!(0)), Fault::Index { said: 0, .. }));
    for key in ["origin", "tree_size", "root"] {
        let found = fault(&|log_| {
            log_[key] = if key == "tree_size" { json!(u64::MAX) } else { json!("other") };
        });
        assert!(matches!(found, Fault::Checkpoint(said) if said.ends_with(key)), "{found}");
    }
    let note = |note: String| move |log_: &mut Value| log_["checkpoint"] = json!(note.clone());
    let forged = log(&statement, "checkpoint").as_str().unwrap().replacen("test.log\n", "test.lot\n", 1);
    assert_eq!(fault(&note(forged)), Fault::CheckpointSignature(key.clone()));
    let foreign = log(&elsewhere, "checkpoint").as_str().unwrap().to_owned();
    assert_eq!(fault(&note(foreign)), Fault::CheckpointSignature(key));
    // Signed by the same key, over a tree without the record.
    let early = log(&first, "checkpoint");
    assert!(matches!(fault(&|log_| log_["checkpoint"] = early.clone()), Fault::Checkpoint("log.tree_size")));
    let earlier = fault(&|log_| {
        for key in ["checkpoint", "tree_size", "root"] {
            log_[key] = log(&first, key);
        }
    });
    assert_eq!(earlier, Fault::Inclusion);
    assert_eq!(fault(&|log_| log_["proof"] = log(&elsewhere, "proof")), Fault::Inclusion);
    assert_eq!(fault(&|log_| log_["proof"] = json!([])), Fault::Inclusion);
    assert_eq!(fault(&|log_| log_["proof"][0] = json!(Hash::default().to_string())), Fault::Inclusion);
    assert_eq!(fault(&|log_| log_["proof"] = json!(vec![Hash::default().to_string(); 65])), Fault::Inclusion);
    // Another execution's place and proof, all of it in order by itself.
    assert_eq!(
        fault(&|log_| *log_ = first["predicate"]["log"].clone()),
        Fault::Disagrees("execution_id".into())
    );
    // A record of a decision is none of an execution, proven as it may be.
    let decision = read(node.folder.path()).unwrap().next().unwrap().unwrap();
    let proven = node.recorder.prove(decision).await.unwrap().unwrap();
    assert_eq!(issue(&proven, node.recorder.signer()), None);
    let decision = fault(&|log_| *log_ = json!(LogClaim::of(&proven)));
    assert_eq!(decision, Fault::Record("it is about something else".into()));
}

#[tokio::test]
async fn what_nobody_signed_is_refused_before_it_is_read() {
    let node = Node::new();
    let receipt = node.receipt().await;
    let other = Node::new();
    let fault = verify(&receipt, &other.key()).unwrap_err();
    let said = key_name("test.log", node.recorder.signer().key_id());
    assert!(matches!(&fault, Fault::Signature { said: found, .. } if *found == said), "{fault}");
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut envelope: Value = serde_json::from_slice(&receipt).unwrap();
        change(&mut envelope);
        verify(&serde_json::to_vec(&envelope).unwrap(), &node.key())
    };
    let mut statement = statement(&receipt);
    statement["predicate"]["result"] = json!("TRAP");
    let payload = STANDARD.encode(serde_json::to_vec(&statement).unwrap());
    let altered = changed(&|envelope| envelope["payload"] = json!(payload)).unwrap_err();
    assert!(matches!(altered, Fault::Signature { .. }), "{altered}");
    let cut = changed(&|envelope| envelope["signatures"][0]["sig"] = json!("AAAA")).unwrap_err();
    assert!(matches!(cut, Fault::Signature { .. }), "{cut}");
    let unsigned = changed(&|envelope| envelope["signatures"] = json!([])).unwrap_err();
    assert!(matches!(unsigned, Fault::Signature { .. }), "{unsigned}");
    // The hint is a hint, and a second signature is of no matter.
    changed(&|envelope| envelope["signatures"][0]["keyid"] = json!("whoever")).unwrap();
    changed(&|envelope| {
        let own = envelope["signatures"][0].clone();
        envelope["signatures"] = json!([{ "sig": "AAAA" }, own]);
    })
    .unwrap();
    let kind = changed(&|envelope| envelope["payloadType"] = json!("text/plain")).unwrap_err();
    assert!(matches!(kind, Fault::OtherKind { part: "payloadType", .. }) && !kind.is_rejection(), "{kind}");
    for length in 0..receipt.len() {
        let fault = verify(&receipt[..length], &node.key()).unwrap_err();
        assert!(matches!(fault, Fault::Unreadable { part: "the receipt", .. }), "{length}: {fault}");
    }
    let limit = usize::try_from(MAX_RECEIPT_BYTES).unwrap();
    assert_eq!(verify(&vec![b' '; limit + 1], &node.key()).unwrap_err(), Fault::TooLarge);
    assert_eq!(verify(&receipt, "no key").unwrap_err(), Fault::Key);
}

#[tokio::test]
async fn more_grants_than_a_record_has_room_for_are_counted() {
    let node = Node::new();
    let (grant, request) = node.request();
    for number in 0..2000 {
        grant
            .decide(&format!("filesystem:read:/data/{number}/{}", "x".repeat(200)).parse().unwrap())
            .unwrap();
    }
    let receipt = request.record_end(ending(), &contents(None)).ready().await.unwrap();
    let verified = verify(&receipt, &node.key()).unwrap();
    let said = verified.predicate();
    assert_eq!(said.grants.len() as u64 + said.grants_left_out, 2000);
    assert!((50..500).contains(&said.grants.len()), "{}", said.grants.len());
    // A third of what is read at most.
    assert!((receipt.len() as u64) < MAX_RECEIPT_BYTES / 3, "{}", receipt.len());
}

#[tokio::test]
async fn there_is_no_receipt_without_a_log_that_is_written() {
    let none = grant(&authority(None)).ask_for_receipt().unwrap_err();
    assert!(matches!(&none, Error::InvalidRequest { message } if message.contains("audit log")), "{none}");
    let user = Rules::default().decide_for_user(None, &Default::default(), UserPowers::default()).unwrap();
    assert!(matches!(user.ask_for_receipt(), Err(Error::InvalidRequest { .. })));

    let node = Node::new();
    let (_grant, request) = node.request();
    std::fs::remove_dir_all(node.folder.path()).unwrap();
    std::fs::write(node.folder.path(), "in the way").unwrap();
    let pending = request.record_end(ending(), &contents(None));
    assert_eq!(pending.ready().await, Err(ReceiptError::Proof(ProofError::Unwritten)));
    let refused = grant(&node.authority).ask_for_receipt().unwrap_err();
    assert!(matches!(refused, Error::Overloaded { .. }), "{refused}");

    let closed = Node::new();
    let (_grant, request) = closed.request();
    closed.recorder.close();
    assert_eq!(request.record_end(ending(), &contents(None)).ready().await, Err(ReceiptError::Closed));
}

#[test]
fn what_is_signed_is_as_dsse_has_it() {
    // The example of the specification.
    let signed = pre_authentication("http://example.com/HelloWorld", b"hello world");
    assert_eq!(signed, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
}

#[test]
fn who_asks_for_too_many_different_things_is_refused_the_rest_and_the_first_of_it_is_on_record() {
    let node = Node::new();
    let grant = grant(&node.authority);
    let ask = |number: u32| grant.decide(&format!("filesystem:read:/data/{number}").parse().unwrap());
    for number in 0..10_000 {
        ask(number).unwrap();
    }
    for number in 10_000..10_010 {
        assert!(matches!(ask(number).unwrap_err().reason, DenialReason::TooMany(10_000)));
    }
    // What is on record is decided as before.
    ask(7).unwrap();
    let decisions = grant.decisions()[&CapabilityKind::Filesystem];
    assert_eq!((decisions.granted, decisions.denied), (10_001, 10));
    node.recorder.close();
    let records: Vec<_> = read(node.folder.path()).unwrap().map(Result::unwrap).collect();
    assert_eq!(records.len(), 10_001);
    let last = records.last().unwrap().activity().unwrap().security.decision.as_ref().unwrap();
    assert_eq!((last.capability.as_str(), last.reason.as_str()), ("filesystem:read:/data/10000", "too_many"));
}
