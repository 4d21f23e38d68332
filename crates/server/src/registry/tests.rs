//! What becomes of agents in memory and of their code on disk, as others are loaded, replaced and unloaded.

use bytes::Bytes;
use mentat_attestation::Verifier;
use mentat_runtime::security::attestation::{AttestationRules, Attestations};
use mentat_runtime::{CompileConfig, Compiler, EngineConfig, PoolConfig, RuntimeConfig, Tiers};
use tokio_util::task::TaskTracker;

use super::*;
use crate::config::ContainerSection;
use crate::container::{PlainFiles, ServerId};
use crate::store::Quota;

const MANIFEST: &str = "id: a.b\nversion: 1.0.0\nruntime: wasm\nmodule: agent.wasm\n";

fn registry(directory: &std::path::Path) -> Arc<Registry> {
    registry_with(directory, MemoryRoom { agents: 2, code: ByteCount(1 << 30) })
}

fn registry_with(directory: &std::path::Path, room: MemoryRoom) -> Arc<Registry> {
    let quota = Quota { agents: 10, bytes: 1 << 20 };
    let store = Arc::new(AgentStore::open(directory, quota).unwrap());
    let engine = EngineConfig { max_executions: 10, ..EngineConfig::default() };
    let compile = CompileConfig { tiers: Tiers::Optimized, ..CompileConfig::default() };
    let config = RuntimeConfig {
        engine,
        compile,
        artifacts: Some(directory.join("artifacts")),
        ..RuntimeConfig::default()
    };
    let runtime = Runtime::new(config, Compiler::InProcess).unwrap();
    let attestations = Attestations::new(AttestationRules::default(), Verifier::default());
    let signatures = Signatures::new(Arc::new(attestations), Arc::default(), None);
    let server = ServerId::of(directory).unwrap();
    let runtime = Arc::new(runtime);
    let (section, queue, tasks) = (ContainerSection::default(), PoolConfig::default(), TaskTracker::new());
    let files = PlainFiles::default();
    let containers = Containers::new(section, queue, server, tasks, Arc::clone(&runtime), files);
    let (containers, rollout) = (Arc::new(containers), Arc::default());
    Arc::new(Registry::new(store, runtime, containers, rollout, Rules::default(), Arc::new(signatures), room))
}

/// An agent that exits with a code.
fn module(code: u8) -> Bytes {
    let text = format!(
        r#"(module (memory (export "memory") 1) (func (export "process") (result i32) (i32.const {code})))"#
    );
    wat::parse_str(text).unwrap().into()
}

async fn load(registry: &Arc<Registry>, module: Bytes) -> Arc<LoadedAgent> {
    registry.load(&Caller::local(), MANIFEST.into(), module, None, OnConflict::Replace).await.unwrap()
}

fn artifacts(directory: &std::path::Path) -> usize {
    let entries = std::fs::read_dir(directory.join("artifacts")).unwrap();
    entries
        .filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|ext| ext == "cwasm"))
        .count()
}

#[tokio::test]
async fn an_agent_that_was_replaced_while_it_was_made_ready_does_not_come_back() {
    let directory = tempfile::tempdir().unwrap();
    let registry = registry(directory.path());
    let old = load(&registry, module(1)).await;
    let new = load(&registry, module(2)).await;
    // As if the old one had been read from the store before, and was linked only now.
    assert!(!registry.keep(&old).unwrap());
    let (caller, id) = (Caller::local(), new.stored.id.clone());
    let found = registry.get(&caller, &id, None).await.unwrap();
    assert_eq!(found.stored.module, new.stored.module);
    registry.unload(&caller, &id, None).await.unwrap();
    assert!(!registry.keep(&new).unwrap());
    assert!(registry.get(&caller, &id, None).await.is_err());
}

#[tokio::test]
async fn compiled_code_goes_with_the_last_agent_that_has_the_module() {
    let directory = tempfile::tempdir().unwrap();
    let registry = registry(directory.path());
    let first = load(&registry, module(1)).await;
    assert_eq!(artifacts(directory.path()), 1);
    load(&registry, module(2)).await;
    assert_eq!(artifacts(directory.path()), 1);
    registry.unload(&Caller::local(), &first.stored.id, None).await.unwrap();
    assert_eq!(artifacts(directory.path()), 0);
}

#[tokio::test]
async fn the_least_recently_used_agent_leaves_memory_unless_it_executes() {
    let directory = tempfile::tempdir().unwrap();
    let registry = registry(directory.path());
    let caller = Caller::local();
    let load = async |id: &str| {
        let manifest = MANIFEST.replace("a.b", id);
        registry.load(&caller, manifest, module(1), None, OnConflict::Refuse).await.unwrap()
    };
    let executing = load("a").await;
    drop(load("b").await);
    drop(load("c").await);
    let held = |registry: &Registry| {
        let mut ids: Vec<String> = registry.loaded.read().keys().map(|key| key.1.to_string()).collect();
        ids.sort();
        ids
    };
    assert_eq!(held(&registry), ["a", "c"]);
    drop(executing);
    registry.get(&caller, &"c".parse().unwrap(), None).await.unwrap();
    registry.get(&caller, &"b".parse().unwrap(), None).await.unwrap();
    assert_eq!(held(&registry), ["b", "c"]);
}

#[tokio::test]
async fn code_has_so_many_bytes_and_a_module_of_several_agents_counts_once() {
    let directory = tempfile::tempdir().unwrap();
    let registry = registry_with(directory.path(), MemoryRoom { agents: 10, code: ByteCount(1 << 30) });
    let caller = Caller::local();
    let load = async |registry: &Arc<Registry>, id: &str, code: u8| {
        let manifest = MANIFEST.replace("a.b", id);
        registry.load(&caller, manifest, module(code), None, OnConflict::Refuse).await.unwrap()
    };
    let size = load(&registry, "a", 1).await.module().unwrap().mapped();
    drop(registry);
    let directory = tempfile::tempdir().unwrap();
    let room = MemoryRoom { agents: 10, code: ByteCount(size.0 * 3 / 2) };
    let registry = registry_with(directory.path(), room);
    for id in ["a", "b", "c"] {
        load(&registry, id, 1).await;
    }
    assert_eq!((registry.loaded.read().len(), registry.evictions()), (3, 0));
    load(&registry, "d", 2).await;
    assert_eq!((registry.loaded.read().len(), registry.evictions()), (1, 3));
}

#[tokio::test]
async fn many_who_ask_for_an_agent_at_once_get_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let registry = registry(directory.path());
    let loaded = load(&registry, module(1)).await;
    registry.loaded.write().clear();
    let (caller, id) = (Caller::local(), loaded.stored.id.clone());
    let found = futures::future::join_all((0..20).map(|_| registry.get(&caller, &id, None))).await;
    let found: Vec<_> = found.into_iter().map(Result::unwrap).collect();
    assert!(found.iter().all(|agent| Arc::ptr_eq(agent, &found[0])));
    assert!(registry.opening.lock().len() <= 1);
}

/// Asks twice: what is brought into memory by the first is among the recent ones by the second.
async fn ask(registry: &Arc<Registry>, caller: &Caller, id: &AgentId) -> Arc<LoadedAgent> {
    let first = registry.get(caller, id, None).await.unwrap();
    let second = registry.get(caller, id, None).await.unwrap();
    assert!(Arc::ptr_eq(&first, &second));
    let recent = registry.recent.get(&caller.tenant, id).expect("it was asked for just now");
    assert!(Arc::ptr_eq(&recent, &first));
    first
}

#[tokio::test]
async fn what_was_executed_before_follows_every_change() {
    let directory = tempfile::tempdir().unwrap();
    let registry = registry(directory.path());
    let (caller, id) = (Caller::local(), "a.b".parse().unwrap());
    load(&registry, module(1)).await;
    assert_eq!(ask(&registry, &caller, &id).await.stored.module, ModuleDigest::of(&module(1)));
    load(&registry, module(2)).await;
    assert_eq!(ask(&registry, &caller, &id).await.stored.module, ModuleDigest::of(&module(2)));
    let next = MANIFEST.replace("1.0.0", "2.0.0");
    registry.load(&caller, next, module(3), None, OnConflict::Refuse).await.unwrap();
    let version = async || ask(&registry, &caller, &id).await.stored.version.to_string();
    assert_eq!(version().await, "2.0.0");
    registry.activate(&caller, &id, &"1.0.0".parse().unwrap()).await.unwrap();
    assert_eq!(version().await, "1.0.0");
    registry.unload(&caller, &id, Some(&"1.0.0".parse().unwrap())).await.unwrap();
    assert_eq!(version().await, "2.0.0");
    registry.unload(&caller, &"not.there".parse().unwrap(), None).await.unwrap_err();
    assert!(registry.recent.get(&caller.tenant, &id).is_some(), "nothing has changed");
    registry.unload(&caller, &id, None).await.unwrap();
    assert!(registry.recent.get(&caller.tenant, &id).is_none());
    assert!(registry.get(&caller, &id, None).await.is_err());
}

#[tokio::test]
async fn each_tenant_finds_its_own_agent() {
    let directory = tempfile::tempdir().unwrap();
    let registry = registry(directory.path());
    let id = "a.b".parse().unwrap();
    let tenants = ["one", "other"].map(|name| Caller { tenant: name.into(), name: "c".into() });
    for (tenant, code) in tenants.iter().zip(1..) {
        registry.load(tenant, MANIFEST.into(), module(code), None, OnConflict::Refuse).await.unwrap();
    }
    for _ in 0..2 {
        for (tenant, code) in tenants.iter().zip(1..) {
            let found = ask(&registry, tenant, &id).await;
            assert_eq!(
                (&found.stored.tenant, found.stored.module),
                (&tenant.tenant, ModuleDigest::of(&module(code)))
            );
        }
    }
}

#[tokio::test]
async fn what_was_looked_up_before_a_change_is_not_kept() {
    let directory = tempfile::tempdir().unwrap();
    let registry = registry(directory.path());
    let agent = load(&registry, module(1)).await;
    let (held, since) = (Arc::strong_count(&agent), registry.recent.since());
    registry.recent.forget();
    registry.recent.put(&agent, since);
    assert!(registry.recent.get(&agent.stored.tenant, &agent.stored.id).is_none());
    assert_eq!(Arc::strong_count(&agent), held);
    registry.recent.put(&agent, registry.recent.since());
    assert_eq!(Arc::strong_count(&agent), held + 1);
}

#[tokio::test]
async fn an_agent_that_was_executed_and_is_idle_leaves_memory_all_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let registry = registry(directory.path());
    let caller = Caller::local();
    let mut agents = Vec::new();
    for id in ["a", "b", "c"] {
        let manifest = MANIFEST.replace("a.b", id);
        registry.load(&caller, manifest, module(1), None, OnConflict::Refuse).await.unwrap();
        agents.push(Arc::downgrade(&ask(&registry, &caller, &id.parse().unwrap()).await));
    }
    let in_memory: Vec<bool> = agents.iter().map(|agent| agent.upgrade().is_some()).collect();
    assert_eq!(in_memory, [false, true, true]);
}

#[tokio::test]
async fn an_unload_that_nobody_waits_for_is_finished() {
    let directory = tempfile::tempdir().unwrap();
    let registry = registry(directory.path());
    let (caller, id, version) = (Caller::local(), "a.b".parse().unwrap(), "1.0.0".parse().unwrap());
    load(&registry, module(1)).await;
    ask(&registry, &caller, &id).await;
    {
        let mut unload = std::pin::pin!(registry.unload(&caller, &id, None));
        assert!(futures::poll!(&mut unload).is_pending());
    }
    for _ in 0..1000 {
        if registry.loaded.read().is_empty() && registry.recent.get(&caller.tenant, &id).is_none() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert!(registry.get(&caller, &id, None).await.is_err());
    assert!(registry.get(&caller, &id, Some(&version)).await.is_err());
}
