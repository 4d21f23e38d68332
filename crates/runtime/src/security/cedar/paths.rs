//! Which paths a set of policies speaks of. Where none speaks of a part of a directory, what lies in the directory need not
//! be asked about one by one.
//!
//! Invariant: errs on the side of asking. Whatever is not understood is taken to tell everything apart.

use std::collections::BTreeSet;

use cedar_policy::{EntityUid, Policy, PolicySet, ResourceConstraint};
use mentat_manifest::is_at_or_below;
use serde_json::Value;

/// The paths that policies speak of.
#[derive(Debug, Default)]
pub(super) struct Paths {
    /// Those that are meant with all that lies below them.
    directories: BTreeSet<String>,
    /// Those that are looked at in some other way.
    named: BTreeSet<String>,
    /// Whether any policy looks at the text of a path, or in some way that is not understood.
    text: bool,
}

impl Paths {
    pub(super) fn of(policies: &PolicySet) -> Self {
        let mut paths = Self::default();
        for policy in policies.policies() {
            paths.add(policy);
        }
        paths
    }

    /// Whether a path below this one may be decided on otherwise.
    pub(super) fn tell_apart_below(&self, path: &str) -> bool {
        let below = |other: &String| other != path && is_at_or_below(other, path);
        let at_or_below = |other: &String| is_at_or_below(other, path);
        self.text || self.directories.iter().any(below) || self.named.iter().any(at_or_below)
    }

    fn add(&mut self, policy: &Policy) {
        match policy.resource_constraint() {
            ResourceConstraint::Any | ResourceConstraint::Is(_) => {}
            ResourceConstraint::In(uid) | ResourceConstraint::IsIn(_, uid) => {
                self.directories.extend(path_of(&uid));
            }
            ResourceConstraint::Eq(uid) => self.named.extend(path_of(&uid)),
        }
        match policy.to_json() {
            Ok(json) => self.conditions(json.get("conditions").unwrap_or(&Value::Null)),
            Err(_) => self.text = true,
        }
    }

    /// Looks for paths, and for looks at a path's text, in the conditions of a policy in Cedar's JSON form.
    fn conditions(&mut self, json: &Value) {
        match json {
            Value::Array(items) => items.iter().for_each(|item| self.conditions(item)),
            Value::Object(fields) => {
                if fields.get("attr").and_then(Value::as_str) == Some("path") {
                    self.text = true;
                }
                if fields.get("type").and_then(Value::as_str) == Some("Path") {
                    self.named.extend(fields.get("id").and_then(Value::as_str).map(str::to_owned));
                }
                fields.values().for_each(|field| self.conditions(field));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}

fn path_of(uid: &EntityUid) -> Option<String> {
    (uid.type_name().basename() == "Path").then(|| uid.id().unescaped().to_owned())
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use super::*;

    #[test]
    fn what_lies_in_a_directory_is_told_apart_when_a_policy_speaks_of_it() {
        for (policy, apart) in [
            ("permit (principal, action, resource);", false),
            ("permit (principal, action, resource in Path::\"/data\");", false),
            ("permit (principal, action, resource in Path::\"/\");", false),
            ("permit (principal, action, resource in Path::\"/other/x\");", false),
            ("permit (principal, action, resource == Variable::\"/data/x\");", false),
            ("permit (principal, action, resource == Path::\"/data\");", true),
            ("permit (principal, action, resource == Path::\"/data/x\");", true),
            ("forbid (principal, action, resource in Path::\"/data/x\");", true),
            ("permit (principal, action, resource) when { resource.path like \"/data/*.txt\" };", true),
            ("permit (principal, action, resource) when { resource in Path::\"/data/x\" };", true),
            ("permit (principal, action, resource) when { resource in [Path::\"/data/x\"] };", true),
            ("permit (principal, action, resource) unless { resource == Path::\"/data\" };", true),
            (
                "permit (principal, action, resource) when { resource has path && resource[\"path\"] == \"x\" };",
                true,
            ),
        ] {
            let paths = Paths::of(&PolicySet::from_str(policy).unwrap());
            assert_eq!(paths.tell_apart_below("/data"), apart, "{policy}");
        }
    }
}
