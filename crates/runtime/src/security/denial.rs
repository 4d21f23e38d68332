//! A refusal that teaches: which capability, which rule or which missing line, and the line that would grant it.

use std::fmt;

use mentat_manifest::{Capability, CapabilityKind, escape_untrusted};

/// Characters of a capability in a message.
const MAX_CAPABILITY_CHARS: usize = 300;

/// A capability that is not given, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// What was asked for.
    pub capability: Capability,
    /// Why it is not given.
    pub reason: DenialReason,
}

/// Why a capability is not given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DenialReason {
    /// The agent's manifest does not list it; the agent's id.
    NotInManifest(String),
    /// The caller of the execution took it away.
    Narrowed,
    /// These policies forbid it.
    Forbidden(Vec<String>),
    /// No policy permits it; the policy that would.
    NotPermitted(String),
    /// A policy that could not be evaluated, and its error.
    Faulty(String, String),
    /// The user of the command line did not allow it.
    NotAllowed,
    /// The execution has asked for as many different things as one may.
    TooMany(usize),
}

impl DenialReason {
    /// Its word in records and metrics.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::NotInManifest(_) => "not_in_manifest",
            Self::Narrowed => "narrowed",
            Self::Forbidden(_) => "forbidden",
            Self::NotPermitted(_) => "not_permitted",
            Self::Faulty(..) => "faulty_policy",
            Self::NotAllowed => "not_allowed",
            Self::TooMany(_) => "too_many",
        }
    }

    /// The policies that decided.
    #[must_use]
    pub fn policies(&self) -> Vec<String> {
        match self {
            Self::Forbidden(policies) => policies.clone(),
            Self::Faulty(policy, _) => vec![policy.clone()],
            Self::NotInManifest(_)
            | Self::Narrowed
            | Self::NotPermitted(_)
            | Self::NotAllowed
            | Self::TooMany(_) => Vec::new(),
        }
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let capability = escape_untrusted(&self.capability.to_string(), MAX_CAPABILITY_CHARS);
        write!(formatter, "capability `{capability}` ")?;
        match &self.reason {
            DenialReason::NotInManifest(agent) => write!(
                formatter,
                "is not in the manifest of `{agent}`; add `- \"{capability}\"` under `wasm.capabilities`"
            ),
            DenialReason::Narrowed => write!(
                formatter,
                "was taken away by the caller of this execution; it is given by `{capability}` among the \
                 `capabilities` of its sandbox"
            ),
            DenialReason::Forbidden(policies) => {
                write!(formatter, "is forbidden by the policy {}", quoted(policies))
            }
            DenialReason::NotPermitted(policy) => {
                write!(formatter, "is permitted by no policy; this one would: {policy}")
            }
            DenialReason::Faulty(policy, error) => write!(
                formatter,
                "is denied because the policy `{policy}` cannot be evaluated: {error}; the operator must mend it"
            ),
            DenialReason::TooMany(limit) => {
                write!(formatter, "is one more than the {limit} different ones that an execution may ask for")
            }
            DenialReason::NotAllowed => {
                write!(formatter, "is not allowed here; allow it with {}", self.flag(&capability))
            }
        }
    }
}

impl Denial {
    /// The option of `mentat run` that would give it.
    fn flag(&self, capability: &str) -> String {
        match (self.capability.kind(), &self.capability) {
            (CapabilityKind::Filesystem, Capability::Filesystem { path, .. }) if path != "/tmp" => {
                format!("`--mount HOST:{}` (`:rw` to write)", escape_untrusted(path, MAX_CAPABILITY_CHARS))
            }
            (CapabilityKind::Env, Capability::Env(name)) => format!("`--env {name}=VALUE`"),
            (CapabilityKind::Secret, Capability::Secret(name)) => {
                format!("`--secret {name}=HOST`, the value in the environment variable `{name}`")
            }
            (CapabilityKind::Extension, Capability::Extension(name)) => format!("`--extension {name}=URL`"),
            _ => format!("`--allow '{capability}'`"),
        }
    }
}

fn quoted(policies: &[String]) -> String {
    let quoted: Vec<String> = policies.iter().map(|policy| format!("`{policy}`")).collect();
    quoted.join(", ")
}
