//! `mentat policy replay`: what would have come out differently.

use std::process::ExitCode;

use mentat_manifest::escape_untrusted;
use mentat_runtime::security::audit::{DecisionPart, Record};
use mentat_runtime::security::cedar::{Policies, Verdict};
use serde::Serialize;

use super::{placed, sources};
use crate::args::PolicyReplayArguments;
use crate::commands::audit::records;
use crate::output::{self, Failure};

/// Characters of a policy's id, or of its error, that are shown.
const MAX_POLICY_CHARS: usize = 200;

#[derive(Serialize)]
struct Reply {
    /// Made again.
    decisions: usize,
    /// Not made again, since manifests or callers decided and policies were not asked.
    not_asked: usize,
    /// Not made again, since not all that the policies saw fitted into the record.
    incomplete: usize,
    changes: Vec<Change>,
}

/// A decision that would have come out differently.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Change {
    sequence: u64,
    agent: String,
    capability: String,
    was: String,
    would_be: String,
}

pub(super) fn run(arguments: &PolicyReplayArguments) -> Result<ExitCode, Failure> {
    let policies = Policies::parse(&sources(&arguments.policy)?).map_err(|error| {
        let lines: Vec<String> = error.0.iter().map(|problem| placed(&arguments.policy, problem)).collect();
        Failure::invalid(format!("the policies are not in order: {}", lines.join("; ")))
    })?;
    let (mut decisions, mut not_asked, mut incomplete, mut changes) = (0, 0, 0, Vec::new());
    for record in records(&arguments.audit, &arguments.archive)? {
        let record = record?;
        let decision = record.activity().and_then(|activity| activity.security.decision.as_ref());
        match (again(&policies, &record), decision) {
            (Some(change), _) => {
                decisions += 1;
                changes.extend(change);
            }
            (None, Some(decision)) if decision.is_of_policies() => incomplete += 1,
            (None, Some(_)) => not_asked += 1,
            (None, None) => {}
        }
    }
    if arguments.json.json {
        output::write_json(&Reply { decisions, not_asked, incomplete, changes })?;
    } else {
        let mut text = String::new();
        for Change { sequence, agent, capability, was, would_be } in &changes {
            text.push_str(&format!(
                "record {sequence}: {agent}: `{capability}` was {was}, would be {would_be}\n"
            ));
        }
        text.push_str(&format!("{} of {decisions} decisions would come out differently\n", changes.len()));
        if not_asked > 0 {
            text.push_str(&format!(
                "{not_asked} more were up to manifests or callers, and no policy was asked\n"
            ));
        }
        if incomplete > 0 {
            text.push_str(&format!(
                "{incomplete} more were not made again: not all that the policies saw is in the record\n"
            ));
        }
        output::write_stdout(text.as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes a decision again: `None` where policies were not asked, else what is different, if anything.
fn again(policies: &Policies, record: &Record) -> Option<Option<Change>> {
    let question = record.question()?;
    let decision = record.activity()?.security.decision.as_ref()?;
    let verdict = policies.ask(&question.principal, &question.capability, &question.circumstances);
    if matches!(verdict, Verdict::Permitted(_)) == decision.granted {
        return Some(None);
    }
    Some(Some(Change {
        sequence: record.sequence,
        agent: question.principal.agent.to_string(),
        capability: question.capability.to_string(),
        was: was(decision),
        would_be: would_be(&verdict),
    }))
}

fn was(decision: &DecisionPart) -> String {
    let by = || escape_untrusted(&decision.policies.join(", "), MAX_POLICY_CHARS);
    let was = match (decision.granted, decision.policies.is_empty()) {
        (true, _) => format!("permitted by {}", by()),
        (false, true) => "permitted by nothing".into(),
        (false, false) => format!("denied by {}", by()),
    };
    match &decision.refused_to {
        Some(module) => to_module(&was, &escape_untrusted(module, MAX_POLICY_CHARS)),
        None => was,
    }
}

/// That it was said of a module, and not of the image that was executed in its place.
fn to_module(said: &str, module: &str) -> String {
    format!("{said}, for the module {module}")
}

fn would_be(verdict: &Verdict) -> String {
    let by = |policies: &[String]| escape_untrusted(&policies.join(", "), MAX_POLICY_CHARS);
    match verdict {
        Verdict::Permitted(policies) => format!("permitted by {}", by(policies)),
        Verdict::Forbidden(policies) => format!("denied by {}", by(policies)),
        Verdict::Unmentioned => "permitted by nothing".into(),
        Verdict::Faulty(policy, error) => {
            let error = escape_untrusted(error, MAX_POLICY_CHARS);
            format!("denied, since `{policy}` cannot be evaluated: {error}")
        }
        Verdict::InPlaceOf(module, refused) => to_module(&would_be(refused), &module.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use mentat_manifest::{ModuleDigest, RuntimeKind};
    use mentat_runtime::model::ExecutionId;
    use mentat_runtime::security::cedar::PolicySource;
    use mentat_runtime::security::denial::DenialReason;
    use mentat_runtime::security::principal::{Circumstances, Principal, Trust};

    use super::*;

    fn policies(text: &str) -> Policies {
        Policies::parse(&[PolicySource { name: "own".into(), text: text.into() }]).unwrap()
    }

    #[test]
    fn a_decision_on_an_image_in_place_of_a_module_is_made_again_for_both() {
        let (image, module) = (ModuleDigest::of(b"image"), ModuleDigest::of(b"module"));
        let principal = Principal {
            agent: "a.b".parse().unwrap(),
            version: "1.0.0".parse().unwrap(),
            module: image,
            in_place_of: Some(module),
            runtime: RuntimeKind::Container,
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
        let capability = "env:KEY".parse().unwrap();
        let forbidden = DenialReason::Forbidden(vec!["never".into()], String::new());
        let denied = DenialReason::InPlaceOf(module, Box::new(forbidden));
        let record = Record::of_decision(&principal, &circumstances, &capability, Err(&denied));

        let everybody = "@id(\"all\") permit (principal, action, resource);";
        let forbid = |digest: &ModuleDigest| {
            format!(
                "@id(\"never\") forbid (principal, action, resource) when {{ principal.module == \"{digest}\" }};"
            )
        };
        let same = policies(&format!("{everybody}{}", forbid(&module)));
        assert_eq!(again(&same, &record), Some(None), "the policies that denied it deny it again");
        let change = again(&policies(everybody), &record).flatten().unwrap();
        assert_eq!(change.was, format!("denied by never, for the module {module}"));
        assert_eq!(change.would_be, "permitted by all");

        // A record of before says nothing of a module, and is asked about as what ran.
        let alone = Principal { in_place_of: None, ..principal };
        let unmentioned = DenialReason::NotPermitted(String::new());
        let record = Record::of_decision(&alone, &circumstances, &capability, Err(&unmentioned));
        let change = again(&same, &record).flatten().unwrap();
        assert_eq!(
            (change.was.as_str(), change.would_be.as_str()),
            ("permitted by nothing", "permitted by all")
        );
    }
}
