//! What an execution runs under: a manifest's capabilities, the operator's policies and offers, and directories that are
//! mounted, with a file beside them that no guest may ever reach.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use mentat_manifest::{ByteCount, FileAccess, Limits, LimitsRequest, Manifest, ModuleDigest, RuntimeKind};
use mentat_runtime::model::{Caller, Invocation, Outcome};
use mentat_runtime::security::authority::{Applicant, Authority, LastCase};
use mentat_runtime::security::cedar::{Policies, PolicySource};
use mentat_runtime::security::offers::{Mount, Offers};
use mentat_runtime::security::policy::{Grant, OnViolation, Rules};
use mentat_runtime::security::principal::Trust;
use mentat_runtime::{Loaded, Runtime};

/// A policy that permits everything.
pub const EVERYTHING: &str = "@id(\"everything\") permit (principal, action, resource);";
/// What stands in the file beside the mounts.
pub const SECRET: &str = "this lies outside of every mount";

/// What an execution runs under.
pub struct World {
    pub capabilities: Vec<String>,
    pub policies: String,
    /// More of the manifest.
    pub pins: String,
    pub offers: Offers,
    pub on_violation: OnViolation,
    pub rules: Rules,
    /// The mounts lie in it, and `secret.txt`.
    home: tempfile::TempDir,
    secret_written: SystemTime,
}

impl World {
    /// Policies that permit everything, and nothing to be granted.
    pub fn new(capabilities: &[&str]) -> Self {
        let home = tempfile::tempdir().unwrap();
        let secret = home.path().join("secret.txt");
        std::fs::write(&secret, SECRET).unwrap();
        Self {
            capabilities: capabilities.iter().map(|&capability| capability.to_owned()).collect(),
            policies: EVERYTHING.into(),
            pins: String::new(),
            offers: Offers::default(),
            on_violation: OnViolation::Deny,
            rules: Rules::default(),
            secret_written: std::fs::metadata(&secret).unwrap().modified().unwrap(),
            home,
        }
    }

    /// Makes a directory and mounts it; `/data` lies in the directory `data` beside the secret.
    pub fn mount(&mut self, guest: &str, access: FileAccess, quota: Option<ByteCount>) {
        let host = self.home.path().join(guest.trim_matches('/').replace('/', "-"));
        std::fs::create_dir(&host).unwrap();
        self.offers.mounts.push(Mount { quota, ..Mount::new(host, guest, access).unwrap() });
    }

    /// Where a guest path lies.
    pub fn path(&self, guest: &str) -> PathBuf {
        let mount = self.offers.mount_of(guest, "default").unwrap_or_else(|| panic!("nothing at {guest}"));
        mount.host.join(guest[mount.guest.len()..].trim_start_matches('/'))
    }

    /// What lies outside of every mount.
    pub fn outside(&self) -> &Path {
        self.home.path()
    }

    pub fn limits(&mut self, limits: &LimitsRequest) {
        self.rules.defaults = Limits::resolve(&Limits::DEFAULT, limits, &Limits::CEILING).unwrap();
    }

    pub fn grant(&self, tenant: &str) -> Grant {
        let source = PolicySource { name: "test".into(), text: self.policies.clone() };
        let policies = Policies::parse(&[source]).unwrap_or_else(|error| panic!("{error}"));
        let authority =
            Authority::new(self.rules.clone(), self.on_violation, self.offers.clone(), policies, None);
        let list = serde_json::to_string(&self.capabilities).unwrap();
        let manifest = format!(
            "id: a.b\nversion: 1.0.0\nruntime: wasm\nmodule: a.wasm\nwasm: {{ capabilities: {list} }}\n{}",
            self.pins
        );
        let caller = Caller { tenant: tenant.into(), ..Caller::local() };
        authority
            .decide(&Applicant {
                manifest: &Manifest::parse(&manifest).unwrap(),
                module: &ModuleDigest::of(b""),
                runtime: RuntimeKind::Wasm,
                in_place_of: None,
                trust: Trust::Untrusted,
                signer: None,
                caller: &caller,
                execution: Invocation::new("").execution_id,
                narrowing: &[],
                last: &LastCase::default(),
            })
            .unwrap()
    }

    pub async fn run(
        &self,
        runtime: &Arc<Runtime>,
        loaded: &Loaded,
        input: impl Into<bytes::Bytes>,
    ) -> Outcome {
        runtime.execute(&loaded.module, &self.grant("default"), Invocation::new(input.into())).await
    }

    /// What has become of the outside, or has been told of it, that should not.
    pub fn breach(&self, outcome: &Outcome) -> Option<String> {
        let secret = self.home.path().join("secret.txt");
        let names: Vec<_> = std::fs::read_dir(self.home.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| *path != secret && self.offers.mounts.iter().all(|mount| mount.host != *path))
            .collect();
        if !names.is_empty() {
            return Some(format!("outside of the mounts there is {names:?}"));
        }
        if std::fs::read_to_string(&secret).ok().as_deref() != Some(SECRET)
            || std::fs::metadata(&secret).unwrap().modified().unwrap() != self.secret_written
        {
            return Some("the file outside was changed".into());
        }
        let told = |bytes: &[u8]| String::from_utf8_lossy(bytes).contains(SECRET);
        let output = outcome.result.as_ref().is_ok_and(|answer| told(&answer.output));
        let logs = outcome.logs.iter().any(|line| told(line.message.as_bytes()));
        (output || logs).then(|| "the file outside was read".into())
    }
}
