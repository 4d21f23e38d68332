//! From the text of a file to its policies, or to everything that is wrong with it, each with its place. A policy that
//! could never decide anything is wrong as well: a `forbid` that is misspelt would be a permission.

use std::collections::{BTreeMap, HashMap};
use std::str::FromStr;

use cedar_policy::{
    ActionConstraint, EntityUid, Policy, PolicyId, PolicySet, Schema, ValidationError, ValidationMode,
    ValidationWarning, Validator,
};
use mentat_manifest::escape_untrusted;
use miette::Diagnostic;

use super::nesting::{self, MAX_NESTING};
use super::{MAX_PROBLEMS, MAX_TEXT_CHARS, PolicyProblem, PolicySource, constants, names};

/// What a syntax error is told with, since the parser names the next token and not what is missing before it.
const FORM: &str =
    "a policy is `permit` or `forbid`, its scope in brackets, any `when { … }` and `unless { … }`, and `;`";

/// Reads policies that fit a schema.
pub(super) struct Reader {
    validator: Validator,
    groups: Vec<EntityUid>,
}

impl Reader {
    pub(super) fn new(schema: Schema) -> Self {
        let groups = schema.action_groups().cloned().collect();
        Self { validator: Validator::new(schema), groups }
    }

    /// The policies of one file under ids of their own: `@id` where there is one, else the file's name and a number.
    pub(super) fn read(&self, source: &PolicySource) -> Result<Vec<Policy>, Vec<PolicyProblem>> {
        let text = nesting::readable(&source.text).map_err(|place| {
            let message = format!(
                "expressions lie too deep in one another, the limit is {MAX_NESTING}; break the policy into several, or \
                 list what it compares with in a set, as `[…].contains(…)`"
            );
            vec![problem_at(source, Some(place), &message)]
        })?;
        let parsed = PolicySet::from_str(text).map_err(|errors| {
            let told = |error| problem(source, Some(error), &syntax(error));
            errors.iter().take(MAX_PROBLEMS).map(|error| told(error)).collect::<Vec<_>>()
        })?;
        let mut problems = Vec::new();
        if parsed.num_of_templates() > 0 {
            let message = "templates (`?principal`, `?resource`) are linked by nobody here; write policies";
            problems.push(problem(source, None, message));
        }
        let policies = named(source, &parsed);
        problems.extend(self.mistakes(source, &parsed, &policies));
        if !problems.is_empty() {
            problems.sort_by_key(|problem| (problem.line, problem.column));
            return Err(problems);
        }
        let renamed = policies.into_iter().map(|(policy, name)| policy.new_id(PolicyId::new(name)));
        Ok(renamed.collect())
    }

    /// What a policy says that does not fit the schema, or fits nothing that is ever asked.
    fn mistakes(
        &self,
        source: &PolicySource,
        parsed: &PolicySet,
        policies: &[(Policy, String)],
    ) -> Vec<PolicyProblem> {
        let names: HashMap<&PolicyId, &str> =
            policies.iter().map(|(policy, name)| (policy.id(), name.as_str())).collect();
        let name_of = |id: &PolicyId| names.get(id).copied().unwrap_or_default();
        let found = self.validator.validate(parsed, ValidationMode::Strict);
        // One mistake is an error for each kind of request that the policy applies to.
        let mut by_place: BTreeMap<(usize, String), Vec<&ValidationError>> = BTreeMap::new();
        for error in found.validation_errors() {
            let place = (offset(error).unwrap_or(0), error.policy_id().to_string());
            by_place.entry(place).or_default().push(error);
        }
        let mut problems = Vec::new();
        for errors in by_place.values() {
            let Some(first) = errors.iter().min_by_key(ToString::to_string) else { continue };
            let mut message = of_policy(name_of(first.policy_id()), &said(*first));
            if errors.len() > 1 {
                message.push_str(
                    "; the policy speaks of several kinds of request, and not all have this: name its `action`, or test \
                     it first, as by `resource is Path &&`",
                );
            }
            problems.push(problem(source, Some(*first), &message));
        }
        for (policy, name) in policies {
            for (written, message) in self.never_asked(policy) {
                let found = source.text.find(&written);
                problems.push(problem_at(source, found, &of_policy(name, &message)));
            }
        }
        if problems.is_empty() {
            for (policy, name) in policies {
                let of_it = |warning: &&ValidationWarning| warning.policy_id() == policy.id();
                let warning = found
                    .validation_warnings()
                    .filter(of_it)
                    .find_map(|warning| Some((warning, mistake(warning)?)));
                if let Some((warning, message)) = warning {
                    problems.push(problem(source, Some(warning), &of_policy(name, &message)));
                }
            }
        }
        problems
    }

    /// Names in a policy that no question ever holds: as they are written, and what is wrong with them.
    fn never_asked(&self, policy: &Policy) -> Vec<(String, String)> {
        let mut found: Vec<(String, String)> = policy
            .entity_literals()
            .iter()
            .filter_map(|uid| Some((uid.to_string(), names::mistake(uid)?)))
            .collect();
        if let ActionConstraint::Eq(action) = policy.action_constraint()
            && self.groups.contains(&action)
        {
            let message = format!("`{action}` is a group, and no request is one; write `action in {action}`");
            found.push((action.to_string(), message));
        }
        found.extend(constants::mistakes(policy));
        found.sort();
        found.dedup();
        found
    }
}

/// Policies with the names that they get, in the order of the file.
fn named(source: &PolicySource, parsed: &PolicySet) -> Vec<(Policy, String)> {
    let mut policies: Vec<Policy> = parsed.policies().cloned().collect();
    // `policy0`, `policy1`, …: the order in the file.
    policies.sort_by_key(|policy| ordinal(policy.id()));
    let named = policies.into_iter().zip(1..).map(|(policy, number)| {
        let name = match policy.annotation("id") {
            Some(id) if !id.is_empty() => escape_untrusted(id, MAX_TEXT_CHARS),
            _ => format!("{}#{number}", source.name.trim_end_matches(".cedar")),
        };
        (policy, name)
    });
    named.collect()
}

fn ordinal(id: &PolicyId) -> usize {
    id.to_string().trim_start_matches("policy").parse().unwrap_or(usize::MAX)
}

/// Warnings of Cedar's that are errors here: what can never apply, and what hides what it says. Scripts that are mixed
/// are how names of people and firms are written; whatever else Cedar comes to warn of is not known to be a mistake.
fn mistake(warning: &ValidationWarning) -> Option<String> {
    match warning {
        ValidationWarning::InvalidActionApplication(_) => {
            let message =
                "it can never apply: its action is never asked for with such a principal and resource";
            let help = warning.help().map_or_else(String::new, |help| format!("; {help}"));
            Some(format!("{message}{help}"))
        }
        ValidationWarning::ImpossiblePolicy(_) => {
            Some("it can never apply: what it asks is true of no request".into())
        }
        ValidationWarning::BidiCharsInString(_) | ValidationWarning::BidiCharsInIdentifier(_) => {
            Some(said(warning))
        }
        _ => None,
    }
}

/// The message under the name that the operator knows the policy by.
fn of_policy(name: &str, message: &str) -> String {
    let message = match message.strip_prefix("for policy `") {
        Some(rest) => rest.split_once("`, ").map_or(message, |(_, message)| message),
        None => message,
    };
    format!("policy `{name}`: {message}")
}

/// What is wrong, with Cedar's own advice.
fn said(error: &dyn Diagnostic) -> String {
    match error.help() {
        Some(help) => format!("{error}; {help}"),
        None => error.to_string(),
    }
}

fn syntax(error: &dyn Diagnostic) -> String {
    let mut message = error.to_string();
    // A syntax error names the token it met, and what it wanted instead in its label.
    if let Some(label) =
        error.labels().and_then(|mut labels| labels.find_map(|label| Some(label.label()?.to_owned())))
    {
        message.push_str(&format!(" ({label})"));
    }
    if message.starts_with("unexpected ") {
        message.push_str(&format!("; {FORM}"));
    } else if let Some(help) = error.help() {
        message.push_str(&format!("; {help}"));
    }
    message
}

fn offset(error: &dyn Diagnostic) -> Option<usize> {
    error.labels()?.next().map(|label| label.offset())
}

/// A problem with a file, at the place of an error where there is one.
pub(super) fn problem(source: &PolicySource, error: Option<&dyn Diagnostic>, message: &str) -> PolicyProblem {
    problem_at(source, error.and_then(offset), message)
}

fn problem_at(source: &PolicySource, offset: Option<usize>, message: &str) -> PolicyProblem {
    let (line, column) = offset.map_or((0, 0), |offset| place(&source.text, offset));
    let message = escape_untrusted(message, MAX_TEXT_CHARS);
    PolicyProblem { file: source.name.clone(), line, column, message }
}

/// Line and column of a byte, from 1.
fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset.min(text.len())).unwrap_or(text);
    let line = before.rsplit('\n').next().unwrap_or_default();
    (before.matches('\n').count() + 1, line.chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::super::{Policies, PolicyError, PolicySource};

    fn problems(text: &str) -> Vec<String> {
        match Policies::parse(&[PolicySource { name: "own".into(), text: text.into() }]) {
            Ok(_) => Vec::new(),
            Err(PolicyError(problems)) => problems.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn usual_mistakes_are_told_once_with_their_place_and_what_to_write() {
        let mut wrong = Vec::new();
        for (text, place, says) in [
            ("permit (principal, action, resource)\n", "1:37", "and `;`"),
            ("permit (principal, action, resource)\npermit (principal, action, resource);", "2:8", "and `;`"),
            ("allow (principal, action, resource);", "1:1", "`permit` or `forbid`"),
            ("permit (principal, action, resource) where { true };", "1:38", "`when` or `unless`"),
            ("permit (principal in Tenants::\"a\", action, resource);", "1:22", "did you mean `Tenant`"),
            ("permit (principal == \"a.b\", action, resource);", "1:22", "entity type"),
            ("permit (principal == Agent::a.b, action, resource);", "1:22", "`.`"),
            ("permit (principal, action == \"env:read\", resource);", "1:30", "entity type"),
            ("permit (principal, action == Action::\"nothing\", resource);", "1:30", "nothing"),
            (
                "permit (principal, action == Action::\"network\", resource);",
                "1:30",
                "action in Action::\"network\"",
            ),
            (
                "@id(\"mine\") permit (principal, action == Action::\"env:read\", resource) when { resource.nmae == \"x\" };",
                "1:79",
                "policy `mine`: attribute `nmae`",
            ),
            (
                "permit (principal, action, resource) when { resource.path like \"/d/*\" };",
                "1:45",
                "`resource is Path &&`",
            ),
            (
                "permit (principal, action, resource) when { context.narrowing.contains(\"x\") };",
                "1:45",
                "has narrowing",
            ),
            (
                "permit (principal, action, resource) when { principal.signer == \"x\" };",
                "1:45",
                "has signer",
            ),
            ("permit (principal, action, resource) when { principal.tenant = \"x\" };", "1:45", "'=='"),
            (
                "permit (principal, action, resource) when { context.time < \"2027-01-01\" };",
                "1:60",
                "expected datetime",
            ),
            (
                "permit (principal, action, resource) when { context.time < datetime(\"now\") };",
                "1:60",
                "YYYY-MM-DD",
            ),
            (
                "permit (principal, action == Action::\"filesystem:read\", resource == \"/d\");",
                "1:69",
                "entity type",
            ),
            ("permit (principal, action, resource in Path::\"/d/\");", "1:40", "write `Path::\"/d\"`"),
            ("permit (principal, action, resource in Path::\"d\");", "1:40", "must begin with `/`"),
            (
                "permit (principal, action, resource in Domain::\"*.a.com\");",
                "1:40",
                "write `Domain::\"a.com\"`",
            ),
            (
                "permit (principal, action, resource in Domain::\"A.com\");",
                "1:40",
                "write `Domain::\"a.com\"`",
            ),
            ("permit (principal, action, resource in Domain::\"10.0.0.1\");", "1:40", "`resource.address`"),
            ("permit (principal, action, resource == Endpoint::\"a.com:https\");", "1:40", "port `https`"),
            (
                "permit (principal, action, resource == Endpoint::\"A.com:443\");",
                "1:40",
                "write `Endpoint::\"a.com:443\"`",
            ),
            ("forbid (principal in Trust::\"trusted\", action, resource);", "1:22", "untrusted, signed"),
            ("permit (principal == Agent::\"a/b\", action, resource);", "1:22", "agent id"),
            ("permit (principal, action, resource == Variable::\"A-B\");", "1:40", "letters, digits"),
            (
                "permit (principal, action, resource) when { resource == Secret::\"A-B\" };",
                "1:57",
                "letters, digits",
            ),
            ("permit (principal, action, resource == Extension::\"a b\");", "1:40", "letters, digits"),
            ("permit (principal, action, resource == Object::\"/a\");", "1:40", "must not begin with `/`"),
            (
                "permit (principal, action, resource == Budget::\"memory\");",
                "1:40",
                "write `Budget::\"budget\"`",
            ),
            (
                "permit (principal, action == Action::\"env:read\", resource == Path::\"/d\");",
                "1:1",
                "never asked for with such",
            ),
            (
                "forbid (principal, action == Action::\"network:https\", resource == Endpoint::\"a.com\");",
                "1:67",
                "HTTP always has a port; write `a.com:443`",
            ),
            (
                "forbid (principal, action in Action::\"network\", resource == Endpoint::\"a.com\");",
                "1:61",
                "leaves all with a port",
            ),
            (
                "forbid (principal, action, resource in Object::\"secret/\");",
                "1:40",
                "`resource.prefix like \"secret/*\"`",
            ),
            (
                "forbid (principal, action in Action::\"network\", resource) when { resource.host == \"Bad.example\" };",
                "1:83",
                "write \"bad.example\"",
            ),
            (
                "forbid (principal, action in Action::\"network\", resource) when { \"https://a.b\" == resource.host };",
                "1:66",
                "and no port",
            ),
            (
                "forbid (principal, action, resource) when { principal.trust == \"Untrusted\" };",
                "1:64",
                "untrusted, signed",
            ),
            (
                "forbid (principal, action in Action::\"filesystem\", resource) when { resource.path like \"data/*\" };",
                "1:88",
                "paths begin with `/`",
            ),
            (
                "forbid (principal, action in Action::\"filesystem\", resource) unless { resource.path == \"/data/\" };",
                "1:88",
                "write \"/data\"",
            ),
            (
                "forbid (principal, action in Action::\"network\", resource) when { resource.host like \"*.A.com\" };",
                "",
                "lower case",
            ),
            (
                "permit (principal, action == Action::\"network:tcp\", resource == Domain::\"a.com\");",
                "1:1",
                "replacing `==` with `in`",
            ),
            (
                "permit (principal, action, resource) when { principal.tenant == \"a\u{202e}b\" };",
                "1:65",
                "\\u{202e}",
            ),
            ("\n\npermit (principal == ?principal, action, resource);", "", "templates"),
        ] {
            let found = problems(text);
            let is_told = |told: &String| told.starts_with(&format!("own:{place}")) && told.contains(says);
            if found.len() != 1 || !found.iter().all(is_told) {
                wrong.push(format!("{text}: {place} {says}: {found:#?}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn what_looks_odd_and_means_something_is_accepted() {
        for text in [
            "permit (principal, action, resource == Endpoint::\"*.a.com:443\");",
            "permit (principal, action, resource == Endpoint::\"*\");",
            "permit (principal, action, resource == Endpoint::\"[2001:db8::/32]:443\");",
            "permit (principal, action, resource in Path::\"/\");",
            "permit (principal, action, resource == Object::\"\");",
            "permit (principal in Tenant::\"Grün GmbH – отдел\", action, resource);",
            "forbid (principal, action in [Action::\"network\", Action::\"env:read\"], resource);",
            "permit (principal, action, resource) when { resource is Path && resource.path like \"/d/*\" };",
            "permit (principal, action == Action::\"network:tcp\", resource == Endpoint::\"a.com\");",
            "forbid (principal, action in Action::\"network\", resource) when { resource.host like \"*.a.com\" };",
            "forbid (principal, action in Action::\"network\", resource) when { resource.host == \"[2001:db8::1]\" };",
            "forbid (principal, action in Action::\"network\", resource) when { resource.host like \"10.*/*\" };",
            "permit (principal, action, resource in Object::\"pictures/cat.png\");",
        ] {
            assert_eq!(problems(text), Vec::<String>::new(), "{text}");
        }
    }

    #[test]
    fn problems_are_told_in_their_order() {
        let found = problems(
            "permit (principal, action, resource in Path::\"d\");\npermit (principal in Tenants::\"a\", action, resource);\n\
             permit (principal, action == Action::\"network\", resource);",
        );
        let places: Vec<&str> = found.iter().map(|problem| problem.split(": ").next().unwrap()).collect();
        assert_eq!(places, ["own:1:40", "own:2:22", "own:3:30"], "{found:#?}");
    }
}
