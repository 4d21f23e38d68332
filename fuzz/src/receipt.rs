//! Receipts: whatever the bytes are, checking them ends, and says why they do not hold; once as they come, and once signed
//! by the right key, so that what lies behind the signature is reached.

use std::sync::OnceLock;

use mentat_runtime::security::receipt::{Content, seal, verify};
use signed_note::StandardSigner;

/// A key pair of nobody; the private part is in the form of signed notes.
const PRIVATE_KEY: &str = "PRIVATE+KEY+test.log+b042632b+AQABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f";
const PUBLIC_KEY: &str = "test.log+b042632b+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4";

/// Checks the bytes as a receipt, and as the statement of one.
pub fn run(bytes: &[u8]) {
    static SIGNER: OnceLock<StandardSigner> = OnceLock::new();
    check(bytes);
    let signer = SIGNER.get_or_init(|| StandardSigner::new(PRIVATE_KEY).expect("the key is one"));
    check(&seal(bytes, signer).expect("the key signs"));
}

fn check(receipt: &[u8]) {
    match verify(receipt, PUBLIC_KEY) {
        Ok(verified) => {
            let other = verified.check(Content::Module, b"some other module");
            assert!(other.is_err(), "another module is taken for the one that ran");
        }
        Err(fault) => super::check_text(&fault.to_string(), 4 << 10),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use base64::Engine as _;
    use mentat_manifest::{Manifest, ModuleDigest, RuntimeKind};
    use mentat_runtime::model::{Caller, ExecutionId};
    use mentat_runtime::security::audit::{
        AuditConfig, Ending, OnAuditFailure, Recorder, RetentionConfig, SensitiveValues, SyncMode,
    };
    use mentat_runtime::security::authority::{Applicant, Authority, LastCase};
    use mentat_runtime::security::cedar::{Policies, PolicySource};
    use mentat_runtime::security::offers::Offers;
    use mentat_runtime::security::policy::{OnViolation, Rules};
    use mentat_runtime::security::principal::Trust;
    use mentat_runtime::security::receipt::Contents;

    use super::*;

    const MANIFEST: &str = "id: a.b\nversion: 1.0.0\nruntime: wasm\nmodule: agent.wasm\nwasm:\n  \
        capabilities: [\"env:A\"]\n";

    /// A real receipt, of the third record in its log.
    fn receipt() -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("key"), PRIVATE_KEY).unwrap();
        std::fs::write(folder.path().join("key.pub"), PUBLIC_KEY).unwrap();
        let config = AuditConfig {
            folder: folder.path().into(),
            origin: "test.log".into(),
            sync: SyncMode::Never,
            on_failure: OnAuditFailure::Refuse,
            checkpoint_every: Duration::from_secs(3600),
            retention: RetentionConfig::default(),
            sensitive: SensitiveValues::default(),
        };
        let source = PolicySource { name: "p".into(), text: "permit (principal, action, resource);".into() };
        let policies = Policies::parse(&[source]).unwrap();
        let recorder = Recorder::open(&config).unwrap();
        let authority =
            Authority::new(Rules::default(), OnViolation::Deny, Offers::default(), policies, Some(recorder));
        let applicant = Applicant {
            manifest: &Manifest::parse(MANIFEST).unwrap(),
            module: &ModuleDigest::of(b"module"),
            runtime: RuntimeKind::Wasm,
            in_place_of: None,
            trust: Trust::Untrusted,
            signer: None,
            caller: &Caller::local(),
            execution: ExecutionId::new(),
            narrowing: &[],
            last: &LastCase::default(),
        };
        let grant = authority.decide(&applicant).unwrap();
        grant.clone().record_end(Ending::default());
        let request = grant.ask_for_receipt().unwrap();
        grant.decide(&"env:A".parse().unwrap()).unwrap();
        let (started, finished) = (SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH);
        let contents = Contents { manifest: MANIFEST, input: b"in", output: Some(b"out"), started, finished };
        let pending = request.record_end(Ending::default(), &contents);
        let threads = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let receipt = threads.block_on(pending.ready()).unwrap();
        verify(&receipt, PUBLIC_KEY).unwrap();
        receipt
    }

    /// What is in its envelope.
    fn payload(receipt: &[u8]) -> Vec<u8> {
        let envelope: serde_json::Value = serde_json::from_slice(receipt).unwrap();
        base64::engine::general_purpose::STANDARD.decode(envelope["payload"].as_str().unwrap()).unwrap()
    }

    #[test]
    fn receipts_and_their_neighbours_hold_or_say_why_not() {
        let receipt = receipt();
        for bytes in crate::variations(&[receipt.clone(), payload(&receipt)], 1000) {
            run(&bytes);
        }
    }
}
