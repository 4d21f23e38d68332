//! Names of entities as they come up in questions: what is written otherwise in a policy is never met, and a `forbid` of
//! it would be none.

use cedar_policy::EntityUid;
use mentat_manifest::{AgentId, Capability, CapabilityError, Host};

use crate::security::principal::Trust;

/// What is wrong with a name that no question holds; `None` for one that can come up.
pub(super) fn mistake(uid: &EntityUid) -> Option<String> {
    let (kind, id) = (uid.type_name().basename(), uid.id().unescaped());
    let form = match kind {
        "Path" => usual(&format!("filesystem:read:{id}")),
        "Domain" => domain(id),
        "Endpoint" => usual(&format!("network:tcp:{id}")),
        "Variable" => usual(&format!("env:{id}")),
        "Secret" => usual(&format!("secret:{id}")),
        "Extension" => usual(&format!("extension:{id}")),
        "Object" => usual(&format!("media:read:{id}")),
        "Budget" => Ok("budget".to_owned()),
        "Agent" => id.parse::<AgentId>().map(|id| id.to_string()).map_err(|error| error.to_string()),
        "Trust" if Trust::from_name(id).is_none() => {
            Err(format!("it is no level of trust; there are {}", Trust::ALL.map(Trust::as_str).join(", ")))
        }
        // Tenants have whatever names the operator gives them; Cedar itself knows the actions.
        _ => return None,
    };
    match form {
        Ok(form) if form == id => None,
        Ok(form) => Some(format!("`{uid}` is never asked for; write `{kind}::\"{}\"`", form.escape_debug())),
        Err(error) => Some(format!("`{uid}` is never asked for: {error}")),
    }
}

/// The name that a question about a capability holds.
fn usual(capability: &str) -> Result<String, String> {
    let capability: Capability = capability.parse().map_err(|error: CapabilityError| error.to_string())?;
    Ok(super::terms::resource_name(&capability).1.into_owned())
}

fn domain(id: &str) -> Result<String, String> {
    let capability = format!("network:tcp:{id}");
    match capability.parse().map_err(|error: CapabilityError| error.to_string())? {
        Capability::Network { host: Host::Name(name) | Host::Suffix(name), .. } => Ok(name),
        _ => Err("it is no name; addresses are asked about by `resource.address`".into()),
    }
}
