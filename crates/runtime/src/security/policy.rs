//! What an execution may cost and use. A [`Grant`] is the budget and the powers of one execution; every power that is
//! used was asked for by [`Grant::decide`], which answers with a [`Permission`] or a reason. Pure.
//!
//! Invariant: only this room makes a `Grant` or a `Permission`; an instance can only be made from the first, and nothing
//! outside the sandbox is touched without the second.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mentat_manifest::{
    AgentId, AgentVersion, ByteCount, Capability, CapabilityKind, Events, FileAccess, Host, Instances,
    Limits, LimitsRequest, Listed, Manifest, ModuleDigest, Protocol, RuntimeKind,
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::audit::{Decisions, Ending, Recorder};
use super::denial::{Denial, DenialReason};
use super::offers::{Extension, Mount, Offers};
use super::owners::OwnMedia;
use super::powers::{Judge, Powers};
use super::secret::Secret;
use crate::error::Error;
use crate::model::ExecutionId;

/// When to ask again whether the audit log can be written.
const AUDIT_RETRY: Duration = Duration::from_secs(5);

/// What the operator allows every agent to cost.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// The budget of an agent whose manifest names none.
    pub defaults: Limits,
    /// The budget that no manifest can exceed.
    pub ceiling: Limits,
    /// Bytes of an execution's input at most.
    pub max_input: ByteCount,
    /// The memory of a container agent whose manifest names none.
    pub container_memory: ByteCount,
    /// What callers may do with objects of their tenant themselves, without an agent.
    pub own_media: OwnMedia,
}

/// What a user on the command line gives an agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserPowers {
    /// Directories the guest may open.
    pub mounts: Vec<Mount>,
    /// Environment variables the guest sees.
    pub env: Vec<(String, String)>,
    /// Secrets the guest uses and never sees.
    pub secrets: BTreeMap<String, Secret>,
    /// Services that the guest calls by the names of their extensions.
    pub extensions: BTreeMap<String, Extension>,
    /// Arguments after the program's name.
    pub args: Vec<String>,
    /// Capabilities the guest may have.
    pub allow: Vec<Capability>,
}

/// The powers and the budget of one execution.
#[derive(Clone, Debug)]
pub struct Grant {
    pub(super) powers: Arc<Powers>,
}

/// Whose state an instance holds that is used again: an agent's, for one tenant.
#[derive(Clone, Debug)]
pub(crate) struct AgentIdentity {
    tenant: Arc<str>,
    agent: AgentId,
    version: AgentVersion,
    module: ModuleDigest,
    /// As it was loaded: an agent that is loaded again, with another manifest perhaps, begins afresh.
    manifest: Arc<Listed>,
}

impl AgentIdentity {
    fn parts(&self) -> (&str, &AgentId, &AgentVersion, &ModuleDigest, *const Listed) {
        (&self.tenant, &self.agent, &self.version, &self.module, Arc::as_ptr(&self.manifest))
    }
}

impl PartialEq for AgentIdentity {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for AgentIdentity {}

impl Hash for AgentIdentity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

/// What becomes of an execution that is denied a power it asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnViolation {
    /// It sees the error and goes on.
    #[default]
    Deny,
    /// It is ended with `SECURITY_VIOLATION`.
    Terminate,
}

/// A capability that may be used. Whatever touches the world takes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    pub(super) capability: Capability,
    pub(super) policies: Vec<String>,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            defaults: Limits::DEFAULT,
            ceiling: Limits::CEILING,
            max_input: ByteCount(256 << 20),
            container_memory: ByteCount(256 << 20),
            own_media: OwnMedia::default(),
        }
    }
}

impl Permission {
    /// What may be used.
    #[must_use]
    pub fn capability(&self) -> &Capability {
        &self.capability
    }

    /// The policies that permit it.
    #[must_use]
    pub fn policies(&self) -> &[String] {
        &self.policies
    }
}

impl Grant {
    /// No powers at all, and the usual budget: for a store in which nothing runs.
    pub(crate) fn nothing() -> Self {
        Self::with_budget(Limits::DEFAULT)
    }

    fn with_budget(limits: Limits) -> Self {
        let powers = Powers {
            ceiling: limits.clone(),
            limits,
            args: Vec::new(),
            judge: Judge::User { allowed: Vec::new(), manifest: None, offers: Arc::default() },
            narrowing: Vec::new(),
            on_violation: OnViolation::Deny,
            ledger: Mutex::default(),
        };
        Self { powers: Arc::new(powers) }
    }

    /// What each of those who took something away has left to the execution; empty where nobody did.
    #[must_use]
    pub fn left(&self) -> &[Vec<Capability>] {
        &self.powers.narrowing
    }

    /// The budget of the execution.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.powers.limits
    }

    /// What the budget can be raised to by a `compute` capability.
    #[must_use]
    pub fn ceiling(&self) -> &Limits {
        &self.powers.ceiling
    }

    /// A WASI command's arguments.
    #[must_use]
    pub fn args(&self) -> &[String] {
        &self.powers.args
    }

    /// What there is to be granted.
    #[must_use]
    pub fn offers(&self) -> &Offers {
        self.powers.offers()
    }

    /// What becomes of the execution when it is denied a power.
    #[must_use]
    pub fn on_violation(&self) -> OnViolation {
        self.powers.on_violation
    }

    /// On whose behalf the execution runs.
    #[must_use]
    pub fn tenant(&self) -> &str {
        self.powers.tenant()
    }

    /// Directories that are opened before the guest starts, if they are permitted: those of the manifest, and those that
    /// a user mounts.
    #[must_use]
    pub fn preopens(&self) -> Vec<Capability> {
        let listed = self.powers.listed().map_or(&[][..], |listed| &listed.preopens);
        let is_preopen = |capability: &&Capability| matches!(capability, Capability::Filesystem { .. });
        self.powers.with_allowed(listed, is_preopen)
    }

    /// Whether everything below a directory is decided on as the directory itself is, so that what was permitted once need
    /// not be asked for again. The manifest and what callers leave speak of whole directories; policies may speak of parts,
    /// and a part of what can only be written may be readable by a capability of its own.
    #[must_use]
    pub fn decides_alike_below(&self, directory: &Capability) -> bool {
        let Capability::Filesystem { path, access } = directory else { return true };
        if *access == FileAccess::Write && self.powers.reads_below(path) {
            return false;
        }
        match &self.powers.judge {
            Judge::Policies { case, .. } => !case.policies.tells_apart_below(path),
            Judge::User { .. } => true,
        }
    }

    /// Variables that the guest finds in its environment, if they are permitted: those of the manifest, and those that a
    /// user sets.
    #[must_use]
    pub fn variables(&self) -> Vec<Capability> {
        let listed = self.powers.listed().map_or(&[][..], |listed| &listed.capabilities);
        self.powers.with_allowed(listed, |capability| matches!(capability, Capability::Env(_)))
    }

    /// Secrets that the guest finds the placeholders of in its environment, if they are permitted.
    #[must_use]
    pub fn secrets(&self) -> Vec<Capability> {
        let listed = self.powers.listed().map_or(&[][..], |listed| &listed.capabilities);
        self.powers.with_allowed(listed, |capability| matches!(capability, Capability::Secret(_)))
    }

    /// The connections to a host that the manifest asks for, or a user allows: each of one protocol, to the ports that are
    /// asked for. Whether they are permitted is to be asked.
    #[must_use]
    pub fn connections_to(&self, host: &Host) -> Vec<Capability> {
        let listed = self.powers.listed().map_or(&[][..], |listed| &listed.capabilities);
        let asked = |capability: &&Capability| matches!(capability, Capability::Network { host: asked, .. } if asked.covers(host));
        let mut connections = Vec::new();
        for capability in self.powers.with_allowed(listed, asked) {
            let Capability::Network { protocol, port, .. } = capability else { continue };
            let protocols = match protocol {
                Protocol::Any => &[Protocol::Https, Protocol::Http, Protocol::Tcp, Protocol::Udp][..],
                ref one => std::slice::from_ref(one),
            };
            let to_host = |protocol| Capability::Network { protocol, host: host.clone(), port };
            connections.extend(protocols.iter().copied().map(to_host));
        }
        connections
    }

    /// What the manifest lists; `None` for a module without one.
    pub(crate) fn listed(&self) -> Option<&Listed> {
        self.powers.listed().map(Arc::as_ref)
    }

    /// The agent's id; `None` for a module without a manifest.
    #[must_use]
    pub fn agent(&self) -> Option<&str> {
        self.powers.listed().map(|listed| listed.agent.as_str())
    }

    /// The execution; `None` for a user's own.
    #[must_use]
    pub fn execution(&self) -> Option<ExecutionId> {
        match &self.powers.judge {
            Judge::Policies { circumstances, .. } => Some(circumstances.execution),
            Judge::User { .. } => None,
        }
    }

    /// Variables whose values stand in the manifest; they are the author's, and need nobody's leave.
    #[must_use]
    pub fn constants(&self) -> &[(String, String)] {
        self.powers.listed().map_or(&[], |listed| &listed.constants)
    }

    /// How the agent reports events, where it does.
    #[must_use]
    pub fn reports(&self) -> Option<Events> {
        self.powers.listed().and_then(|listed| listed.events)
    }

    /// Whose state the execution goes on with, where the manifest asks for instances that are used again. A user's own
    /// executions begin afresh.
    pub(crate) fn reused(&self) -> Option<AgentIdentity> {
        let listed = self.powers.listed()?;
        let (Instances::Reuse, Judge::Policies { case, .. }) = (listed.instances, &self.powers.judge) else {
            return None;
        };
        let principal = &case.principal;
        Some(AgentIdentity {
            tenant: Arc::clone(&principal.tenant),
            agent: principal.agent.clone(),
            version: principal.version.clone(),
            module: principal.module,
            manifest: Arc::clone(listed),
        })
    }

    /// The same budget, and no powers: for what is done ahead of any execution.
    pub(crate) fn powerless(&self) -> Self {
        Self::with_budget(self.powers.limits.clone())
    }

    /// How often powers were given and refused so far, by kind.
    #[must_use]
    pub fn decisions(&self) -> BTreeMap<CapabilityKind, Decisions> {
        self.powers.ledger.lock().decisions().clone()
    }

    /// Whether what the execution does will be on record, where it must be.
    ///
    /// # Errors
    /// `OVERLOADED` while the audit log cannot be written.
    pub fn ensure_audited(&self) -> Result<(), Error> {
        if self.powers.audit().is_none_or(Recorder::admits) {
            return Ok(());
        }
        Err(Error::Overloaded {
            message: "the audit log cannot be written, and nothing is executed unaudited; the server's log says why"
                .into(),
            retry_after: AUDIT_RETRY,
        })
    }

    /// Records the end of the execution, with which its powers end as well.
    pub fn record_end(self, ending: Ending) {
        if let Some(ended) = self.powers.ended(ending, SystemTime::now()) {
            ended.hand_in();
        }
    }

    /// Why a capability would not be given, for someone who reads of it; nothing is asked for, counted or recorded.
    ///
    /// # Errors
    /// As [`Grant::decide`].
    pub fn explain(&self, capability: &Capability) -> Result<(), Denial> {
        let decided = self.powers.decide(capability, SystemTime::now());
        decided.map(drop).map_err(|reason| Denial { capability: capability.clone(), reason })
    }

    /// Refuses a capability that the sandbox keeps back, whatever was granted, for this reason. Counted and recorded as any
    /// denial.
    pub fn refuse(&self, capability: &Capability, why: &'static str) -> Denial {
        let refused = self.powers.note(capability, SystemTime::now(), Err(DenialReason::Sandbox(why)));
        let reason = refused.err().unwrap_or(DenialReason::Sandbox(why));
        Denial { capability: capability.clone(), reason }
    }

    /// Decides on one capability: the manifest must list it, every narrowing leave it, and policy permit it. The decision
    /// is counted, and recorded where it is the first of its kind in this execution.
    ///
    /// # Errors
    /// Why not, and what would have to be otherwise.
    pub fn decide(&self, capability: &Capability) -> Result<Permission, Denial> {
        let now = SystemTime::now();
        let decided = self.powers.decide(capability, now);
        self.powers
            .note(capability, now, decided)
            .map_err(|reason| Denial { capability: capability.clone(), reason })
    }
}

impl Rules {
    /// The budget of an agent by its manifest; its executions can only be narrower.
    ///
    /// # Errors
    /// `INVALID_REQUEST` when the manifest asks for more than the operator's ceiling.
    pub fn budget(&self, manifest: Option<&Manifest>) -> Result<Limits, Error> {
        let request = manifest.map(Manifest::limits_request).unwrap_or_default();
        let mut defaults = self.defaults.clone();
        if manifest.is_some_and(|manifest| manifest.runtime_kind() == RuntimeKind::Container) {
            defaults.memory_bytes = self.container_memory;
        }
        Limits::resolve(&defaults, &request, &self.ceiling)
            .map_err(|error| Error::InvalidRequest { message: error.to_string() })
    }

    /// Decides on an execution that a user starts on their own machine: they are the operator, so
    /// they may raise the budget up to the ceiling and give what powers they like.
    ///
    /// # Errors
    /// As [`Rules::budget`], and when the user's own limits exceed the ceiling.
    pub fn decide_for_user(
        &self,
        manifest: Option<&Manifest>,
        limits: &LimitsRequest,
        powers: UserPowers,
    ) -> Result<Grant, Error> {
        let budget = self.budget(manifest)?;
        let limits = Limits::resolve(&budget, limits, &self.ceiling)
            .map_err(|error| Error::InvalidRequest { message: error.to_string() })?;
        let UserPowers { mounts, env, secrets, extensions, args, mut allow } = powers;
        // What is given by a flag of its own is allowed by it.
        allow.extend(env.iter().map(|(name, _)| Capability::Env(name.clone())));
        // An agent may ask for it as the secret that it is, or as a variable that is sealed.
        allow.extend(secrets.keys().map(|name| Capability::Secret(name.clone())));
        allow.extend(secrets.keys().map(|name| Capability::Env(name.clone())));
        allow.extend(extensions.keys().map(|name| Capability::Extension(name.clone())));
        allow.extend(
            mounts
                .iter()
                .map(|mount| Capability::Filesystem { access: mount.access, path: mount.guest.clone() }),
        );
        let env = env.into_iter().collect();
        let offers = Offers { mounts, env, sealed: secrets.clone(), secrets, extensions };
        let powers = Powers {
            limits,
            ceiling: self.ceiling.clone(),
            args,
            judge: Judge::User {
                allowed: allow,
                manifest: manifest.map(|manifest| Arc::clone(manifest.listed())),
                offers: Arc::new(offers),
            },
            narrowing: Vec::new(),
            on_violation: OnViolation::Deny,
            ledger: Mutex::default(),
        };
        Ok(Grant { powers: Arc::new(powers) })
    }
}

/// What of `access` is left where a place allows `offered` at most; `None` for nothing.
#[must_use]
pub fn common_access(access: FileAccess, offered: FileAccess) -> Option<FileAccess> {
    match (access, offered) {
        (access, FileAccess::ReadWrite) => Some(access),
        (FileAccess::ReadWrite, offered) => Some(offered),
        (access, offered) if access == offered => Some(access),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use mentat_manifest::Fuel;

    use super::*;

    fn fuel(fuel: u64) -> LimitsRequest {
        LimitsRequest { fuel: Some(Fuel(fuel)), ..LimitsRequest::default() }
    }

    fn manifest() -> Manifest {
        Manifest::parse(
            "id: a.b\nversion: 1.0.0\nruntime: wasm\nmodule: agent.wasm\n\
             wasm: { fuel: 5000, capabilities: [\"network:https:*.example.com\"] }\n",
        )
        .unwrap()
    }

    #[test]
    fn a_user_may_raise_the_budget_up_to_the_ceiling() {
        let rules = Rules::default();
        let raised =
            rules.decide_for_user(Some(&manifest()), &fuel(1_000_000), UserPowers::default()).unwrap();
        assert_eq!(raised.limits().fuel, Fuel(1_000_000));
        let over = rules.decide_for_user(None, &fuel(u64::MAX), UserPowers::default());
        assert!(matches!(over, Err(Error::InvalidRequest { .. })));
    }

    #[test]
    fn a_user_gives_what_they_allow_and_the_denial_of_the_rest_names_the_flag() {
        let powers = UserPowers {
            env: vec![("A".into(), "b".into())],
            allow: vec!["network:https:api.example.com".parse().unwrap()],
            ..UserPowers::default()
        };
        let grant =
            Rules::default().decide_for_user(Some(&manifest()), &LimitsRequest::default(), powers).unwrap();
        let said = |capability: &str| match grant.decide(&capability.parse().unwrap()) {
            Ok(permission) => permission.policies().join(" "),
            Err(denial) => denial.to_string(),
        };
        assert_eq!(said("env:A"), "--allow env:A");
        assert_eq!(said("network:https:api.example.com"), "--allow network:https:api.example.com");
        assert!(said("network:https:b.example.com").contains("--allow 'network:https:b.example.com'"));
        assert!(said("network:https:example.com").contains("is not in the manifest of `a.b`"));
        assert!(said("filesystem:read:/x").contains("not in the manifest"));
    }
}
