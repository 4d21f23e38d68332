//! Agents on disk: their records in one embedded database (redb), their modules as files beside it. The
//! records are in memory as well, so that looking one up never waits for the disk.
//!
//! Invariant: what `put`, `remove` and `activate` acknowledged survives a kill at any moment; a module's
//! file is there, whole and durable, before the record that names it.

mod agent;

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use mentat_manifest::{AgentId, AgentVersion, Attestation, ByteCount, ModuleDigest};
use mentat_runtime::error::Error;
use mentat_runtime::security::attestation::Refusal;
use parking_lot::{Mutex, RwLock};
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};
use serde::{Deserialize, Serialize};

use self::agent::own_attestation;
pub use self::agent::{OnConflict, OverSigned, StoredAgent, StoredRuntime, Terms};
use crate::signatures::LastStanding;

/// By tenant, id and version: the agent's record as JSON.
const AGENTS: TableDefinition<'_, (&str, &str, &str), &[u8]> = TableDefinition::new("agents");
/// By tenant and id: the active version.
const ACTIVE: TableDefinition<'_, (&str, &str), &str> = TableDefinition::new("active");
/// Facts about the database itself.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// The form of the tables above.
const FORMAT: u64 = 1;

/// What one tenant may store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Versions of agents.
    pub agents: usize,
    /// Bytes of their modules; one that several versions share counts once.
    pub bytes: u64,
}

/// The agents of all tenants.
#[derive(Debug)]
pub struct AgentStore {
    modules: PathBuf,
    quota: Quota,
    database: Database,
    /// Held while the disk is changed, so that a module's file is never removed under a new record.
    writing: Mutex<()>,
    index: RwLock<Index>,
}

type Key = (Arc<str>, AgentId, AgentVersion);

#[derive(Debug, Default)]
struct Index {
    agents: BTreeMap<Key, StoredAgent>,
    active: BTreeMap<(Arc<str>, AgentId), AgentVersion>,
}

/// What the database keeps of an agent besides its key.
#[derive(Serialize, Deserialize)]
struct Record {
    manifest: String,
    module: ModuleDigest,
    /// Records of before there were containers have none.
    #[serde(default)]
    runtime: StoredRuntime,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    image: Option<ModuleDigest>,
    /// Records of before it was kept have none, whatever their images are executed in place of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    in_place_of: Option<ModuleDigest>,
    /// Milliseconds since 1970.
    loaded_at_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    attestation: Option<Arc<Attestation>>,
}

impl AgentStore {
    /// Opens the store in `directory`, making it when new, and sweeps away what a killed process left.
    ///
    /// # Errors
    /// `INVALID_REQUEST` when another server uses the directory, or a newer version wrote it; `INTERNAL`
    /// when it cannot be used.
    pub fn open(directory: &Path, quota: Quota) -> Result<Self, Error> {
        let modules = directory.join("modules");
        let failed = |error: io::Error| opening(directory, error);
        fs::create_dir_all(&modules).map_err(failed)?;
        let database = Database::create(directory.join("agents.redb")).map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => Error::InvalidRequest {
                message: format!(
                    "data directory `{}` is in use by another server; stop it, or choose another `server.data_dir`",
                    directory.display()
                ),
            },
            other => opening(directory, other),
        })?;
        let index = read_index(&database).map_err(|error| match error {
            ReadError::Format(found) => Error::InvalidRequest {
                message: format!(
                    "data directory `{}` has format {found}, this version reads {FORMAT}; use the version that wrote it",
                    directory.display()
                ),
            },
            ReadError::Failed(error) => Error::internal(format!("reading `{}`", directory.display()), error),
        })?;
        let store = Self { modules, quota, database, writing: Mutex::default(), index: RwLock::new(index) };
        store.sweep().map_err(failed)?;
        Ok(store)
    }

    /// Stores an agent and makes it the active version of its id.
    ///
    /// # Errors
    /// `INVALID_REQUEST` as [`AgentStore::check`]; `INTERNAL` when the disk refuses.
    pub fn put(&self, agent: &StoredAgent, module: &[u8], terms: Terms) -> Result<(), Error> {
        let _writing = self.writing.lock();
        self.check(agent, module.len() as u64, terms)?;
        if agent.runtime == StoredRuntime::Wasm {
            self.write_module(&agent.module, module).map_err(storing)?;
        }
        let replaced = self.index.read().agents.get(&key(agent)).and_then(StoredAgent::stored_module);
        self.commit(|agents, active| {
            let record = Record {
                manifest: agent.manifest.clone(),
                module: agent.module,
                runtime: agent.runtime,
                image: agent.image,
                in_place_of: agent.in_place_of,
                loaded_at_ms: milliseconds(agent.loaded_at),
                attestation: agent.attestation.clone(),
            };
            let record = serde_json::to_vec(&record)?;
            let version = agent.version.to_string();
            agents.insert((&*agent.tenant, agent.id.as_str(), version.as_str()), record.as_slice())?;
            active.insert((&*agent.tenant, agent.id.as_str()), version.as_str())?;
            Ok(())
        })?;
        let mut index = self.index.write();
        index.agents.insert(key(agent), agent.clone());
        index.active.insert((Arc::clone(&agent.tenant), agent.id.clone()), agent.version.clone());
        drop(index);
        if let Some(old) = replaced {
            self.remove_unused(&[old]);
        }
        Ok(())
    }

    /// Whether the agent, whose module has this many bytes, may be stored: a version means one content, unless it is
    /// said to be replaced, and a tenant has a quota.
    ///
    /// # Errors
    /// `INVALID_REQUEST` when the version is stored with other content, or the tenant's quota is used up;
    /// `ATTESTATION_REJECTED` when it is not signed and another version of it is.
    pub fn check(&self, agent: &StoredAgent, bytes: u64, terms: Terms) -> Result<(), Error> {
        let index = self.index.read();
        let known = index.agents.get(&key(agent));
        let ours = || index.agents.values().filter(|other| other.tenant == agent.tenant);
        check_signed(agent, terms.over_signed, ours())?;
        let used_up = |what: String| Error::InvalidRequest {
            message: format!(
                "with this one, the tenant would have more than {what}; unload agents, or have the operator raise `registry.*`"
            ),
        };
        if known.is_none() && ours().count() >= self.quota.agents {
            return Err(used_up(format!("{} versions of agents", self.quota.agents)));
        }
        let modules: HashSet<ModuleDigest> = ours().filter_map(StoredAgent::stored_module).collect();
        if !modules.contains(&agent.module) {
            let sizes = modules.iter().filter_map(|digest| fs::metadata(self.module_path(digest)).ok());
            if sizes.map(|file| file.len()).sum::<u64>().saturating_add(bytes) > self.quota.bytes {
                return Err(used_up(format!("{} of modules", ByteCount(self.quota.bytes))));
            }
        }
        match known {
            Some(known) if terms.on_conflict == OnConflict::Refuse && !known.is_same(agent) => {
                Err(Error::InvalidRequest {
                    message: format!(
                        "version {} of `{}` is loaded with other content; raise `version`, unload it first, or ask \
                         for it to be replaced (`replace`, `mentat load --replace`)",
                        agent.version, agent.id
                    ),
                })
            }
            _ => Ok(()),
        }
    }

    /// The agent: the version asked for, else the active one.
    ///
    /// # Errors
    /// Never at present; the records are in memory.
    pub fn get(
        &self,
        tenant: &Arc<str>,
        id: &AgentId,
        version: Option<&AgentVersion>,
    ) -> Result<Option<StoredAgent>, Error> {
        let index = self.index.read();
        let active = || index.active.get(&(Arc::clone(tenant), id.clone()));
        let Some(version) = version.or_else(active) else { return Ok(None) };
        Ok(index.agents.get(&(Arc::clone(tenant), id.clone(), version.clone())).cloned())
    }

    /// The active version of an agent.
    #[must_use]
    pub fn active(&self, tenant: &Arc<str>, id: &AgentId) -> Option<AgentVersion> {
        self.index.read().active.get(&(Arc::clone(tenant), id.clone())).cloned()
    }

    /// All agents of all tenants, by what they are found by.
    #[must_use]
    pub fn keys(&self) -> Vec<(Arc<str>, AgentId, AgentVersion)> {
        self.index.read().agents.keys().cloned().collect()
    }

    /// A tenant's agents in order of id and version, after `after`, at most `limit`.
    ///
    /// # Errors
    /// Never at present; the records are in memory.
    pub fn list(
        &self,
        tenant: &Arc<str>,
        after: Option<&(AgentId, AgentVersion)>,
        limit: usize,
    ) -> Result<Vec<StoredAgent>, Error> {
        let index = self.index.read();
        let beyond = |agent: &&StoredAgent| match after {
            Some((id, version)) => (&agent.id, &agent.version) > (id, version),
            None => true,
        };
        let own = index.agents.values().filter(|agent| agent.tenant == *tenant);
        Ok(own.filter(beyond).take(limit).cloned().collect())
    }

    /// Removes an agent, or one version of it, and answers what was removed. When the active version goes,
    /// the newest of the rest becomes active.
    ///
    /// # Errors
    /// `INTERNAL` when the disk refuses.
    pub fn remove(
        &self,
        tenant: &Arc<str>,
        id: &AgentId,
        version: Option<&AgentVersion>,
    ) -> Result<Vec<StoredAgent>, Error> {
        let _writing = self.writing.lock();
        let of_agent = |agent: &&StoredAgent| agent.tenant == *tenant && agent.id == *id;
        let (removed, kept): (Vec<StoredAgent>, Vec<StoredAgent>) = {
            let index = self.index.read();
            let all: Vec<StoredAgent> = index.agents.values().filter(of_agent).cloned().collect();
            all.into_iter().partition(|agent| version.is_none_or(|version| agent.version == *version))
        };
        if removed.is_empty() {
            return Ok(removed);
        }
        let was_active = self.active(tenant, id);
        let next = match was_active {
            Some(active) if kept.iter().any(|agent| agent.version == active) => Some(active),
            _ => kept.iter().map(|agent| agent.version.clone()).max(),
        };
        self.commit(|agents, active| {
            for agent in &removed {
                agents.remove((&**tenant, id.as_str(), agent.version.to_string().as_str()))?;
            }
            match &next {
                Some(version) => active.insert((&**tenant, id.as_str()), version.to_string().as_str())?,
                None => active.remove((&**tenant, id.as_str()))?,
            };
            Ok(())
        })?;
        let mut index = self.index.write();
        for agent in &removed {
            index.agents.remove(&key(agent));
        }
        let name = (Arc::clone(tenant), id.clone());
        match next {
            Some(version) => index.active.insert(name, version),
            None => index.active.remove(&name),
        };
        drop(index);
        self.remove_unused(&removed.iter().filter_map(StoredAgent::stored_module).collect::<Vec<_>>());
        Ok(removed)
    }

    /// Makes a version the active one; `None` when it is not stored.
    ///
    /// # Errors
    /// `ATTESTATION_REJECTED` when it is not signed and another version of it is; `INTERNAL` when the disk refuses.
    pub fn activate(
        &self,
        tenant: &Arc<str>,
        id: &AgentId,
        version: &AgentVersion,
        over_signed: OverSigned,
    ) -> Result<Option<StoredAgent>, Error> {
        let _writing = self.writing.lock();
        let Some(agent) = self.get(tenant, id, Some(version))? else { return Ok(None) };
        check_signed(
            &agent,
            over_signed,
            self.index.read().agents.values().filter(|other| other.tenant == *tenant),
        )?;
        self.commit(|_, active| {
            active.insert((&**tenant, id.as_str()), version.to_string().as_str())?;
            Ok(())
        })?;
        self.index.write().active.insert((Arc::clone(tenant), id.clone()), version.clone());
        Ok(Some(agent))
    }

    /// The modules that agents name.
    #[must_use]
    pub fn modules(&self) -> HashSet<ModuleDigest> {
        self.index.read().agents.values().filter_map(StoredAgent::stored_module).collect()
    }

    /// A module's bytes, checked against its digest.
    ///
    /// # Errors
    /// `INTERNAL` when the file is gone or was changed.
    pub fn module(&self, digest: &ModuleDigest) -> Result<Bytes, Error> {
        let path = self.module_path(digest);
        let bytes = fs::read(&path)
            .map_err(|error| Error::internal("reading a stored module", with_path(&path, &error)))?;
        if ModuleDigest::of(&bytes) != *digest {
            let error = io::Error::new(io::ErrorKind::InvalidData, "its digest is not that of its name");
            return Err(Error::internal("reading a stored module", with_path(&path, &error)));
        }
        Ok(bytes.into())
    }

    fn module_path(&self, digest: &ModuleDigest) -> PathBuf {
        self.modules.join(format!("sha256-{}.wasm", digest.hex()))
    }

    fn write_module(&self, digest: &ModuleDigest, module: &[u8]) -> io::Result<()> {
        let path = self.module_path(digest);
        if path.exists() {
            return Ok(());
        }
        let mut file = tempfile::NamedTempFile::new_in(&self.modules)?;
        file.write_all(module)?;
        file.as_file().sync_all()?;
        file.persist(&path).map_err(|error| error.error)?;
        File::open(&self.modules)?.sync_all()
    }

    fn commit(
        &self,
        change: impl FnOnce(
            &mut redb::Table<'_, (&'static str, &'static str, &'static str), &'static [u8]>,
            &mut redb::Table<'_, (&'static str, &'static str), &'static str>,
        ) -> Result<(), Failure>,
    ) -> Result<(), Error> {
        let run = || -> Result<(), Failure> {
            let transaction = self.database.begin_write()?;
            {
                let mut agents = transaction.open_table(AGENTS)?;
                let mut active = transaction.open_table(ACTIVE)?;
                change(&mut agents, &mut active)?;
            }
            transaction.commit()?;
            Ok(())
        };
        run().map_err(storing)
    }

    /// Removes the files of modules that no agent names any more. What cannot be removed now is swept at
    /// the next start.
    fn remove_unused(&self, candidates: &[ModuleDigest]) {
        let index = self.index.read();
        for digest in candidates {
            if !index.agents.values().any(|agent| agent.stored_module() == Some(*digest))
                && let Err(error) = fs::remove_file(self.module_path(digest))
            {
                tracing::warn!(module = %digest, %error, "unused module stays on disk until the next start");
            }
        }
    }

    fn sweep(&self) -> io::Result<()> {
        let index = self.index.read();
        let modules = || {
            let of = |agent| Some((agent, self.module_path(&StoredAgent::stored_module(agent)?)));
            index.agents.values().filter_map(of)
        };
        let used: HashSet<PathBuf> = modules().map(|(_, path)| path).collect();
        for entry in fs::read_dir(&self.modules)? {
            let path = entry?.path();
            if !used.contains(&path) {
                fs::remove_file(&path)?;
            }
        }
        for (agent, _) in modules().filter(|(_, path)| !path.exists()) {
            tracing::error!(agent_id = %agent.id, version = %agent.version, module = %agent.module, "a stored module is missing");
        }
        Ok(())
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

enum ReadError {
    Format(u64),
    Failed(Failure),
}

impl<E: Into<Failure>> From<E> for ReadError {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

fn read_index(database: &Database) -> Result<Index, ReadError> {
    let transaction = database.begin_write()?;
    {
        transaction.open_table(AGENTS)?;
        transaction.open_table(ACTIVE)?;
        let mut meta = transaction.open_table(META)?;
        let found = meta.get("format")?.map(|value| value.value());
        match found {
            Some(FORMAT) => {}
            Some(other) => return Err(ReadError::Format(other)),
            None => {
                meta.insert("format", FORMAT)?;
            }
        }
    }
    transaction.commit()?;

    let mut index = Index::default();
    let transaction = database.begin_read()?;
    for entry in transaction.open_table(AGENTS)?.iter()? {
        let (name, record) = entry?;
        let (tenant, id, version) = name.value();
        let record: Record = serde_json::from_slice(record.value())?;
        let agent = StoredAgent {
            tenant: tenant.into(),
            id: id.parse()?,
            version: version.parse()?,
            // Of what was stored before attestations were kept apart.
            attestation: record.attestation.or_else(|| own_attestation(&record.manifest)),
            manifest: record.manifest,
            module: record.module,
            standing: LastStanding::default(),
            runtime: record.runtime,
            image: record.image,
            in_place_of: record.in_place_of,
            loaded_at: UNIX_EPOCH + std::time::Duration::from_millis(record.loaded_at_ms),
        };
        index.agents.insert(key(&agent), agent);
    }
    for entry in transaction.open_table(ACTIVE)?.iter()? {
        let (name, version) = entry?;
        let (tenant, id) = name.value();
        index.active.insert((tenant.into(), id.parse()?), version.value().parse()?);
    }
    Ok(index)
}

fn key(agent: &StoredAgent) -> Key {
    (Arc::clone(&agent.tenant), agent.id.clone(), agent.version.clone())
}

fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn opening(directory: &Path, error: impl Into<Failure>) -> Error {
    Error::internal(format!("opening the data directory `{}`", directory.display()), error)
}

fn storing(error: impl Into<Failure>) -> Error {
    Error::internal("storing the agents", error)
}

fn with_path(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("`{}`: {error}", path.display()))
}

/// An unsigned agent does not take the place of one that is signed in another version, among a tenant's agents.
fn check_signed<'a>(
    agent: &StoredAgent,
    over_signed: OverSigned,
    ours: impl Iterator<Item = &'a StoredAgent>,
) -> Result<(), Error> {
    if over_signed == OverSigned::Allow || agent.attestation.is_some() {
        return Ok(());
    }
    let is_signed = |other: &&StoredAgent| other.id == agent.id && other.attestation.is_some();
    match ours.filter(is_signed).max_by(|a, b| a.version.cmp(&b.version)) {
        Some(signed) => Err(Refusal::unsigned_over_signed(&signed.version).of(&agent.id, &agent.version)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
