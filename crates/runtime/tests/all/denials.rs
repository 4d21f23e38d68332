//! The table of capabilities: of every kind, what is granted passes, what is not is denied and recorded, and a near miss
//! is not granted. By the core ABI, by its typed twin and by WASI, with the records read back from a log. A new kind has
//! to have its rows here; what a grant can be used for is tested where that is built.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mentat_manifest::{Capability, CapabilityKind, FileAccess, Manifest};
use mentat_runtime::model::{Answer, ExecutionId, Invocation};
use mentat_runtime::security::audit::{
    self, AuditConfig, DecisionPart, Evidence, OnAuditFailure, Record, Recorder, RetentionConfig,
    SensitiveValues, SyncMode,
};
use mentat_runtime::security::authority::{Authority, Narrowing};
use mentat_runtime::security::cedar::{Policies, PolicySource};
use mentat_runtime::security::offers::{Mount, Offers};
use mentat_runtime::security::policy::{OnViolation, Rules};
use mentat_runtime::{Loaded, Module};

use crate::harness::{Test, grant, runtime};

/// One capability, and what surrounds it.
struct Row {
    /// What the manifest lists.
    listed: &'static str,
    /// The policy that permits it and no more, from its action on.
    policy: &'static str,
    /// Parts of it.
    within: &'static [&'static str],
    /// What is nearly it.
    near: &'static [&'static str],
    wasi: Wasi,
}

/// How a guest comes to the same by WASI, where what is listed is there when it starts.
enum Wasi {
    /// Doing this to files, in the words of `files.wat`.
    Files(&'static str),
    /// Looking at its environment.
    Environment,
    /// Not at all, or not before it is used.
    None,
}

const ROWS: &[Row] = &[
    Row {
        listed: "filesystem:read:/data",
        policy: "action == Action::\"filesystem:read\", resource in Path::\"/data\")",
        within: &["filesystem:read:/data/a/b", "filesystem:read:/data//a/."],
        near: &[
            "filesystem:read:/database",
            "filesystem:read:/dat",
            "filesystem:read:/",
            "filesystem:read:/Data",
            "filesystem:write:/data",
            "filesystem:readwrite:/data",
        ],
        wasi: Wasi::Files("l ."),
    },
    Row {
        listed: "filesystem:write:/out",
        policy: "action == Action::\"filesystem:write\", resource in Path::\"/out\")",
        within: &["filesystem:write:/out/a"],
        near: &["filesystem:read:/out", "filesystem:readwrite:/out/a"],
        wasi: Wasi::Files("w new"),
    },
    Row {
        listed: "network:https:*.example.com",
        policy: "action == Action::\"network:https\", resource) when { resource.host like \"*.example.com\" && \
                 resource has port && resource.port == 443 }",
        within: &["network:https:a.example.com", "network:https:A.B.Example.COM.:443"],
        near: &[
            "network:https:example.com",
            "network:https:evilexample.com",
            "network:https:a.example.com.evil.com",
            "network:https:a.example.com:8443",
            "network:http:a.example.com",
            "network:*:a.example.com:443",
            "network:https:*",
            "network:https:93.184.215.14",
        ],
        wasi: Wasi::None,
    },
    Row {
        listed: "network:tcp:10.0.0.0/8:5432",
        policy: "action == Action::\"network:tcp\", resource) when { resource has address && \
                 resource.address.isInRange(ip(\"10.0.0.0/8\")) && resource has port && resource.port == 5432 }",
        within: &[
            "network:tcp:10.1.2.3:5432",
            "network:tcp:[::ffff:10.1.2.3]:5432",
            "network:tcp:10.1.0.0/16:5432",
        ],
        near: &[
            "network:tcp:11.0.0.1:5432",
            "network:tcp:10.1.2.3:5433",
            "network:tcp:10.1.2.3",
            "network:udp:10.1.2.3:5432",
            "network:tcp:0.0.0.0/0:5432",
            "network:tcp:db.example.com:5432",
        ],
        wasi: Wasi::None,
    },
    Row {
        listed: "env:KEY",
        policy: "action == Action::\"env:read\", resource == Variable::\"KEY\")",
        within: &[],
        near: &["env:KEY2", "env:KE", "env:key", "secret:KEY"],
        wasi: Wasi::Environment,
    },
    Row {
        listed: "secret:TOKEN",
        policy: "action == Action::\"secret:use\", resource == Secret::\"TOKEN\")",
        within: &[],
        near: &["secret:TOKEN2", "secret:token", "env:TOKEN"],
        wasi: Wasi::None,
    },
    Row {
        listed: "compute:memory=64MB,fuel=2000000000",
        policy: "action == Action::\"compute:raise\", resource) when { \
                 (if resource has memory then resource.memory <= 67108864 else true) && \
                 (if resource has fuel then resource.fuel <= 2000000000 else true) && !(resource has cpu_ms) }",
        within: &["compute:memory=67108864", "compute:fuel=1"],
        near: &[
            "compute:memory=65MB",
            "compute:fuel=2000000001",
            "compute:cpu_ms=1",
            "compute:memory=1,cpu_ms=1",
        ],
        wasi: Wasi::None,
    },
    Row {
        listed: "media:read:pictures/",
        policy: "action == Action::\"media:read\", resource) when { resource.prefix like \"pictures/*\" }",
        within: &["media:read:pictures/cats/"],
        near: &["media:read:pictures", "media:read:", "media:read:videos/", "media:write:pictures/"],
        wasi: Wasi::None,
    },
    Row {
        listed: "media:write:sha256/",
        policy: "action == Action::\"media:write\", resource) when { resource.prefix like \"sha256/*\" }",
        within: &["media:write:sha256/2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"],
        near: &["media:write:", "media:write:sha256", "media:write:pictures/", "media:read:sha256/"],
        wasi: Wasi::None,
    },
    Row {
        listed: "extension:acme.search",
        policy: "action == Action::\"extension:call\", resource == Extension::\"acme.search\")",
        within: &[],
        near: &["extension:acme.searc", "extension:acme.search2", "extension:acme"],
        wasi: Wasi::None,
    },
];

const EVERYTHING: &str = "@id(\"everything\") permit (principal, action, resource);";
const FORBIDDEN: &str =
    "permit (principal, action, resource);\n@id(\"never\") forbid (principal, action, resource);";

/// A command that ends with 0 where there is anything in its environment, else as one that finds no directory.
const ENVIRONMENT: &str = r#"(module
    (import "wasi_snapshot_preview1" "environ_sizes_get" (func $sizes (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1)
    (func (export "_start")
      (drop (call $sizes (i32.const 0) (i32.const 4)))
      (if (i32.eqz (i32.load (i32.const 0))) (then (call $exit (i32.const 8))))))"#;
/// What a command ends with that finds no directory: `EBADF`.
const NOTHING_THERE: i32 = 8;

/// One execution that asks for one thing, and what must come of it.
#[derive(Clone, Copy)]
struct Case<'a> {
    listed: &'a [&'a str],
    policies: &'a str,
    narrowing: &'a [Narrowing],
    asked: &'a str,
    /// The error's number of the core ABI; 0 where the capability is given.
    code: i32,
    reason: &'a str,
    by: &'a [&'a str],
}

/// The ways to ask, and the log that all of them are recorded in.
struct House {
    core: Arc<Module>,
    component: Arc<Module>,
    files: Arc<Module>,
    environment: Arc<Module>,
    recorder: Recorder,
    folder: tempfile::TempDir,
    /// What lies at `/data` and at `/out`.
    mounted: tempfile::TempDir,
    /// What must be found in the log: the execution, and what was decided.
    expected: Vec<(String, DecisionPart)>,
}

impl House {
    async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let recorder = Recorder::open(&AuditConfig {
            folder: folder.path().into(),
            origin: "test.log".into(),
            sync: SyncMode::Never,
            on_failure: OnAuditFailure::Refuse,
            checkpoint_every: Duration::from_secs(1),
            retention: RetentionConfig::default(),
            sensitive: SensitiveValues::default(),
        })
        .unwrap();
        let load = async |text: &str| -> Loaded { Test::wat(text).load().await.unwrap() };
        Self {
            core: load(include_str!("ask.wat")).await.module,
            component: load(include_str!("ask_component.wat")).await.module,
            files: load(include_str!("files.wat")).await.module,
            environment: load(ENVIRONMENT).await.module,
            recorder,
            folder,
            mounted: tempfile::tempdir().unwrap(),
            expected: Vec::new(),
        }
    }

    /// What a guest answers under the case's powers, and the execution in which it did.
    async fn run(&self, module: &Arc<Module>, case: &Case<'_>, input: &str) -> (Answer, ExecutionId) {
        let list = serde_json::to_string(case.listed).unwrap();
        let manifest = Manifest::parse(&format!(
            "id: a.b\nversion: 1.0.0\nruntime: wasm\nmodule: a.wasm\nwasm: {{ capabilities: {list} }}\n"
        ))
        .unwrap_or_else(|error| panic!("{list}: {error}"));
        let source = PolicySource { name: "test".into(), text: case.policies.into() };
        let policies = Policies::parse(&[source]).unwrap_or_else(|error| panic!("{error}"));
        let mount = |guest| Mount::new(self.mounted.path(), guest, FileAccess::ReadWrite).unwrap();
        let mut offers = Offers { mounts: vec![mount("/data"), mount("/out")], ..Offers::default() };
        offers.env.insert("KEY".into(), "value".into());
        let recorder = Some(self.recorder.clone());
        let authority = Authority::new(Rules::default(), OnViolation::Deny, offers, policies, recorder);
        let invocation = Invocation::new(input.to_owned());
        let execution = invocation.execution_id;
        let grant = grant(&authority, &manifest, case.narrowing, execution);
        let outcome = runtime().execute(module, &grant, invocation).await;
        (outcome.result.unwrap_or_else(|error| panic!("{input}: {error}")), execution)
    }

    /// Asks in both ways.
    async fn check(&mut self, case: &Case<'_>) {
        let (answer, execution) = self.run(&self.core, case, case.asked).await;
        let text = String::from_utf8_lossy(&answer.output).into_owned();
        assert_eq!(answer.exit_code, case.code, "`{}` of {:?}: {text}", case.asked, case.listed);
        self.expect(execution, case);
        let (answer, execution) = self.run(&self.component, case, case.asked).await;
        let text = String::from_utf8_lossy(&answer.output).into_owned();
        // The cases of the contract's `code` begin with 0 where the numbers of the ABI begin with -1.
        let code = text.bytes().next().map_or(0, |digit| i32::from(b'0') - i32::from(digit) - 1);
        assert_eq!(code, case.code, "`{}` of {:?}: {text}", case.asked, case.listed);
        self.expect(execution, case);
    }

    /// Looks by WASI for what is listed.
    async fn check_wasi(&mut self, wasi: &Wasi, case: &Case<'_>) {
        let (module, input) = match wasi {
            Wasi::Files(input) => (&self.files, *input),
            Wasi::Environment => (&self.environment, ""),
            Wasi::None => return,
        };
        let (answer, execution) = self.run(module, case, input).await;
        let code = if case.code == 0 { 0 } else { NOTHING_THERE };
        assert_eq!(answer.exit_code, code, "`{input}` with {:?} under `{}`", case.listed, case.policies);
        self.expect(execution, case);
    }

    /// Notes what must be found in the log.
    fn expect(&mut self, execution: ExecutionId, case: &Case<'_>) {
        let decision = DecisionPart {
            capability: case.asked.parse::<Capability>().unwrap().to_string(),
            granted: case.code == 0,
            reason: case.reason.into(),
            policies: case.by.iter().map(|policy| (*policy).to_owned()).collect(),
            refused_to: None,
            time: String::new(),
            narrowing: (!case.narrowing.is_empty()).then(Vec::new),
        };
        self.expected.push((execution.to_string(), decision));
    }

    /// Reads the log, which must hold exactly what was decided.
    fn close(self) {
        self.recorder.close();
        assert_eq!(audit::check(self.folder.path(), &Evidence::default()).unwrap().faults, []);
        let records: Vec<Record> =
            audit::read(self.folder.path()).unwrap().map(|record| record.unwrap()).collect();
        let mut found = BTreeMap::new();
        for record in &records {
            let record = record.activity().unwrap();
            assert_eq!(record.agent.id, "a.b");
            let capability = record.security.decision.as_ref().unwrap().capability.clone();
            // A component's sandbox asks for what is listed as well; nothing is recorded twice.
            let twice = found.insert((record.execution.instance_id.clone(), capability), record);
            assert!(twice.is_none(), "{twice:?}");
        }
        for (execution, expected) in &self.expected {
            let key = (execution.clone(), expected.capability.clone());
            let record = found.get(&key).unwrap_or_else(|| panic!("{expected:?} was not recorded"));
            let security = &record.security;
            let counted = (security.capability_grants == 1, security.capability_denials == 1);
            assert_eq!(counted, (expected.granted, !expected.granted), "{expected:?}");
            let decision = security.decision.clone().unwrap();
            assert_eq!(DecisionPart { time: String::new(), ..decision }, *expected);
        }
    }
}

#[tokio::test]
async fn every_kind_is_granted_where_it_is_listed_and_permitted_and_denied_and_recorded_elsewhere() {
    for kind in CapabilityKind::ALL {
        let rows = ROWS.iter().filter(|row| row.listed.parse::<Capability>().unwrap().kind() == kind);
        assert!(rows.count() > 0, "the kind `{}` has no row in this table", kind.as_str());
    }
    let mut house = House::open().await;
    let nothing_left = [Narrowing { capabilities: Some(Vec::new()), ..Narrowing::default() }];
    for Row { listed, policy, within, near, wasi } in ROWS {
        let policy = format!("@id(\"row\") permit (principal, {policy};");
        let given = Case {
            listed: &[listed],
            policies: &policy,
            narrowing: &[],
            asked: listed,
            code: 0,
            reason: "permitted",
            by: &["row"],
        };
        let denied = |code, reason| Case { code, reason, by: &[], ..given };
        let unlisted = Case { listed: &[], policies: EVERYTHING, ..denied(-1, "not_in_manifest") };
        house.check(&unlisted).await;
        for case in [
            given,
            Case { policies: "// none\n", ..denied(-2, "not_permitted") },
            Case { policies: FORBIDDEN, by: &["never"], ..denied(-2, "forbidden") },
            Case { narrowing: &nothing_left, ..denied(-2, "narrowed") },
        ] {
            house.check(&case).await;
            house.check_wasi(wasi, &case).await;
        }
        for asked in *within {
            house.check(&Case { asked, ..given }).await;
        }
        assert!(!near.is_empty(), "`{listed}` has no near misses");
        for asked in *near {
            house.check(&Case { policies: EVERYTHING, asked, ..denied(-1, "not_in_manifest") }).await;
            house.check(&Case { listed: &[listed, asked], asked, ..denied(-2, "not_permitted") }).await;
        }
    }
    house.close();
}
