//! Capabilities and agents in the words of the schema: which actions a capability takes, and which entity it is about.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::str::FromStr;
use std::time::SystemTime;

use cedar_policy::{Entity, EntityId, EntityTypeName, EntityUid, ParseErrors, RestrictedExpression, Schema};
use mentat_manifest::{Capability, FileAccess, Host, MediaAccess, Port, Protocol};

use crate::security::principal::{Circumstances, Principal, Trust};
use crate::security::time::rfc3339_of;

/// The names of the schema, looked up once.
pub(super) struct Terms {
    actions: HashMap<String, EntityUid>,
    groups: Vec<Entity>,
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
type EntityError = Box<cedar_policy::EntityAttrEvaluationError>;

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

impl Terms {
    /// Looks up the names.
    pub(super) fn new(schema: &Schema) -> Result<Self, Box<ParseErrors>> {
        let actions = schema.actions().map(|action| (action.id().unescaped().to_owned(), action.clone()));
        let trust = EntityTypeName::from_str("Trust")?;
        // Actions and their groups, and each level of trust in those below it.
        let mut groups: Vec<Entity> =
            schema.action_entities().map(|entities| entities.iter().cloned().collect()).unwrap_or_default();
        groups.extend(Trust::ALL.map(|level| {
            let below = Trust::ALL.into_iter().filter(|other| *other < level);
            let parents = below.map(|other| uid(&trust, other.as_str())).collect();
            Entity::new_no_attrs(uid(&trust, level.as_str()), parents)
        }));
        Ok(Self {
            actions: actions.collect(),
            groups,
            trust,
            tenant: EntityTypeName::from_str("Tenant")?,
            agent: EntityTypeName::from_str("Agent")?,
            path: EntityTypeName::from_str("Path")?,
            domain: EntityTypeName::from_str("Domain")?,
            endpoint: EntityTypeName::from_str("Endpoint")?,
            variable: EntityTypeName::from_str("Variable")?,
            secret: EntityTypeName::from_str("Secret")?,
            budget: EntityTypeName::from_str("Budget")?,
            object: EntityTypeName::from_str("Object")?,
            extension: EntityTypeName::from_str("Extension")?,
        })
    }

    /// The action of that name.
    pub(super) fn action(&self, name: &str) -> Option<EntityUid> {
        self.actions.get(name).cloned()
    }

    /// What is the same in every question: the actions and the levels of trust.
    pub(super) fn groups(&self) -> Vec<Entity> {
        self.groups.clone()
    }

    /// Who asks.
    pub(super) fn agent(&self, principal: &Principal) -> Result<Entity, EntityError> {
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
        let parents =
            HashSet::from([uid(&self.tenant, &principal.tenant), uid(&self.trust, principal.trust.as_str())]);
        Entity::new(self.agent_uid(principal), attributes, parents).map_err(Box::new)
    }

    /// The name of who asks.
    pub(super) fn agent_uid(&self, principal: &Principal) -> EntityUid {
        uid(&self.agent, principal.agent.as_str())
    }

    /// The name of what is asked for.
    pub(super) fn resource_uid(&self, capability: &Capability) -> EntityUid {
        match capability {
            Capability::Filesystem { path, .. } => uid(&self.path, path),
            Capability::Network { protocol, host, port } => {
                let port = port.number(*protocol);
                let name = port.map_or_else(|| host.to_string(), |port| format!("{host}:{port}"));
                uid(&self.endpoint, &name)
            }
            Capability::Env(name) => uid(&self.variable, name),
            Capability::Secret(name) => uid(&self.secret, name),
            Capability::Compute { .. } => uid(&self.budget, "budget"),
            Capability::Media { prefix, .. } => uid(&self.object, prefix),
            Capability::Extension(name) => uid(&self.extension, name),
        }
    }

    /// What is asked for.
    pub(super) fn resource(&self, capability: &Capability) -> Result<Entity, EntityError> {
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
        Entity::new(self.resource_uid(capability), attributes, parents).map_err(Box::new)
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
