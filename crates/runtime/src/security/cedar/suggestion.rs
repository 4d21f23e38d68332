//! The lines of policy that would give what was denied, and no more: for a person to copy into a file of policies.
//!
//! Invariant: what is suggested for a capability permits what the capability covers, and nothing else that the schema
//! can tell apart.

use mentat_manifest::{Capability, Host};

use super::terms;

/// Who asks, and for what use, as a scope has them and a condition.
fn scope(agent: &str, capability: &Capability) -> [String; 2] {
    let quoted = |action: &&str| format!("Action::\"{action}\"");
    let action = match terms::actions(capability) {
        [action] => format!("action == {}", quoted(action)),
        actions => format!("action in [{}]", actions.iter().map(quoted).collect::<Vec<_>>().join(", ")),
    };
    [format!("principal == Agent::{}", text(agent)), action]
}

/// The policy that would permit a capability to an agent.
pub(super) fn permission(agent: &str, capability: &Capability) -> String {
    let [principal, action] = scope(agent, capability);
    match resource(capability) {
        Resource::Named(named) => format!("permit ({principal}, {action}, resource {named});"),
        Resource::Such(conditions) if conditions.is_empty() => {
            format!("permit ({principal}, {action}, resource);")
        }
        Resource::Such(conditions) => {
            format!("permit ({principal}, {action}, resource) when {{ {} }};", conditions.join(" && "))
        }
    }
}

/// The clause that would take a capability of an agent out of a `forbid`, whatever else that one forbids.
pub(super) fn exception(agent: &str, capability: &Capability) -> String {
    let (kind, _) = terms::resource_name(capability);
    let mut conditions = scope(agent, capability).to_vec();
    conditions.push(format!("resource is {kind}"));
    match resource(capability) {
        Resource::Named(named) => conditions.push(format!("resource {named}")),
        Resource::Such(others) => conditions.extend(others),
    }
    format!("unless {{ {} }}", conditions.join(" && "))
}

/// What a capability is about.
enum Resource {
    /// The one that is meant by what follows `resource`.
    Named(String),
    /// Those of which all this is true.
    Such(Vec<String>),
}

fn resource(capability: &Capability) -> Resource {
    let (kind, id) = terms::resource_name(capability);
    match capability {
        Capability::Filesystem { .. } => Resource::Named(format!("in {kind}::{}", text(&id))),
        Capability::Env(_) | Capability::Secret(_) | Capability::Extension(_) => {
            Resource::Named(format!("== {kind}::{}", text(&id)))
        }
        Capability::Media { prefix, .. } => {
            Resource::Such(vec![format!("resource.prefix like \"{}*\"", literally(prefix))])
        }
        Capability::Compute { memory, cpu_ms, fuel } => {
            let budgets = [
                ("memory", memory.map(|memory| memory.0)),
                ("cpu_ms", *cpu_ms),
                ("fuel", fuel.map(|fuel| fuel.0)),
            ];
            let within = |(name, most): (&str, Option<u64>)| match most {
                Some(most) => {
                    let most = i64::try_from(most).unwrap_or(i64::MAX);
                    // The one form that Cedar's own check understands.
                    format!("(if resource has {name} then resource.{name} <= {most} else true)")
                }
                None => format!("!(resource has {name})"),
            };
            Resource::Such(budgets.map(within).into())
        }
        Capability::Network { protocol, host, port } => {
            let port = port.number(*protocol);
            let mut conditions = match host {
                Host::Any => Vec::new(),
                Host::Name(_) if port.is_some() => {
                    return Resource::Named(format!("== {kind}::{}", text(&id)));
                }
                Host::Name(name) => vec![format!("resource.host == {}", text(name))],
                Host::Suffix(suffix) => vec![format!("resource.host like \"*.{}\"", literally(suffix))],
                Host::Network { address, prefix } => vec![format!(
                    "resource has address && resource.address.isInRange(ip(\"{address}/{prefix}\"))"
                )],
            };
            conditions.extend(port.map(|port| format!("resource has port && resource.port == {port}")));
            Resource::Such(conditions)
        }
    }
}

/// A string as Cedar writes it.
fn text(value: &str) -> String {
    format!("\"{}\"", value.escape_debug())
}

/// A part of a pattern that stands for itself.
fn literally(value: &str) -> String {
    value.escape_debug().to_string().replace('*', "\\*")
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use mentat_manifest::{ModuleDigest, RuntimeKind};

    use super::super::{Policies, PolicySource, Verdict};
    use super::*;
    use crate::model::ExecutionId;
    use crate::security::principal::{Circumstances, Principal, Trust};

    const ALL: [&str; 24] = [
        "filesystem:read:/data/a \"b\"",
        "filesystem:read:/data/a \"b\"/c",
        "filesystem:readwrite:/other",
        "filesystem:write:/other/x",
        "network:https:api.example.com",
        "network:https:api.example.com:8443",
        "network:https:*.example.com",
        "network:https:example.com",
        "network:*:*.example.com",
        "network:tcp:db.example.com",
        "network:tcp:db.example.com:5432",
        "network:tcp:[2001:db8::1]:5432",
        "network:tcp:10.0.0.0/8:5432",
        "network:tcp:10.1.2.3:5432",
        "env:KEY",
        "secret:KEY",
        "compute:memory=64MB",
        "compute:memory=32MB",
        "compute:memory=64MB,fuel=1",
        "media:read:pictures/",
        "media:read:pictures/*/\\x",
        "media:read:pictures/cat.png",
        "media:read:",
        "extension:x",
    ];

    fn policies(text: &str) -> Policies {
        let source = PolicySource { name: "own".into(), text: text.into() };
        Policies::parse(&[source]).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn permits(policies: &Policies, capability: &Capability) -> bool {
        let principal = Principal {
            agent: "a.b".parse().unwrap(),
            version: "1.2.3".parse().unwrap(),
            module: ModuleDigest::of(b"module"),
            in_place_of: None,
            runtime: RuntimeKind::Wasm,
            tenant: "acme".into(),
            trust: Trust::Untrusted,
            signer: None,
        };
        let circumstances = Circumstances {
            time: SystemTime::UNIX_EPOCH,
            execution: ExecutionId::new(),
            caller: "ci".into(),
            narrowing: None,
        };
        matches!(policies.ask(&principal, capability, &circumstances), Verdict::Permitted(_))
    }

    #[test]
    fn what_is_suggested_permits_what_the_capability_covers_and_no_more() {
        for text in ALL {
            let asked: Capability = text.parse().unwrap();
            let suggestion = permission("a.b", &asked);
            let suggested = policies(&suggestion);
            for other in ALL.map(|text| text.parse::<Capability>().unwrap()) {
                assert_eq!(permits(&suggested, &other), asked.covers(&other), "{suggestion} for {other}");
            }
            assert!(!permits(&policies(&permission("a.c", &asked)), &asked), "for another agent");
        }
    }

    #[test]
    fn what_is_excepted_from_a_forbid_is_what_the_capability_covers_and_no_more() {
        for text in ALL {
            let asked: Capability = text.parse().unwrap();
            let clause = exception("a.b", &asked);
            let policies = policies(&format!(
                "permit (principal, action, resource);\nforbid (principal, action, resource) when {{ true }} {clause};"
            ));
            for other in ALL.map(|text| text.parse::<Capability>().unwrap()) {
                assert_eq!(permits(&policies, &other), asked.covers(&other), "{clause} for {other}");
            }
            let others = exception("a.c", &asked);
            let policies = self::policies(&format!(
                "permit (principal, action, resource);\nforbid (principal, action, resource) {others};"
            ));
            assert!(!permits(&policies, &asked), "for another agent: {others}");
        }
    }
}
