//! A refusal that teaches: which capability, which rule or which missing line, and the line that would grant it.

use std::fmt;

use mentat_manifest::{Capability, FileAccess, ModuleDigest, escape_untrusted};

use super::offers::SCRATCH;

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
    /// These policies forbid it; the clause that would except it.
    Forbidden(Vec<String>, String),
    /// No policy permits it; the policy that would.
    NotPermitted(String),
    /// A policy that could not be evaluated, and its error.
    Faulty(String, String),
    /// The user of the command line did not allow it.
    NotAllowed,
    /// The execution has asked for as many different things as one may.
    TooMany(usize),
    /// The sandbox keeps it back, whatever was granted; why.
    Sandbox(&'static str),
    /// It could not be recorded: the audit log cannot be written.
    Unrecorded,
    /// It is refused to this module, in whose place an image runs; why.
    InPlaceOf(ModuleDigest, Box<Self>),
}

impl DenialReason {
    /// Its word in records and metrics.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::NotInManifest(_) => "not_in_manifest",
            Self::Narrowed => "narrowed",
            Self::Forbidden(..) => "forbidden",
            Self::NotPermitted(_) => "not_permitted",
            Self::Faulty(..) => "faulty_policy",
            Self::NotAllowed => "not_allowed",
            Self::TooMany(_) => "too_many",
            Self::Sandbox(_) => "sandbox",
            Self::Unrecorded => "unrecorded",
            Self::InPlaceOf(_, reason) => reason.as_str(),
        }
    }

    /// The module that it is refused to, where that is why the image in its place does not get it.
    #[must_use]
    pub fn refused_to(&self) -> Option<&ModuleDigest> {
        match self {
            Self::InPlaceOf(module, _) => Some(module),
            Self::NotInManifest(_)
            | Self::Narrowed
            | Self::Forbidden(..)
            | Self::NotPermitted(_)
            | Self::Faulty(..)
            | Self::NotAllowed
            | Self::TooMany(_)
            | Self::Sandbox(_)
            | Self::Unrecorded => None,
        }
    }

    /// The policies that decided.
    #[must_use]
    pub fn policies(&self) -> Vec<String> {
        match self {
            Self::Forbidden(policies, _) => policies.clone(),
            Self::Faulty(policy, _) => vec![policy.clone()],
            Self::InPlaceOf(_, reason) => reason.policies(),
            Self::NotInManifest(_)
            | Self::Narrowed
            | Self::NotPermitted(_)
            | Self::NotAllowed
            | Self::TooMany(_)
            | Self::Sandbox(_)
            | Self::Unrecorded => Vec::new(),
        }
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let capability = escape_untrusted(&self.capability.to_string(), MAX_CAPABILITY_CHARS);
        write!(formatter, "capability `{capability}` ")?;
        self.write_reason(formatter, &capability, &self.reason)
    }
}

impl Denial {
    /// The rest of a sentence that begins with the capability.
    fn write_reason(
        &self,
        formatter: &mut fmt::Formatter<'_>,
        capability: &str,
        reason: &DenialReason,
    ) -> fmt::Result {
        match reason {
            DenialReason::NotInManifest(agent) => {
                // As a quoted string of YAML has them.
                let line = capability.replace('\\', "\\\\").replace('"', "\\\"");
                write!(
                    formatter,
                    "is not in the manifest of `{agent}`; add `- \"{line}\"` under `wasm.capabilities`"
                )
            }
            DenialReason::Narrowed => write!(
                formatter,
                "was taken away by the caller of this execution; it is given by `{capability}` among the \
                 `capabilities` of its sandbox"
            ),
            DenialReason::Forbidden(policies, exception) => write!(
                formatter,
                "is forbidden by the policy {}; the operator excepts it there with `{exception}`",
                quoted(policies)
            ),
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
            DenialReason::Sandbox(why) => write!(formatter, "is kept back by the sandbox: {why}"),
            DenialReason::Unrecorded => write!(
                formatter,
                "is given to nobody while the audit log cannot be written; it can be asked for again when the operator \
                 has mended that, or sets `audit.on_failure = \"continue\"`"
            ),
            DenialReason::NotAllowed => {
                write!(formatter, "is not allowed here; allow it with {}", self.option(capability))
            }
            DenialReason::InPlaceOf(module, reason) => {
                write!(formatter, "of the module `{module}`, in whose place the image is executed, ")?;
                self.write_reason(formatter, capability, reason)
            }
        }
    }

    /// The option of `mentat run` that would give it.
    fn option(&self, capability: &str) -> String {
        match &self.capability {
            Capability::Filesystem { access, path } if path != SCRATCH => {
                let mode = match access {
                    FileAccess::Read => "",
                    FileAccess::Write => ":wo",
                    FileAccess::ReadWrite => ":rw",
                };
                let guest = escape_untrusted(path, MAX_CAPABILITY_CHARS);
                format!("`--mount {}`", for_a_shell(&format!("HOST:{guest}{mode}")))
            }
            Capability::Env(name) => format!("`--env {name}=VALUE`"),
            Capability::Secret(name) => {
                format!("`--secret {name}=HOST`, its value in the environment variable `{name}`")
            }
            Capability::Extension(name) => format!("`--extension {name}=URL`"),
            _ => format!("`--allow {}`", for_a_shell(capability)),
        }
    }
}

/// One word of a shell's.
fn for_a_shell(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

fn quoted(policies: &[String]) -> String {
    let quoted: Vec<String> = policies.iter().map(|policy| format!("`{policy}`")).collect();
    quoted.join(", ")
}
