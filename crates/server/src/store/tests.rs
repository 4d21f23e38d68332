//! The store against a model, and against what a killed process leaves behind.

use proptest::prelude::*;

use super::*;

const REFUSE: Terms = Terms { on_conflict: OnConflict::Refuse, over_signed: OverSigned::Refuse };
const REPLACE: Terms = Terms { on_conflict: OnConflict::Replace, ..REFUSE };
const QUOTA: Quota = Quota { agents: 1_000, bytes: 1 << 30 };

fn agent(id: &str, version: &str, module: &[u8]) -> StoredAgent {
    StoredAgent {
        tenant: "t".into(),
        id: id.parse().unwrap(),
        version: version.parse().unwrap(),
        manifest: format!("id: {id}\n"),
        module: ModuleDigest::of(module),
        attestation: None,
        standing: LastStanding::default(),
        runtime: StoredRuntime::Wasm,
        image: None,
        in_place_of: None,
        loaded_at: UNIX_EPOCH + std::time::Duration::from_millis(1_234),
    }
}

fn tenant() -> Arc<str> {
    "t".into()
}

fn id(text: &str) -> AgentId {
    text.parse().unwrap()
}

fn version(text: &str) -> AgentVersion {
    text.parse().unwrap()
}

#[test]
fn what_was_put_is_there_after_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let store = AgentStore::open(directory.path(), QUOTA).unwrap();
    store.put(&agent("a", "1.0.0", b"one"), b"one", REPLACE).unwrap();
    store.put(&agent("a", "1.10.0", b"two"), b"two", REPLACE).unwrap();
    store.put(&agent("a", "1.9.0", b"two"), b"two", REPLACE).unwrap();
    drop(store);
    let store = AgentStore::open(directory.path(), QUOTA).unwrap();
    assert_eq!(store.active(&tenant(), &id("a")), Some(version("1.9.0")));
    assert_eq!(store.get(&tenant(), &id("a"), None).unwrap(), Some(agent("a", "1.9.0", b"two")));
    let listed = store.list(&tenant(), None, 10).unwrap();
    let versions: Vec<String> = listed.iter().map(|agent| agent.version.to_string()).collect();
    assert_eq!(versions, ["1.0.0", "1.9.0", "1.10.0"]);
    assert_eq!(store.module(&ModuleDigest::of(b"one")).unwrap(), "one");
}

/// An image that was taken in place of a module.
fn image(in_place_of: Option<&[u8]>) -> StoredAgent {
    let in_place_of = in_place_of.map(ModuleDigest::of);
    StoredAgent { runtime: StoredRuntime::Container, in_place_of, ..agent("a", "1.0.0", b"image") }
}

#[test]
fn the_module_in_whose_place_an_image_was_taken_is_there_after_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let store = AgentStore::open(directory.path(), QUOTA).unwrap();
    let stored = |store: &AgentStore| store.get(&tenant(), &id("a"), None).unwrap().unwrap();
    // As it was stored before the module's digest was.
    store.put(&image(None), b"", REFUSE).unwrap();
    drop(store);
    let store = AgentStore::open(directory.path(), QUOTA).unwrap();
    assert_eq!(stored(&store).in_place_of, None);
    store.put(&image(Some(b"one")), b"", REFUSE).expect("loaded again, it is the same");
    drop(store);
    let store = AgentStore::open(directory.path(), QUOTA).unwrap();
    assert_eq!(stored(&store), image(Some(b"one")));
    assert!(store.modules().is_empty(), "the module itself is not stored");
    let other = store.put(&image(Some(b"two")), b"", REFUSE);
    assert!(matches!(other, Err(Error::InvalidRequest { .. })), "one version is one module's: {other:?}");
    store.put(&image(Some(b"two")), b"", REPLACE).unwrap();
    assert_eq!(stored(&store).in_place_of, Some(ModuleDigest::of(b"two")));
}

#[test]
fn records_of_before_there_were_images_are_read() {
    let module = ModuleDigest::of(b"m");
    let old = format!(r#"{{"manifest":"id: a","module":"{module}","loaded_at_ms":1}}"#);
    let record: Record = serde_json::from_str(&old).unwrap();
    assert_eq!((record.runtime, record.image, record.in_place_of), (StoredRuntime::Wasm, None, None));
}

#[test]
fn when_the_active_version_goes_the_newest_of_the_rest_takes_over() {
    let directory = tempfile::tempdir().unwrap();
    let store = AgentStore::open(directory.path(), QUOTA).unwrap();
    for text in ["1.0.0", "1.10.0", "1.9.0"] {
        store.put(&agent("a", text, b"m"), b"m", REPLACE).unwrap();
    }
    store.remove(&tenant(), &id("a"), Some(&version("1.9.0"))).unwrap();
    assert_eq!(store.active(&tenant(), &id("a")), Some(version("1.10.0")));
    assert!(store.activate(&tenant(), &id("a"), &version("1.9.0"), OverSigned::Refuse).unwrap().is_none());
    store.activate(&tenant(), &id("a"), &version("1.0.0"), OverSigned::Refuse).unwrap().unwrap();
    assert_eq!(store.active(&tenant(), &id("a")), Some(version("1.0.0")));
    assert_eq!(store.remove(&tenant(), &id("a"), None).unwrap().len(), 2);
    assert_eq!(store.active(&tenant(), &id("a")), None);
    assert!(store.module(&ModuleDigest::of(b"m")).is_err(), "the module's file is gone with its last agent");
}

#[test]
fn a_version_is_stored_with_one_content_unless_it_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let store = AgentStore::open(directory.path(), QUOTA).unwrap();
    store.put(&agent("a", "1.0.0", b"one"), b"one", REFUSE).unwrap();
    store.put(&agent("a", "1.0.0", b"one"), b"one", REFUSE).unwrap();
    let refused = store.put(&agent("a", "1.0.0", b"two"), b"two", REFUSE);
    assert!(matches!(refused, Err(Error::InvalidRequest { .. })));
    assert!(store.module(&ModuleDigest::of(b"two")).is_err(), "nothing of it is kept");
    store.put(&agent("a", "1.0.0", b"two"), b"two", REPLACE).unwrap();
    assert!(store.module(&ModuleDigest::of(b"one")).is_err(), "the replaced module is gone");
}

#[test]
fn tenants_do_not_see_each_other() {
    let directory = tempfile::tempdir().unwrap();
    let store = AgentStore::open(directory.path(), QUOTA).unwrap();
    store.put(&agent("a", "1.0.0", b"m"), b"m", REPLACE).unwrap();
    let other: Arc<str> = "other".into();
    assert!(store.get(&other, &id("a"), None).unwrap().is_none());
    assert!(store.list(&other, None, 10).unwrap().is_empty());
    assert!(store.remove(&other, &id("a"), None).unwrap().is_empty());
}

#[test]
fn what_a_killed_process_left_is_swept_and_a_changed_module_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let store = AgentStore::open(directory.path(), QUOTA).unwrap();
    store.put(&agent("a", "1.0.0", b"m"), b"m", REPLACE).unwrap();
    drop(store);
    let modules = directory.path().join("modules");
    fs::write(modules.join(".tmpAbC"), b"half").unwrap();
    fs::write(modules.join(format!("sha256-{}.wasm", ModuleDigest::of(b"orphan").hex())), b"orphan").unwrap();
    let store = AgentStore::open(directory.path(), QUOTA).unwrap();
    assert_eq!(fs::read_dir(&modules).unwrap().count(), 1);
    fs::write(store.module_path(&ModuleDigest::of(b"m")), b"changed").unwrap();
    assert!(store.module(&ModuleDigest::of(b"m")).is_err());
}

#[test]
fn two_servers_cannot_share_a_directory() {
    let directory = tempfile::tempdir().unwrap();
    let _store = AgentStore::open(directory.path(), QUOTA).unwrap();
    let error = AgentStore::open(directory.path(), QUOTA).unwrap_err();
    assert!(matches!(error, Error::InvalidRequest { .. }), "{error:?}");
}

#[derive(Clone, Debug)]
enum Step {
    Put(u8, u8, u8),
    Remove(u8, Option<u8>),
    Activate(u8, u8),
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0u8..3, 0u8..4, 0u8..3).prop_map(|(id, version, module)| Step::Put(id, version, module)),
        2 => (0u8..3, proptest::option::of(0u8..4)).prop_map(|(id, version)| Step::Remove(id, version)),
        1 => (0u8..3, 0u8..4).prop_map(|(id, version)| Step::Activate(id, version)),
        1 => Just(Step::Reopen),
    ];
    proptest::collection::vec(step, 1..24)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn the_store_does_what_a_map_would(steps in steps()) {
        let directory = tempfile::tempdir().unwrap();
        let mut store = AgentStore::open(directory.path(), QUOTA).unwrap();
        let mut model: BTreeMap<(u8, u8), u8> = BTreeMap::new();
        let mut active: BTreeMap<u8, u8> = BTreeMap::new();
        let name = |number: u8| id(&format!("a{number}"));
        let version_of = |number: u8| version(&format!("{number}.0.0"));
        for step in steps {
            match step {
                Step::Put(id, version, module) => {
                    store.put(&agent(&format!("a{id}"), &format!("{version}.0.0"), &[module]), &[module], REPLACE).unwrap();
                    model.insert((id, version), module);
                    active.insert(id, version);
                }
                Step::Remove(id, version) => {
                    store.remove(&tenant(), &name(id), version.map(version_of).as_ref()).unwrap();
                    model.retain(|(known, at), _| *known != id || version.is_some_and(|version| version != *at));
                    let newest = model.keys().filter(|(known, _)| *known == id).map(|(_, at)| *at).max();
                    if active.get(&id).is_some_and(|at| !model.contains_key(&(id, *at))) {
                        match newest {
                            Some(newest) => active.insert(id, newest),
                            None => active.remove(&id),
                        };
                    }
                }
                Step::Activate(id, version) => {
                    let found = store.activate(&tenant(), &name(id), &version_of(version), OverSigned::Refuse).unwrap();
                    prop_assert_eq!(found.is_some(), model.contains_key(&(id, version)));
                    if found.is_some() {
                        active.insert(id, version);
                    }
                }
                Step::Reopen => {
                    drop(store);
                    store = AgentStore::open(directory.path(), QUOTA).unwrap();
                }
            }
            let listed = store.list(&tenant(), None, 100).unwrap();
            prop_assert_eq!(listed.len(), model.len());
            for ((id, version), module) in &model {
                let found = store.get(&tenant(), &name(*id), Some(&version_of(*version))).unwrap().unwrap();
                prop_assert_eq!(&store.module(&found.module).unwrap()[..], &[*module][..]);
            }
            for id in 0..3 {
                prop_assert_eq!(store.active(&tenant(), &name(id)), active.get(&id).map(|at| version_of(*at)));
            }
        }
    }
}

#[test]
fn a_tenant_stores_no_more_than_its_quota() {
    let directory = tempfile::tempdir().unwrap();
    let store = AgentStore::open(directory.path(), Quota { agents: 2, bytes: 10 }).unwrap();
    let put = |id: &str, module: &[u8]| store.put(&agent(id, "1.0.0", module), module, REPLACE);
    put("a", b"123456").unwrap();
    let refused = put("b", b"654321").unwrap_err();
    assert!(refused.to_string().contains("more than 10 bytes of modules"), "{refused}");
    // A module that is there already takes no more room.
    put("b", b"123456").unwrap();
    let refused = put("c", b"1").unwrap_err();
    assert!(refused.to_string().contains("more than 2 versions of agents"), "{refused}");
    // What replaces an agent is no further one, and others have a quota of their own.
    put("b", b"1").unwrap();
    let other = StoredAgent { tenant: "other".into(), ..agent("c", "1.0.0", b"1234567890") };
    store.put(&other, b"1234567890", REFUSE).unwrap();
}

#[test]
fn what_is_not_signed_does_not_take_the_place_of_what_is_and_signatures_are_kept() {
    let block = "{version: '1.0', timestamp: x, signer: {subject: a, issuer: b}, algorithm: c, signature: d}";
    let attestation = Some(Arc::new(Attestation::parse(block).unwrap()));
    let directory = tempfile::tempdir().unwrap();
    let store = AgentStore::open(directory.path(), QUOTA).unwrap();
    let signed =
        |version: &str| StoredAgent { attestation: attestation.clone(), ..agent("a", version, b"m") };
    store.put(&agent("a", "0.9.0", b"m"), b"m", REFUSE).unwrap();
    store.put(&signed("1.0.0"), b"m", REFUSE).unwrap();
    drop(store);
    let store = AgentStore::open(directory.path(), QUOTA).unwrap();
    assert_eq!(store.get(&tenant(), &id("a"), None).unwrap(), Some(signed("1.0.0")));
    for version in ["0.9.0", "1.0.0", "1.1.0"] {
        let refused = store.put(&agent("a", version, b"m"), b"m", REPLACE).unwrap_err();
        assert_eq!(refused.details()[1].1, "unsigned_over_signed", "{refused}");
        assert!(refused.to_string().contains("version 1.0.0 of it is"), "{refused}");
    }
    store.put(&agent("b", "1.0.0", b"m"), b"m", REFUSE).unwrap();
    store.put(&StoredAgent { tenant: "u".into(), ..agent("a", "1.0.0", b"m") }, b"m", REFUSE).unwrap();
    let allowed = Terms { over_signed: OverSigned::Allow, ..REPLACE };
    store.put(&agent("a", "1.0.0", b"m"), b"m", allowed).unwrap();
    assert_eq!(store.get(&tenant(), &id("a"), None).unwrap().unwrap().attestation, None);
}

#[test]
fn what_was_stored_before_signatures_were_kept_apart_has_those_of_its_manifest() {
    let own = "id: a\nversion: 1.0.0\nruntime: wasm\nattestation: {version: '1.0', timestamp: x, signer: {subject: a, \
               issuer: b}, algorithm: c, signature: d}\n";
    assert_eq!(own_attestation(own).unwrap().algorithm, "c");
    assert_eq!(own_attestation("id: a\nversion: 1.0.0\nruntime: wasm\ndescription: attestation\n"), None);
}
