//! What a container is given: of the operator's directories and variables what its grant permits, and its budget. Each is
//! asked of the grant by its own name, before the container is made, since it has nobody to ask later.
//!
//! Invariant: nothing of the machine gets into a [`Sandbox`] but by a `Permission`. What a container cannot be held to is
//! refused, whatever was granted.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use mentat_manifest::{ByteCount, Capability, FileAccess, Limits, MIN_CONTAINER_MEMORY, is_at_or_below};
use mentat_runtime::error::Error;
use mentat_runtime::security::denial::{Denial, DenialReason};
use mentat_runtime::security::offers::{Mount, SCRATCH};
use mentat_runtime::security::policy::{Grant, OnViolation, Permission, common_access};
use mentat_runtime::{Egress, StandardStreams};

use super::{egress, process};

const NO_DATAGRAMS: &str = "a container reaches the network by a proxy for HTTP and CONNECT, which has no way for datagrams; a module has";
const NO_ENTRY: &str = "the server cannot give a container a way out, for it may not enter its network: that takes a server that runs as \
     root on the same machine as an engine that does; the server's log says more";
const NO_SECRET: &str = "its value is sealed, and a container encrypts what it sends by itself, so that nobody could put it in; a module can be \
     given it";
const NO_MEDIA: &str = "a container does not reach the media store; a module does";
const NO_EXTENSION: &str = "a container does not reach extensions; a module does";
const WRITE_ONLY: &str =
    "what is mounted into a container can be read where it can be written; ask for `readwrite`, or for less";
const PART: &str = "a container is given whole directories of the operator's mounts, and this is a part of one; ask for all of it, \
     or have the operator mount the part";
const PARTS: &str = "policies tell apart what lies below it, to which a container cannot be held";
const ROOT: &str = "a container has files of its own at `/`; mount the directory elsewhere";

/// What a container is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sandbox {
    /// What it may cost.
    pub(super) limits: Limits,
    /// Its variables.
    pub(super) env: BTreeMap<String, String>,
    /// Directories of the machine by where it finds them.
    pub(super) mounts: BTreeMap<String, Bind>,
    /// Whether it has a `/tmp`.
    pub(super) scratch: Scratch,
    /// For what it has a way out; none for nothing. Each use is asked for then.
    pub(super) network: Vec<Capability>,
}

/// A directory of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bind {
    pub(super) host: PathBuf,
    pub(super) access: FileAccess,
}

/// Whether a container has a directory of its own for files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scratch {
    /// There is none.
    None,
    /// It is as large as the configuration says.
    Writable,
}

impl Sandbox {
    /// Asks for everything that the manifest lists. What is refused is not there for the agent, and its log says why.
    ///
    /// # Errors
    /// `SECURITY_VIOLATION` for the first refusal, where the operator has such executions ended; `INVALID_REQUEST` where less
    /// memory is left than a container can be made with.
    pub(super) fn ask(
        grant: &Grant,
        listed: &[Capability],
        streams: &StandardStreams,
    ) -> Result<Self, Error> {
        let sandbox = Self {
            limits: grant.limits().clone(),
            env: grant.constants().iter().cloned().collect(),
            mounts: BTreeMap::new(),
            scratch: Scratch::None,
            network: Vec::new(),
        };
        let mut asking = Asking { grant, streams, sandbox };
        for capability in listed {
            asking.ask(capability)?;
        }
        let mut sandbox = asking.sandbox;
        check_memory(sandbox.limits.memory_bytes)?;
        if sandbox.has_way_out() {
            // Whatever the manifest and the operator set: by these, programs would be sent elsewhere.
            sandbox.env.extend(egress::variables());
        }
        Ok(sandbox)
    }

    /// Whether it is to have a way onto the network.
    pub(super) fn has_way_out(&self) -> bool {
        !self.network.is_empty()
    }

    /// Refuses all of the network, where a container could not be given its way out.
    ///
    /// # Errors
    /// As [`Sandbox::ask`].
    pub(super) fn refuse_network(&self, grant: &Grant, streams: &StandardStreams) -> Result<(), Error> {
        self.network
            .iter()
            .try_for_each(|capability| denied(grant, streams, &grant.refuse(capability, NO_ENTRY)))
    }
}

struct Asking<'a> {
    grant: &'a Grant,
    streams: &'a StandardStreams,
    sandbox: Sandbox,
}

impl Asking<'_> {
    fn ask(&mut self, capability: &Capability) -> Result<(), Error> {
        match capability {
            Capability::Filesystem { path, access } => self.files(capability, path, *access),
            Capability::Env(name) => self.variable(capability, name),
            Capability::Compute { .. } => self.budget(capability),
            Capability::Network { .. } => self.network(capability),
            Capability::Secret(_) => self.refuse(capability, NO_SECRET),
            Capability::Media { .. } => self.refuse(capability, NO_MEDIA),
            Capability::Extension(_) => self.refuse(capability, NO_EXTENSION),
        }
    }

    fn decide(&self, capability: &Capability) -> Result<Option<Permission>, Error> {
        match self.grant.decide(capability) {
            Ok(permission) => Ok(Some(permission)),
            Err(denial) => self.denied(&denial).map(|()| None),
        }
    }

    fn refuse(&self, capability: &Capability, why: &'static str) -> Result<(), Error> {
        self.denied(&self.grant.refuse(capability, why))
    }

    fn denied(&self, denial: &Denial) -> Result<(), Error> {
        denied(self.grant, self.streams, denial)
    }

    /// A way out for what a proxy can do. Whether a host may be reached is asked when it is.
    fn network(&mut self, capability: &Capability) -> Result<(), Error> {
        if !Egress::leads_to(capability) {
            return self.refuse(capability, NO_DATAGRAMS);
        }
        if !process::may_enter() {
            return self.refuse(capability, NO_ENTRY);
        }
        self.sandbox.network.push(capability.clone());
        Ok(())
    }

    /// A whole mount, or those that lie below the path, or the scratch directory. Parts of a mount are refused: who can
    /// write there could put a link in the place of one, and the engine would follow it out of the mount.
    fn files(&mut self, capability: &Capability, path: &str, access: FileAccess) -> Result<(), Error> {
        let (offers, tenant) = (self.grant.offers(), self.grant.tenant());
        let mount = offers.mount_of(path, tenant);
        if is_at_or_below(path, SCRATCH) && mount.is_none_or(|mount| mount.guest.len() < SCRATCH.len()) {
            if self.decide(capability)?.is_some() && access != FileAccess::Read {
                self.sandbox.scratch = Scratch::Writable;
            }
            return Ok(());
        }
        let mut mounts: Vec<_> = offers.mounts_below(path, tenant).collect();
        match mount {
            Some(mount) if mount.guest == "/" => return self.refuse(capability, ROOT),
            Some(mount) if mount.guest == path => mounts.push(mount),
            Some(_) if mounts.is_empty() => return self.refuse(capability, PART),
            _ => {}
        }
        let is_write_only = |mount: &Mount| mount.guest == path && mount.access == FileAccess::Write;
        if access == FileAccess::Write || mount.is_some_and(is_write_only) {
            return self.refuse(capability, WRITE_ONLY);
        }
        if self.decide(capability)?.is_none() {
            return Ok(());
        }
        if mounts.is_empty() {
            let text = format!(
                "nothing is mounted at `{path}`; the operator mounts a directory there with `[[sandbox.mounts]]`"
            );
            self.streams.warn(&text);
        }
        for mount in mounts {
            // What lies below a directory that was permitted may be forbidden all the same.
            let whole = Capability::Filesystem { access, path: mount.guest.clone() };
            if mount.access == FileAccess::Write {
                self.refuse(&whole, WRITE_ONLY)?;
            } else if !self.grant.decides_alike_below(&whole) {
                self.refuse(&whole, PARTS)?;
            } else if mount.guest == path || self.decide(&whole)?.is_some() {
                self.bind(mount, access);
            }
        }
        Ok(())
    }

    /// A mount in what is common of its mode and what was asked for; the wider one where it was asked for twice.
    fn bind(&mut self, mount: &Mount, access: FileAccess) {
        let Some(access) = common_access(access, mount.access) else { return };
        let bind = Bind { host: mount.host.clone(), access };
        let known = self.sandbox.mounts.entry(mount.guest.clone()).or_insert_with(|| bind.clone());
        if access == FileAccess::ReadWrite {
            *known = bind;
        }
    }

    fn variable(&mut self, capability: &Capability, name: &str) -> Result<(), Error> {
        let offers = self.grant.offers();
        if offers.sealed(capability).is_some() {
            return self.refuse(capability, NO_SECRET);
        }
        if self.decide(capability)?.is_some()
            && let Some(value) = offers.env.get(name)
        {
            self.sandbox.env.insert(name.to_owned(), value.clone());
        }
        Ok(())
    }

    /// Raises the budget to what is asked for, within the ceiling. Fuel is counted for modules alone.
    fn budget(&mut self, capability: &Capability) -> Result<(), Error> {
        if self.decide(capability)?.is_none() {
            return Ok(());
        }
        let Capability::Compute { memory, cpu_ms, .. } = capability else { return Ok(()) };
        let (limits, ceiling) = (&mut self.sandbox.limits, self.grant.ceiling());
        let memory = memory.unwrap_or(ByteCount(0)).min(ceiling.memory_bytes);
        let time = cpu_ms.map(Duration::from_millis).unwrap_or_default().min(ceiling.timeout);
        limits.memory_bytes = limits.memory_bytes.max(memory);
        limits.timeout = limits.timeout.max(time);
        Ok(())
    }
}

/// Whether a container can be made with so much memory.
///
/// # Errors
/// `INVALID_REQUEST` where it cannot.
pub(super) fn check_memory(memory: ByteCount) -> Result<(), Error> {
    if memory >= MIN_CONTAINER_MEMORY {
        return Ok(());
    }
    let message = format!(
        "memory of {memory} is less than {MIN_CONTAINER_MEMORY}, without which no engine makes a container; leave it at least that \
         much, in the request (`memory`), in the manifest, and in `limits.defaults.memory`"
    );
    Err(Error::InvalidRequest { message })
}

fn denied(grant: &Grant, streams: &StandardStreams, denial: &Denial) -> Result<(), Error> {
    streams.warn(&denial.to_string());
    // That nothing can be recorded is nobody's violation.
    let is_violation = denial.reason != DenialReason::Unrecorded;
    if is_violation && grant.on_violation() == OnViolation::Terminate {
        return Err(Error::SecurityViolation { message: denial.to_string() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use mentat_manifest::{LimitsRequest, Manifest};
    use mentat_runtime::security::policy::{Rules, UserPowers};

    use super::*;

    /// A sandbox for a manifest with these capabilities, and its log.
    fn ask(capabilities: &str) -> (Sandbox, String) {
        let text = format!(
            "id: a.b\nversion: 1.0.0\nruntime: container\nimage: x\nenv: [A=manifest]\nwasm: {{ capabilities: [{capabilities}] }}\n"
        );
        let manifest = Manifest::parse(&text).unwrap();
        let mount = |guest: &str, access| Mount::new(format!("/srv{guest}"), guest, access).unwrap();
        let powers = UserPowers {
            mounts: vec![
                mount("/in", FileAccess::Read),
                mount("/box", FileAccess::Write),
                mount("/work/a", FileAccess::ReadWrite),
                mount("/work/b", FileAccess::Read),
            ],
            env: vec![("KEY".into(), "value".into())],
            allow: ["filesystem:readwrite:/", "compute:memory=2GB,cpu_ms=900000", "network:*:*"]
                .map(|text| text.parse().unwrap())
                .into(),
            ..UserPowers::default()
        };
        let rules = Rules::default();
        let grant = rules.decide_for_user(Some(&manifest), &LimitsRequest::default(), powers).unwrap();
        let streams = StandardStreams::new(&grant, None);
        let sandbox = Sandbox::ask(&grant, manifest.capabilities(), &streams).unwrap();
        let lines = streams.finish(true).logs.into_iter().map(|line| line.message);
        (sandbox, lines.collect::<Vec<_>>().join("\n"))
    }

    fn mounts(sandbox: &Sandbox) -> Vec<(&str, &str)> {
        let mounts = sandbox.mounts.iter();
        mounts.map(|(guest, bind)| (guest.as_str(), bind.access.as_str())).collect()
    }

    #[test]
    fn memory_that_no_container_can_be_made_with_is_refused_and_what_is_raised_is_not() {
        for (capabilities, is_enough) in [("[]", false), ("[\"compute:memory=6MB\"]", true)] {
            let text = format!(
                "id: a.b\nversion: 1.0.0\nruntime: container\nimage: x\nwasm: {{ capabilities: {capabilities} }}\n"
            );
            let manifest = Manifest::parse(&text).unwrap();
            let rules = Rules::default();
            let little = LimitsRequest { memory_bytes: Some(ByteCount(1 << 20)), ..LimitsRequest::default() };
            let allow = vec!["compute:memory=6MB".parse().unwrap()];
            let powers = UserPowers { allow, ..UserPowers::default() };
            let grant = rules.decide_for_user(Some(&manifest), &little, powers).unwrap();
            let streams = StandardStreams::new(&grant, None);
            let asked = Sandbox::ask(&grant, manifest.capabilities(), &streams);
            assert_eq!(asked.is_ok(), is_enough, "{asked:?}");
            if let Err(error) = asked {
                assert!(error.to_string().contains("memory of 1MB is less than 6MB"), "{error}");
            }
        }
    }

    #[test]
    fn whole_mounts_are_given_in_what_is_common_of_their_modes() {
        let (sandbox, log) = ask("\"filesystem:readwrite:/in\", \"filesystem:readwrite:/work\"");
        assert_eq!(log, "");
        assert_eq!(mounts(&sandbox), [("/in", "read"), ("/work/a", "readwrite"), ("/work/b", "read")]);
        assert_eq!(sandbox.scratch, Scratch::None);
        let (sandbox, log) = ask("\"filesystem:read:/\"");
        assert_eq!(mounts(&sandbox), [("/in", "read"), ("/work/a", "read"), ("/work/b", "read")]);
        assert!(log.contains("`filesystem:read:/box` is kept back"), "{log}");
        let (sandbox, _) = ask("\"filesystem:read:/work/a\", \"filesystem:readwrite:/tmp\"");
        assert_eq!((mounts(&sandbox), sandbox.scratch), (vec![("/work/a", "read")], Scratch::Writable));
    }

    #[test]
    fn what_a_mount_cannot_be_held_to_is_refused_and_said() {
        for (capability, says) in [
            ("filesystem:read:/in/part", "a part of one"),
            ("filesystem:write:/work/a", "can be read where it can be written"),
            ("filesystem:readwrite:/box", "can be read where it can be written"),
            ("filesystem:read:/nowhere", "nothing is mounted"),
            ("network:udp:a.example:53", "no way for datagrams"),
            ("secret:KEY", "sealed"),
            ("media:read:a", "media store"),
            ("extension:e", "extensions"),
        ] {
            let (sandbox, log) = ask(&format!("\"{capability}\""));
            assert!(log.contains(says), "{capability}: {log}");
            assert_eq!(mounts(&sandbox), []);
        }
    }

    #[test]
    fn a_way_out_is_there_for_those_who_ask_for_it_and_nobody_leads_it_elsewhere() {
        let (sandbox, log) = ask("\"env:KEY\"");
        assert!(!sandbox.has_way_out() && !sandbox.env.contains_key("http_proxy"), "{log}");
        let (sandbox, log) = ask("\"network:https:a.example\", \"network:*:*\"");
        if process::may_enter() {
            assert_eq!((sandbox.network.len(), log.as_str()), (2, ""));
            assert_eq!(sandbox.env["http_proxy"], "http://127.0.0.1:3128");
        } else {
            assert!(!sandbox.has_way_out() && log.contains("may not enter its network"), "{log}");
        }
    }

    #[test]
    fn variables_and_budgets_are_given_within_the_ceiling() {
        let (sandbox, _) = ask("\"env:KEY\", \"env:A\", \"compute:memory=2GB,cpu_ms=900000\"");
        let env: Vec<(&str, &str)> =
            sandbox.env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(env, [("A", "manifest"), ("KEY", "value")]);
        assert_eq!(sandbox.limits.memory_bytes, Limits::CEILING.memory_bytes);
        assert_eq!(sandbox.limits.timeout, Limits::CEILING.timeout);
    }
}
