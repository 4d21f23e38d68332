//! Capabilities and agents in the words of the schema: which actions a capability takes, and which entity it is about.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::str::FromStr;
use std::time::SystemTime;

use cedar_policy::{Entities, Entity, EntityId, EntityTypeName, EntityUid, RestrictedExpression, Schema};
use mentat_manifest::{Capability, FileAccess, Host, MediaAccess, Port, Protocol};

use crate::security::principal::{Circumstances, Principal, Trust};
use crate::security::time::rfc3339_of;

/// The names of the schema, looked up once.
pub(super) struct Terms {
    /// The actions, each in the groups above it.
    actions: Entities,
    trust: EntityTypeName,
    tenant: EntityTypeName,
    agent: EntityTypeName,
    path: EntityTypeName,
    domain: EntityTypeName,
    endpoint: EntityTypeName,
    variable: EntityTypeName,
    secret: EntityTypeName,
    budget: EntityTypeName,
    object: EntityTypeName,
    extension: EntityTypeName,
}

type Attributes = HashMap<String, RestrictedExpression>;
/// The name of an entity, and of all that it is in.
type Names = Vec<EntityUid>;
type EntityError = Box<cedar_policy::EntityAttrEvaluationError>;

/// Every action that a capability can take; the schema has them all.
const ACTIONS: [&str; 12] = [
    "filesystem:read",
    "filesystem:write",
    "network:http",
    "network:https",
    "network:tcp",
    "network:udp",
    "env:read",
    "secret:use",
    "compute:raise",
    "media:read",
    "media:write",
    "extension:call",
];

/// The actions that a capability takes, each to be permitted.
pub(super) fn actions(capability: &Capability) -> &'static [&'static str] {
    match capability {
        Capability::Filesystem { access: FileAccess::Read, .. } => &["filesystem:read"],
        Capability::Filesystem { access: FileAccess::Write, .. } => &["filesystem:write"],
        Capability::Filesystem { access: FileAccess::ReadWrite, .. } => {
            &["filesystem:read", "filesystem:write"]
        }
        Capability::Network { protocol, .. } => match protocol {
            Protocol::Http => &["network:http"],
            Protocol::Https => &["network:https"],
            Protocol::Tcp => &["network:tcp"],
            Protocol::Udp => &["network:udp"],
            Protocol::Any => &["network:http", "network:https", "network:tcp", "network:udp"],
        },
        Capability::Env(_) => &["env:read"],
        Capability::Secret(_) => &["secret:use"],
        Capability::Compute { .. } => &["compute:raise"],
        Capability::Media { access: MediaAccess::Read, .. } => &["media:read"],
        Capability::Media { access: MediaAccess::Write, .. } => &["media:write"],
        Capability::Extension(_) => &["extension:call"],
    }
}

/// The type and the name of what a capability is about.
pub(super) fn resource_name(capability: &Capability) -> (&'static str, Cow<'_, str>) {
    match capability {
        Capability::Filesystem { path, .. } => ("Path", path.into()),
        Capability::Network { protocol, host, port } => {
            let name = match port.number(*protocol) {
                Some(port) => format!("{host}:{port}"),
                None => host.to_string(),
            };
            ("Endpoint", name.into())
        }
        Capability::Env(name) => ("Variable", name.into()),
        Capability::Secret(name) => ("Secret", name.into()),
        Capability::Compute { .. } => ("Budget", "budget".into()),
        Capability::Media { prefix, .. } => ("Object", prefix.into()),
        Capability::Extension(name) => ("Extension", name.into()),
    }
}

impl Terms {
    /// Looks up the names.
    ///
    /// # Errors
    /// When the schema is not ours.
    pub(super) fn new(schema: &Schema) -> Result<Self, String> {
        let named = |name| EntityTypeName::from_str(name).map_err(|error| error.to_string());
        let actions = schema.action_entities().map_err(|error| error.to_string())?;
        let is_there = |name: &str| actions.iter().any(|action| action.uid().id().unescaped() == name);
        if let Some(missing) = ACTIONS.into_iter().find(|name| !is_there(name)) {
            return Err(format!("it has no action `{missing}`"));
        }
        Ok(Self {
            actions,
            trust: named("Trust")?,
            tenant: named("Tenant")?,
            agent: named("Agent")?,
            path: named("Path")?,
            domain: named("Domain")?,
            endpoint: named("Endpoint")?,
            variable: named("Variable")?,
            secret: named("Secret")?,
            budget: named("Budget")?,
            object: named("Object")?,
            extension: named("Extension")?,
        })
    }

    /// The actions, each in the groups above it.
    pub(super) fn actions(&self) -> &Entities {
        &self.actions
    }

    /// Everything that is there whoever asks for whatever: the actions, and each level of trust in those below it.
    pub(super) fn groups(&self) -> Vec<Entity> {
        let levels = Trust::ALL.map(|level| {
            Entity::new_no_attrs(uid(&self.trust, level.as_str()), self.levels_to(level).skip(1).collect())
        });
        self.actions.iter().cloned().chain(levels).collect()
    }

    /// A level of trust and all below it, the highest first.
    fn levels_to(&self, level: Trust) -> impl Iterator<Item = EntityUid> {
        let levels = Trust::ALL.into_iter().rev().skip_while(move |other| *other > level);
        levels.map(|level| uid(&self.trust, level.as_str()))
    }

    /// Who asks.
    pub(super) fn agent(&self, principal: &Principal) -> Result<(Entity, Names), EntityError> {
        let (major, minor, patch) = principal.version.numbers();
        let mut attributes = Attributes::from([
            ("id".into(), text(principal.agent.as_str())),
            ("version".into(), text(&principal.version.to_string())),
            ("major".into(), long(major)),
            ("minor".into(), long(minor)),
            ("patch".into(), long(patch)),
            ("module".into(), text(&principal.module.to_string())),
            ("tenant".into(), text(&principal.tenant)),
            ("trust".into(), text(principal.trust.as_str())),
        ]);
        if let Some(signer) = &principal.signer {
            attributes.insert("signer".into(), text(signer));
        }
        let mut parents: HashSet<EntityUid> = self.levels_to(principal.trust).collect();
        parents.insert(uid(&self.tenant, &principal.tenant));
        entity(uid(&self.agent, principal.agent.as_str()), attributes, parents)
    }

    /// The name of what is asked for.
    fn resource_uid(&self, capability: &Capability) -> EntityUid {
        let kind = match capability {
            Capability::Filesystem { .. } => &self.path,
            Capability::Network { .. } => &self.endpoint,
            Capability::Env(_) => &self.variable,
            Capability::Secret(_) => &self.secret,
            Capability::Compute { .. } => &self.budget,
            Capability::Media { .. } => &self.object,
            Capability::Extension(_) => &self.extension,
        };
        uid(kind, &resource_name(capability).1)
    }

    /// What is asked for.
    pub(super) fn resource(&self, capability: &Capability) -> Result<(Entity, Names), EntityError> {
        let named = |name: &str| (Attributes::from([("name".into(), text(name))]), HashSet::new());
        let (attributes, parents) = match capability {
            Capability::Filesystem { path, .. } => {
                (Attributes::from([("path".into(), text(path))]), self.directories(path))
            }
            Capability::Network { protocol, host, port } => self.endpoint(*protocol, host, *port),
            Capability::Env(name) | Capability::Secret(name) | Capability::Extension(name) => named(name),
            Capability::Compute { memory, cpu_ms, fuel } => {
                let given = [
                    ("memory", memory.map(|memory| memory.0)),
                    ("cpu_ms", *cpu_ms),
                    ("fuel", fuel.map(|fuel| fuel.0)),
                ];
                let attributes =
                    given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), long(value?))));
                (attributes.collect(), HashSet::new())
            }
            Capability::Media { prefix, .. } => {
                (Attributes::from([("prefix".into(), text(prefix))]), HashSet::new())
            }
        };
        entity(self.resource_uid(capability), attributes, parents)
    }

    /// How it came to the question.
    pub(super) fn context(&self, circumstances: &Circumstances) -> Vec<(String, RestrictedExpression)> {
        let execution = [
            ("id".to_owned(), text(&circumstances.execution.to_string())),
            ("caller".to_owned(), text(&circumstances.caller)),
        ];
        let mut context = vec![("time".to_owned(), datetime(circumstances.time))];
        // Both keys are there once, so this is no error that could happen.
        context.extend(
            RestrictedExpression::new_record(execution).ok().map(|record| ("execution".to_owned(), record)),
        );
        if let Some(narrowing) = &circumstances.narrowing {
            let left = RestrictedExpression::new_set(narrowing.iter().map(|capability| text(capability)));
            context.push(("narrowing".to_owned(), left));
        }
        context
    }

    fn directories(&self, path: &str) -> HashSet<EntityUid> {
        let mut above = HashSet::from([uid(&self.path, "/")]);
        let ends = path.match_indices('/').skip(1).map(|(end, _)| end);
        above.extend(ends.filter_map(|end| Some(uid(&self.path, path.get(..end)?))));
        // Nothing is in itself by its parents; Cedar sees to that.
        above.remove(&uid(&self.path, path));
        above
    }

    fn endpoint(&self, protocol: Protocol, host: &Host, port: Port) -> (Attributes, HashSet<EntityUid>) {
        let mut attributes = Attributes::from([("host".into(), text(&host.to_string()))]);
        if let Some(port) = port.number(protocol) {
            attributes.insert("port".into(), long(port.into()));
        }
        let mut parents = HashSet::new();
        match host {
            Host::Any => {}
            Host::Name(name) | Host::Suffix(name) => {
                let mut domain = name.as_str();
                parents.insert(uid(&self.domain, domain));
                while let Some((_, above)) = domain.split_once('.') {
                    parents.insert(uid(&self.domain, above));
                    domain = above;
                }
            }
            Host::Network { address, prefix } => {
                let address = match address {
                    IpAddr::V4(address) => format!("{address}/{prefix}"),
                    IpAddr::V6(address) => format!("{address}/{prefix}"),
                };
                attributes.insert("address".into(), RestrictedExpression::new_ip(address));
            }
        }
        (attributes, parents)
    }
}

fn entity(
    uid: EntityUid,
    attributes: Attributes,
    parents: HashSet<EntityUid>,
) -> Result<(Entity, Names), EntityError> {
    let names = std::iter::once(&uid).chain(&parents).cloned().collect();
    Ok((Entity::new(uid, attributes, parents).map_err(Box::new)?, names))
}

fn uid(kind: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}

fn text(value: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(value.to_owned())
}

/// Cedar's numbers are signed; what is larger is as good as the largest.
fn long(value: u64) -> RestrictedExpression {
    RestrictedExpression::new_long(i64::try_from(value).unwrap_or(i64::MAX))
}

/// RFC 3339, in milliseconds and UTC, as Cedar reads it.
fn datetime(time: SystemTime) -> RestrictedExpression {
    RestrictedExpression::new_datetime(rfc3339_of(time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_that_lacks_an_action_is_not_taken() {
        let schema = |text: &str| Schema::from_str(text).unwrap();
        let error = |text: &str| Terms::new(&schema(text)).err();
        assert_eq!(error("entity Agent;"), Some("it has no action `filesystem:read`".into()));
        let without = super::super::SCHEMA.replace("action \"extension:call\"", "action \"extension:use\"");
        assert_eq!(error(&without), Some("it has no action `extension:call`".into()));
        assert_eq!(error(super::super::SCHEMA), None);
    }

    #[test]
    fn every_capability_takes_actions_that_there_are() {
        let capabilities = [
            "filesystem:readwrite:/",
            "network:*:*",
            "network:http:a.com",
            "network:https:a.com",
            "network:tcp:a.com",
            "network:udp:a.com",
            "env:A",
            "secret:A",
            "compute:fuel=1",
            "media:read:",
            "media:write:",
            "extension:a",
        ];
        for capability in capabilities {
            let taken = actions(&capability.parse().unwrap());
            assert!(!taken.is_empty() && taken.iter().all(|action| ACTIONS.contains(action)), "{capability}");
        }
    }
}
