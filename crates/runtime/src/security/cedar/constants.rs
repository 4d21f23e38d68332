//! What a policy compares with, and what it names, that is well formed and yet true of no request: a host in capitals, a
//! path that begins nowhere, an endpoint without the port that HTTP always has. A `forbid` of it would be none.

use cedar_policy::{ActionConstraint, Effect, EntityUid, Policy, ResourceConstraint};
use mentat_manifest::{Capability, Host, Port};
use serde_json::Value;

use crate::security::principal::Trust;

/// As they are written, and what is wrong with them.
pub(super) fn mistakes(policy: &Policy) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = resource(policy).into_iter().collect();
    if let Ok(json) = policy.to_json() {
        conditions(json.get("conditions").unwrap_or(&Value::Null), &mut found);
    }
    found
}

/// What is wrong with the resource of a scope.
fn resource(policy: &Policy) -> Option<(String, String)> {
    match policy.resource_constraint() {
        ResourceConstraint::In(uid) | ResourceConstraint::IsIn(_, uid) if is_prefix(policy, &uid) => {
            let name = uid.id().unescaped().escape_debug().to_string();
            let message =
                format!("objects lie in nothing; write `resource.prefix like \"{name}*\"` in a `when`");
            Some((uid.to_string(), message))
        }
        ResourceConstraint::Eq(uid) => Some((uid.to_string(), portless(policy, &uid)?)),
        _ => None,
    }
}

/// Whether an object stands for those whose names begin so. One that is permitted may well be meant by itself.
fn is_prefix(policy: &Policy, uid: &EntityUid) -> bool {
    let name = uid.id().unescaped();
    let is_open = name.is_empty() || name.ends_with('/') || policy.effect() == Effect::Forbid;
    kind(uid) == "Object" && is_open
}

/// Why an endpoint without a port is none of those that are asked about.
fn portless(policy: &Policy, uid: &EntityUid) -> Option<String> {
    let name = uid.id().unescaped();
    let host = match format!("network:tcp:{name}").parse() {
        Ok(Capability::Network { host, port: Port::Unsaid, .. }) if kind(uid) == "Endpoint" => host,
        _ => return None,
    };
    let is_http = |action: &EntityUid| ["network:http", "network:https"].contains(&action.id().unescaped());
    let only_http = match policy.action_constraint() {
        ActionConstraint::Any => false,
        ActionConstraint::Eq(action) => is_http(&action),
        ActionConstraint::In(actions) => actions.iter().all(is_http),
    };
    let instead = match host {
        Host::Name(name) => format!("write `{name}:443` with its port, or `resource in Domain::\"{name}\"`"),
        Host::Network { .. } => {
            format!("write `{name}:443` with its port, or `resource.address` in a `when`")
        }
        // What asks for all hosts may well say no port.
        Host::Any | Host::Suffix(_) => return None,
    };
    match (only_http, policy.effect()) {
        (true, _) => Some(format!("`{uid}` is never asked for: HTTP always has a port; {instead}")),
        (false, Effect::Forbid) => Some(format!(
            "`{uid}` is asked for only where no port is said, which leaves all with a port; {instead}"
        )),
        (false, Effect::Permit) => None,
    }
}

/// Looks for comparisons with what an attribute never is, in the conditions of a policy in Cedar's JSON form.
fn conditions(json: &Value, found: &mut Vec<(String, String)>) {
    match json {
        Value::Array(items) => items.iter().for_each(|item| conditions(item, found)),
        Value::Object(fields) => {
            for (operator, operands) in fields {
                let mistake = match operator.as_str() {
                    "==" | "!=" => {
                        equal(operands, ["left", "right"]).or_else(|| equal(operands, ["right", "left"]))
                    }
                    "like" => like(operands),
                    _ => None,
                };
                found.extend(mistake);
                conditions(operands, found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Looks at an attribute on one side of a comparison and a text on the other.
fn equal(operands: &Value, [attribute, value]: [&str; 2]) -> Option<(String, String)> {
    let (name, value) = (name_of(operands.get(attribute)?)?, operands.get(value)?.get("Value")?.as_str()?);
    let usual = match name.as_str() {
        "resource.path" => match format!("filesystem:read:{value}").parse() {
            Ok(Capability::Filesystem { path, .. }) => Ok(path),
            _ => Err("paths begin with `/`, and hold no `..`".to_owned()),
        },
        "resource.host" => match format!("network:tcp:{value}").parse() {
            Ok(Capability::Network { host, port: Port::Unsaid, .. }) => Ok(host.to_string()),
            _ => Err("it is a name, `*.` and a name, or an address, and no port".to_owned()),
        },
        "principal.trust" if Trust::from_name(value).is_none() => {
            Err(format!("there are {}", Trust::ALL.map(Trust::as_str).join(", ")))
        }
        _ => return None,
    };
    let written = format!("\"{}\"", value.escape_debug());
    match usual {
        Ok(usual) if usual == value => None,
        Ok(usual) => {
            let message = format!("`{name}` is never {written}; write \"{}\"", usual.escape_debug());
            Some((written, message))
        }
        Err(why) => Some((written.clone(), format!("`{name}` is never {written}: {why}"))),
    }
}

fn like(operands: &Value) -> Option<(String, String)> {
    let (name, pattern) = (name_of(operands.get("left")?)?, operands.get("pattern")?.as_array()?);
    let literal = |part: &Value| part.get("Literal").and_then(Value::as_str).map(str::to_owned);
    let literals: String = pattern.iter().filter_map(literal).collect();
    let first = pattern.first().and_then(literal).unwrap_or_default();
    let why = match name.as_str() {
        "resource.path" if !first.is_empty() && !first.starts_with('/') => "paths begin with `/`",
        "resource.host" if literals.contains(|other: char| other.is_uppercase()) => "hosts are in lower case",
        "resource.host" if literals.contains("://") => "hosts have no scheme",
        _ => return None,
    };
    // Patterns are written in more than one way; what is not found has no place.
    let written = format!("\"{}", first.escape_debug());
    Some((written, format!("`{name}` is never like that: {why}")))
}

/// `resource.host`, for an attribute of who asks or of what is asked for.
fn name_of(json: &Value) -> Option<String> {
    let access = json.get(".")?;
    let of = access.get("left")?.get("Var")?.as_str().filter(|of| ["principal", "resource"].contains(of))?;
    Some(format!("{of}.{}", access.get("attr")?.as_str()?))
}

fn kind(uid: &EntityUid) -> &str {
    uid.type_name().basename()
}
