//! `instances: reuse`: an instance serves one execution after another, of one agent for one tenant, as long as each runs to
//! its end.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mentat_manifest::{Fuel, LimitsRequest, Manifest, Metering, RuntimeKind};
use mentat_runtime::error::{Error, Reason};
use mentat_runtime::model::{Caller, ExecutionId, Invocation, Outcome};
use mentat_runtime::security::authority::{Applicant, Authority, LastCase, Narrowing};
use mentat_runtime::security::cedar::{Policies, PolicySource};
use mentat_runtime::security::offers::Offers;
use mentat_runtime::security::policy::{OnViolation, Rules};
use mentat_runtime::security::principal::Trust;
use mentat_runtime::{
    CompileConfig, Compiler, EngineConfig, Module, PoolConfig, Runtime, RuntimeConfig, Tiers, WarmConfig,
};

/// A runtime with few places, and an agent that is asked for by several tenants.
struct Service {
    runtime: Arc<Runtime>,
    module: Arc<Module>,
    manifest: Manifest,
    authority: Authority,
}

/// One execution, and what is special about it.
#[derive(Clone, Default)]
struct Call {
    tenant: &'static str,
    input: &'static str,
    narrowing: Option<LimitsRequest>,
}

/// Counts its executions in memory. The first byte of its input tells it to end otherwise.
const COUNTER: &str = r#"(module
    (import "mentat" "read_input" (func $read (param i32 i32) (result i32)))
    (import "mentat" "write_output" (func $write (param i32 i32) (result i32)))
    (import "mentat" "request_capability" (func $request (param i32 i32) (result i32)))
    (import "mentat" "release_capability" (func $release (param i32) (result i32)))
    (import "mentat" "result_read" (func $result (param i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (global $count (mut i32) (i32.const 0))
    (data (i32.const 100) "env:A")
    (func (export "process") (result i32)
      (local $first i32)
      (i32.store8 (i32.const 0) (i32.const 0))
      (drop (call $read (i32.const 0) (i32.const 8)))
      (local.set $first (i32.load8_u (i32.const 0)))
      (if (i32.eq (local.get $first) (i32.const 116)) (then unreachable))
      (if (i32.eq (local.get $first) (i32.const 108)) (then (loop (br 0))))
      (if (i32.eq (local.get $first) (i32.const 103)) (then (drop (memory.grow (i32.const 100)))))
      (if (i32.eq (local.get $first) (i32.const 119)) (then (drop (call $write (i32.const 100) (i32.const 3)))))
      (if (i32.eq (local.get $first) (i32.const 114)) (then (drop (call $request (i32.const 100) (i32.const 5)))))
      (if (i32.eq (local.get $first) (i32.const 98)) (then (return (call $release (i32.const 1)))))
      (if (i32.eq (local.get $first) (i32.const 101))
        (then (return (call $result (i32.const 0) (i32.const 200) (i32.const 8)))))
      (global.set $count (i32.add (global.get $count) (i32.const 1)))
      (global.get $count)))"#;

impl Service {
    async fn new(text: &str, manifest: &str, warm: WarmConfig) -> Self {
        Self::with_places(text, manifest, warm, 4, 0).await
    }

    async fn with_places(
        text: &str,
        manifest: &str,
        warm: WarmConfig,
        max_executions: u32,
        queue_length: u32,
    ) -> Self {
        let config = RuntimeConfig {
            engine: EngineConfig { max_executions, ..EngineConfig::default() },
            pool: PoolConfig { queue_length, queue_timeout_ms: 2000 },
            compile: CompileConfig { tiers: Tiers::Optimized, ..CompileConfig::default() },
            warm,
            ..RuntimeConfig::default()
        };
        let runtime = Arc::new(Runtime::new(config, Compiler::InProcess).unwrap());
        let module = Bytes::from(wat::parse_str(text).unwrap());
        let module = runtime.load(module, Metering::Fuel).await.unwrap().module;
        let manifest = Manifest::parse(&format!(
            "id: a.b\nversion: 1.0.0\nruntime: wasm\nmodule: a.wasm\n\
             wasm: {{ capabilities: [\"env:A\"], fuel: 10000000, {manifest} }}\n"
        ))
        .unwrap();
        let all = PolicySource { name: "all".into(), text: "permit (principal, action, resource);".into() };
        let policies = Policies::parse(&[all]).unwrap();
        let mut offers = Offers::default();
        offers.env.insert("A".into(), "value".into());
        let authority = Authority::new(Rules::default(), OnViolation::Deny, offers, policies, None);
        Self { runtime, module, manifest, authority }
    }

    async fn counter(warm: WarmConfig) -> Self {
        Self::new(COUNTER, "instances: reuse", warm).await
    }

    async fn call(&self, call: Call) -> Outcome {
        let caller = Caller { tenant: call.tenant.into(), name: "test".into() };
        let narrowing: Vec<Narrowing> =
            call.narrowing.into_iter().map(|limits| Narrowing { limits, capabilities: None }).collect();
        let applicant = Applicant {
            manifest: &self.manifest,
            module: self.module.digest(),
            runtime: RuntimeKind::Wasm,
            in_place_of: None,
            trust: Trust::Untrusted,
            signer: None,
            caller: &caller,
            execution: ExecutionId::new(),
            narrowing: &narrowing,
            last: &LastCase::default(),
        };
        let grant = self.authority.decide(&applicant).unwrap();
        self.runtime.execute(&self.module, &grant, Invocation::new(call.input)).await
    }

    async fn count(&self, tenant: &'static str) -> i32 {
        self.ends(tenant, "").await.unwrap()
    }

    async fn ends(&self, tenant: &'static str, input: &'static str) -> Result<i32, Error> {
        self.call(Call { tenant, input, ..Call::default() }).await.result.map(|answer| answer.exit_code)
    }
}

#[tokio::test]
async fn state_stays_with_the_agent_and_the_tenant() {
    let service = Service::counter(WarmConfig::default()).await;
    assert_eq!([service.count("a").await, service.count("a").await, service.count("a").await], [1, 2, 3]);
    assert_eq!([service.count("b").await, service.count("a").await], [1, 4]);
    assert_eq!((service.runtime.warm_instances(), service.runtime.pool().active()), (2, 2));
    let fresh = Service::new(COUNTER, "instances: fresh", WarmConfig::default()).await;
    assert_eq!([fresh.count("a").await, fresh.count("a").await], [1, 1]);
    assert_eq!(fresh.runtime.pool().active(), 0);
    let off = Service::counter(WarmConfig { max_instances: 0, ..WarmConfig::default() }).await;
    assert_eq!([off.count("a").await, off.count("a").await], [1, 1]);
}

#[tokio::test]
async fn an_instance_that_did_not_run_to_its_end_never_comes_back() {
    let service = Service::counter(WarmConfig::default()).await;
    for (input, reason) in [("t", Reason::Trap), ("l", Reason::FuelExhausted)] {
        assert_eq!([service.count("a").await, service.count("a").await], [1, 2]);
        assert_eq!(service.ends("a", input).await.unwrap_err().reason(), reason);
        assert_eq!(service.runtime.warm_instances(), 0);
    }
    // Neither does one whose caller went away.
    let endless = LimitsRequest { fuel: Some(Fuel(10_000_000)), ..LimitsRequest::default() };
    assert_eq!(service.count("a").await, 1);
    let call = service.call(Call { tenant: "a", input: "l", narrowing: Some(endless) });
    assert!(tokio::time::timeout(Duration::ZERO, call).await.is_err());
    assert_eq!((service.count("a").await, service.runtime.pool().active()), (1, 1));
}

#[tokio::test]
async fn nothing_of_the_host_is_left_from_an_earlier_execution() {
    let service = Service::counter(WarmConfig::default()).await;
    let wrote = service.call(Call { tenant: "a", input: "w", ..Call::default() }).await.result.unwrap();
    assert_eq!(wrote.output, Bytes::from_static(b"env"));
    let silent = service.call(Call { tenant: "a", ..Call::default() }).await;
    assert_eq!(silent.result.unwrap().output, Bytes::new());
    assert_eq!(silent.host_calls.iter().map(|(_, count)| count).sum::<u64>(), 1, "its own call alone");
    // It asks for a grant, whose handle is 1; the next one cannot give that back.
    assert_eq!(service.ends("a", "r").await.unwrap(), 3);
    assert_eq!(service.ends("a", "b").await.unwrap(), -9, "a bad handle");
    assert_eq!(service.ends("a", "e").await.unwrap(), -61, "no result");
    assert_eq!(service.count("a").await, 4, "it was one instance all the time");
}

#[tokio::test]
async fn each_execution_has_its_own_budget() {
    let service = Service::counter(WarmConfig::default()).await;
    let first = service.call(Call { tenant: "a", input: "g", ..Call::default() }).await;
    assert_eq!(first.usage.peak_memory.0, 101 << 16);
    let second = service.call(Call { tenant: "a", ..Call::default() }).await;
    assert_eq!(second.usage.peak_memory.0, 101 << 16, "its memory is still there");
    assert!(second.usage.fuel.unwrap() < Fuel(1000), "what others used is theirs");
    // Who may have less than the instance has begins afresh.
    let memory_bytes = Some(mentat_manifest::ByteCount(1 << 20));
    let narrowing = Some(LimitsRequest { memory_bytes, ..LimitsRequest::default() });
    let narrow = service.call(Call { tenant: "a", input: "", narrowing }).await;
    assert_eq!((narrow.result.unwrap().exit_code, narrow.usage.peak_memory.0), (1, 1 << 16));
}

#[tokio::test]
async fn an_instance_is_used_so_often_and_waits_so_long() {
    let service = Service::counter(WarmConfig { max_uses: 2, ..WarmConfig::default() }).await;
    assert_eq!([service.count("a").await, service.count("a").await, service.count("a").await], [1, 2, 1]);
    let service = Service::counter(WarmConfig { idle_ms: 20, ..WarmConfig::default() }).await;
    assert_eq!(service.count("a").await, 1);
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert_eq!(service.count("a").await, 1);
    // Nobody asks any more, and its place is free all the same.
    for _ in 0..500 {
        if service.runtime.pool().active() == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!((service.runtime.pool().active(), service.runtime.memory().0.0), (0, 0));
}

#[tokio::test]
async fn instances_that_wait_give_way_to_executions() {
    let service = Service::counter(WarmConfig::default()).await;
    for tenant in ["a", "b", "c", "d"] {
        assert_eq!(service.count(tenant).await, 1);
    }
    assert_eq!(service.runtime.pool().active(), 4, "all places are taken by those that wait");
    assert_eq!(service.count("e").await, 1);
    assert_eq!(
        [service.count("d").await, service.count("a").await],
        [2, 1],
        "the one that waited longest went"
    );
}

#[tokio::test]
async fn an_agent_that_is_loaded_again_begins_afresh() {
    let mut service = Service::counter(WarmConfig::default()).await;
    assert_eq!([service.count("a").await, service.count("a").await], [1, 2]);
    service.manifest = Manifest::parse(
        "id: a.b\nversion: 1.0.0\nruntime: wasm\nmodule: a.wasm\nwasm: { instances: reuse }\n",
    )
    .unwrap();
    assert_eq!([service.count("a").await, service.count("a").await], [1, 2]);
}

#[tokio::test]
async fn who_waits_for_a_place_goes_before_an_instance_that_waits_for_an_execution() {
    let text = WAITS.replace("INITIALIZE", "");
    let service = Service::with_places(&text, "instances: reuse", WarmConfig::default(), 1, 10).await;
    // The second waits for the only place while the first still runs, whose instance is kept when it ends.
    let (one, other) = tokio::join!(service.ends("a", "wait"), service.ends("b", "wait"));
    assert_eq!((one.unwrap(), other.unwrap()), (1, 1));
}

/// Waits in its execution while its input says so.
const WAITS: &str = r#"(module
    (import "mentat" "read_input" (func $read (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 40) "\00\00\00\00\01\00\00\00\00\00\00\00\00\e1\f5\05")
    (global $count (mut i32) (i32.const 0))
    INITIALIZE
    (func (export "process") (result i32)
      (if (call $read (i32.const 0) (i32.const 0))
        (then
          (i32.store8 (i32.const 72) (i32.const 0))
          (i32.store (i32.const 80) (i32.const 1))
          (i64.store (i32.const 88) (i64.const 100000000))
          (drop (call $poll (i32.const 64) (i32.const 200) (i32.const 1) (i32.const 300)))))
      (global.set $count (i32.add (global.get $count) (i32.const 1)))
      (global.get $count)))"#;

async fn made_ahead(initialize: &str) -> usize {
    let text = WAITS.replace("INITIALIZE", initialize);
    let service =
        Service::new(&text, "instances: reuse", WarmConfig { max_uses: 1, ..WarmConfig::default() }).await;
    let wait = || service.ends("a", "wait");
    for _ in 0..4 {
        let (one, other) = tokio::join!(wait(), wait());
        assert_eq!((one.unwrap(), other.unwrap()), (1, 1));
    }
    // All are used up; the agent is known to be busy with two at a time.
    for _ in 0..100 {
        if service.runtime.warm_instances() > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    service.runtime.warm_instances()
}

#[tokio::test]
async fn instances_of_an_agent_that_is_busy_are_made_ahead_unless_they_ask_the_host_for_something() {
    assert!(made_ahead(r#"(func (export "_initialize") (global.set $count (i32.const 0)))"#).await > 0);
    let asks = r#"(func (export "_initialize") (drop (call $read (i32.const 0) (i32.const 0))))"#;
    assert_eq!(made_ahead(asks).await, 0);
}

#[tokio::test]
async fn a_component_keeps_its_state_and_a_command_begins_afresh() {
    let component = r#"(component
      (core module $code
        (memory (export "memory") 1)
        (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
        (func (export "process") (param i32 i32) (result i32)
          (i32.store8 (i32.const 8) (i32.add (i32.load8_u (i32.const 8)) (i32.const 1)))
          (i32.store (i32.const 16) (i32.const 0))
          (i32.store (i32.const 20) (i32.const 8))
          (i32.store (i32.const 24) (i32.const 1))
          i32.const 16))
      (core instance $agent (instantiate $code))
      (func (export "process") (param "input" (list u8)) (result (result (list u8) (error string)))
        (canon lift (core func $agent "process")
          (memory (core memory $agent "memory")) (realloc (core func $agent "realloc")))))"#;
    let service = Service::new(component, "instances: reuse", WarmConfig::default()).await;
    for expected in [b"\x01", b"\x02", b"\x03"] {
        let outcome = service.call(Call { tenant: "a", ..Call::default() }).await;
        assert_eq!(outcome.result.unwrap().output, Bytes::from_static(expected));
    }
    let command = r#"(module (memory (export "memory") 1) (func (export "_start")))"#;
    let service = Service::new(command, "instances: reuse", WarmConfig::default()).await;
    assert_eq!(service.ends("a", "").await.unwrap(), 0);
    assert_eq!(service.runtime.warm_instances(), 0);
}
