//! Examples of decisions, as they stand beside policies: who asks for what, and what must come of it.

use std::fmt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use chrono::{DateTime, Utc};
use mentat_manifest::{AgentId, AgentVersion, Capability, ModuleDigest, RuntimeKind};
use mentat_runtime::model::ExecutionId;
use mentat_runtime::security::cedar::{Policies, Verdict};
use mentat_runtime::security::principal::{Circumstances, Principal, Trust};
use serde::{Deserialize, Serialize};

/// One example.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Example {
    /// What it shows.
    name: String,
    agent: Agent,
    /// What is asked for, in the form of the manifest.
    capability: String,
    #[serde(default)]
    context: Context,
    expect: Expectation,
    /// The policy that must have decided, where that matters.
    by: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Agent {
    id: AgentId,
    version: Option<AgentVersion>,
    tenant: Option<String>,
    trust: Option<String>,
    signer: Option<String>,
    module: Option<ModuleDigest>,
    /// The module in whose place `module`, an image, is executed.
    in_place_of: Option<ModuleDigest>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Context {
    /// RFC 3339; now where left out.
    time: Option<DateTime<Utc>>,
    caller: Option<String>,
    narrowing: Option<Vec<String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Expectation {
    Allow,
    Deny,
}

/// An example that came out otherwise.
#[derive(Debug, Serialize)]
pub(crate) struct Failed {
    file: String,
    example: String,
    message: String,
}

impl Example {
    /// Reads a file of examples.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn read(text: &[u8]) -> Result<Vec<Self>, String> {
        let text = std::str::from_utf8(text).map_err(|_| "the file is not UTF-8".to_owned())?;
        serde_saphyr::from_str(text).map_err(|error| error.to_string())
    }

    /// Asks the policies.
    ///
    /// # Errors
    /// What came out instead.
    pub(crate) fn check(&self, policies: &Policies, file: &Path) -> Result<(), Failed> {
        let wrong = |message: String| Failed {
            file: file.display().to_string(),
            example: self.name.clone(),
            message,
        };
        let capability: Capability = self.capability.parse().map_err(|error| wrong(format!("{error}")))?;
        let trust = match &self.agent.trust {
            None => Trust::default(),
            Some(name) => Trust::from_name(name).ok_or_else(|| {
                let names = Trust::ALL.map(Trust::as_str).join(", ");
                wrong(format!("trust `{name}` is unknown; there are {names}"))
            })?,
        };
        let verdict = policies.ask(&self.principal(trust), &capability, &self.circumstances());
        let (found, by, decided) = told(&verdict);
        if found != self.expect {
            return Err(wrong(format!("`{}` is {decided}", self.capability)));
        }
        match &self.by {
            Some(policy) if !by.contains(policy) => {
                Err(wrong(format!("`{}` is {decided}, not by {policy}", self.capability)))
            }
            _ => Ok(()),
        }
    }

    fn principal(&self, trust: Trust) -> Principal {
        let Agent { id, version, tenant, signer, module, in_place_of, .. } = &self.agent;
        Principal {
            agent: id.clone(),
            version: version.clone().unwrap_or_default(),
            module: module.unwrap_or_else(|| ModuleDigest::of(b"")),
            in_place_of: *in_place_of,
            runtime: if in_place_of.is_some() { RuntimeKind::Container } else { RuntimeKind::Wasm },
            tenant: tenant.as_deref().unwrap_or("default").into(),
            trust,
            signer: signer.as_deref().map(Into::into),
        }
    }

    fn circumstances(&self) -> Circumstances {
        let since = self.context.time.and_then(|time| u64::try_from(time.timestamp_millis()).ok());
        let at = |since| UNIX_EPOCH + std::time::Duration::from_millis(since);
        Circumstances {
            time: since.map_or_else(SystemTime::now, at),
            execution: ExecutionId::new(),
            caller: self.context.caller.as_deref().unwrap_or("local").into(),
            narrowing: self.context.narrowing.clone().map(Into::into),
        }
    }
}

/// What came out, by which policies, and in words.
fn told(verdict: &Verdict) -> (Expectation, &[String], String) {
    match verdict {
        Verdict::Permitted(by) => (Expectation::Allow, by, format!("allowed by {}", by.join(", "))),
        Verdict::Forbidden(by) => (Expectation::Deny, by, format!("forbidden by {}", by.join(", "))),
        Verdict::Unmentioned => (Expectation::Deny, &[], "denied, since no policy permits it".into()),
        Verdict::Faulty(policy, error) => {
            (Expectation::Deny, &[], format!("denied, since `{policy}` cannot be evaluated: {error}"))
        }
        Verdict::InPlaceOf(module, refused) => {
            let (found, by, decided) = told(refused);
            (found, by, format!("{decided}, for the module {module}"))
        }
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}: {}", self.file, self.example, self.message)
    }
}

#[cfg(test)]
mod tests {
    use mentat_runtime::security::cedar::PolicySource;

    use super::*;

    const POLICIES: &str = "@id(\"readers\") permit (principal in Trust::\"signed\", action == Action::\"env:read\", \
        resource) when { context.time < datetime(\"2027-01-01\") };";

    fn check(example: &str) -> Result<(), String> {
        check_by(POLICIES, example)
    }

    fn check_by(policies: &str, example: &str) -> Result<(), String> {
        let source = PolicySource { name: "own".into(), text: policies.into() };
        let policies = Policies::parse(&[source]).unwrap();
        let examples = Example::read(example.as_bytes())?;
        examples.iter().try_for_each(|example| {
            example.check(&policies, Path::new("tests.yaml")).map_err(|failed| failed.to_string())
        })
    }

    #[test]
    fn an_example_passes_or_says_what_came_out_instead() {
        let ask = |rest: &str| check(&format!("- name: n\n  capability: env:KEY\n{rest}"));
        let signed = "  agent: { id: a.b, trust: signed }\n  context: { time: 2026-11-24T09:00:00Z }\n";
        ask(&format!("{signed}  expect: allow\n  by: readers\n")).unwrap();
        let error = ask(&format!("{signed}  expect: deny\n")).unwrap_err();
        assert_eq!(error, "tests.yaml: n: `env:KEY` is allowed by readers");
        let error = ask(&format!("{signed}  expect: allow\n  by: other\n")).unwrap_err();
        assert!(error.contains("not by other"), "{error}");
        ask("  agent: { id: a.b }\n  expect: deny\n").unwrap();
        let late = "  agent: { id: a.b, trust: verified }\n  context: { time: 2027-11-24T09:00:00Z }\n  expect: deny\n";
        ask(late).unwrap();
        let digest = |bytes: &[u8]| ModuleDigest::of(bytes).to_string();
        let image = digest(b"image");
        let pinned = format!(
            "@id(\"image\") permit (principal, action, resource) when {{ principal.module == \"{image}\" }};"
        );
        let replaced = digest(b"module");
        let of_image = |rest: &str| {
            let example = format!(
                "- name: n\n  capability: env:KEY\n  agent: {{ id: a.b, module: \"{image}\"{rest} }}\n"
            );
            check_by(&pinned, &format!("{example}  expect: allow\n"))
        };
        of_image("").unwrap();
        let error = of_image(&format!(", in_place_of: \"{replaced}\"")).unwrap_err();
        let expected = format!("`env:KEY` is denied, since no policy permits it, for the module {replaced}");
        assert!(error.ends_with(&expected), "{error}");
        assert!(ask("  agent: { id: a.b, trust: great }\n  expect: deny\n").unwrap_err().contains("great"));
        assert!(ask("  agent: { id: a.b }\n  expects: deny\n").unwrap_err().contains("expects"));
    }
}
