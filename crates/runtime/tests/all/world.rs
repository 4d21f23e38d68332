//! What an execution runs under: a manifest, policies and offers of its own; and the guest that asks for a capability and
//! uses it.

use std::sync::Arc;

use mentat_manifest::{FileAccess, Manifest};
use mentat_runtime::model::{Caller, Invocation, Outcome};
use mentat_runtime::security::authority::{Applicant, Authority};
use mentat_runtime::security::cedar::{Policies, PolicySource};
use mentat_runtime::security::offers::{Mount, Offers};
use mentat_runtime::security::policy::{Grant, OnViolation, Rules};
use mentat_runtime::security::principal::Trust;
use mentat_runtime::{NetworkConfig, Runtime};

use crate::harness::{Test, runtime, runtime_with};

/// What an execution runs under.
pub struct World {
    pub capabilities: Vec<String>,
    pub policies: String,
    pub offers: Offers,
    pub on_violation: OnViolation,
    pub folder: tempfile::TempDir,
    runtime: Arc<Runtime>,
}

pub const EVERYTHING: &str = "@id(\"everything\") permit (principal, action, resource);";

impl World {
    /// A folder mounted at `/data`, with a file, a folder and links in it; policies that permit everything.
    pub fn new(capabilities: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("hello.txt"), "hello").unwrap();
        std::fs::create_dir_all(at("private/deep")).unwrap();
        std::fs::write(at("private/key.txt"), "secret").unwrap();
        for (target, name) in [("private/key.txt", "into"), ("/etc/passwd", "absolute"), ("../..", "up")] {
            std::os::unix::fs::symlink(target, at(name)).unwrap();
        }
        let mount = Mount::new(folder.path(), "/data", FileAccess::ReadWrite).unwrap();
        let mut offers = Offers { mounts: vec![mount], ..Offers::default() };
        offers.env.insert("KEY".into(), "value".into());
        Self {
            capabilities: capabilities.iter().map(|text| (*text).to_owned()).collect(),
            policies: EVERYTHING.into(),
            offers,
            on_violation: OnViolation::Deny,
            folder,
            runtime: Arc::clone(runtime()),
        }
    }

    /// With a network of its own.
    pub fn network(mut self, config: NetworkConfig) -> Self {
        self.runtime = Arc::new(runtime_with(config));
        self
    }

    pub fn policies(mut self, policies: &str) -> Self {
        self.policies = policies.into();
        self
    }

    pub fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    pub fn grant(&self) -> Grant {
        let source = PolicySource { name: "test".into(), text: self.policies.clone() };
        let policies = Policies::parse(&[source]).unwrap_or_else(|error| panic!("{error}"));
        let authority =
            Authority::new(Rules::default(), self.on_violation, self.offers.clone(), policies, None);
        let list = serde_json::to_string(&self.capabilities).unwrap();
        let manifest = format!(
            "id: a.b\nversion: 1.0.0\nruntime: wasm\nmodule: a.wasm\nwasm: {{ capabilities: {list} }}\n"
        );
        let invocation = Invocation::new("");
        authority
            .decide(&Applicant {
                manifest: &Manifest::parse(&manifest).unwrap(),
                module: &mentat_manifest::ModuleDigest::of(b""),
                trust: Trust::Untrusted,
                signer: None,
                caller: &Caller::local(),
                execution: invocation.execution_id,
                narrowing: &[],
            })
            .unwrap()
    }

    pub async fn run(&self, input: &str) -> Outcome {
        self.run_guest(include_str!("ask.wat"), input).await
    }

    pub async fn run_guest(&self, guest: &str, input: &str) -> Outcome {
        let loaded = Test::wat(guest).load_in(&self.runtime).await.unwrap();
        self.runtime.execute(&loaded.module, &self.grant(), Invocation::new(input.to_owned())).await
    }

    /// Exit status and output of a WASI command that does these things to files.
    pub async fn files(&self, input: &str) -> (i32, String) {
        let outcome = self.run_guest(include_str!("files.wat"), input).await;
        let answer = outcome.result.unwrap_or_else(|error| panic!("{input}: {error}"));
        (answer.exit_code, String::from_utf8(answer.output.to_vec()).unwrap())
    }

    /// Exit code and output of asking and using.
    pub async fn ask(&self, input: &str) -> (i32, String) {
        let answer = self.run(input).await.result.unwrap_or_else(|error| panic!("{input}: {error}"));
        (answer.exit_code, String::from_utf8(answer.output.to_vec()).unwrap())
    }
}
