//! The actions of the schema, each with the policies that can matter to it, found by what they are about, so that a
//! question costs what its own policies cost and not what the whole set does.
//!
//! Invariant: a policy is left out where its scope alone rules it out. Cedar looks at the scope before the conditions, so
//! what is left out could neither decide nor fail; and it asks each policy by itself, so the others need not be there.

use std::collections::HashMap;
use std::sync::Arc;

use cedar_policy::{
    ActionConstraint, Effect, Entities, Entity, EntityUid, Policy, PolicySet, PrincipalConstraint,
    ResourceConstraint,
};
use serde_json::Value;

/// The actions by their names, and what the policies look at.
pub(super) struct Actions {
    by_name: HashMap<String, Action>,
    names_groups: bool,
}

/// One action.
pub(super) struct Action {
    /// Its name in the schema.
    pub(super) uid: EntityUid,
    /// It, in the groups that it is in.
    pub(super) entity: Entity,
    /// The policies that can matter to it whatever it is about.
    about_any: Vec<Arc<Single>>,
    /// Those about one resource, or about what is in it.
    about: HashMap<EntityUid, Vec<Arc<Single>>>,
}

/// One policy, to be asked by itself.
pub(super) struct Single {
    /// What it is called in records.
    pub(super) id: String,
    pub(super) effect: Effect,
    /// It, in the form in which it can be asked.
    pub(super) set: PolicySet,
    /// Whether it looks at how it came to the question.
    pub(super) reads_context: bool,
    /// Whom it is for, where that is one agent, or those in one group.
    principal: Option<EntityUid>,
}

impl Actions {
    /// Sorts a set of policies.
    ///
    /// # Errors
    /// When a policy cannot stand in a set, which one that was read from a set can.
    pub(super) fn of(set: &PolicySet, actions: &Entities) -> Result<Self, String> {
        let mut by_name: HashMap<String, Action> = actions
            .iter()
            .map(|entity| {
                let (uid, entity) = (entity.uid(), entity.clone());
                let name = uid.id().unescaped().to_owned();
                (name, Action { uid, entity, about_any: Vec::new(), about: HashMap::new() })
            })
            .collect();
        let mut names_groups = false;
        for policy in set.policies() {
            let reads = Reads::of(policy);
            names_groups |= reads.groups;
            let single = Arc::new(Single::of(policy, reads)?);
            for action in by_name.values_mut().filter(|action| may_concern(policy, &action.uid, actions)) {
                let place = match policy.resource_constraint() {
                    ResourceConstraint::Any | ResourceConstraint::Is(_) => &mut action.about_any,
                    ResourceConstraint::Eq(uid)
                    | ResourceConstraint::In(uid)
                    | ResourceConstraint::IsIn(_, uid) => action.about.entry(uid).or_default(),
                };
                place.push(Arc::clone(&single));
            }
        }
        Ok(Self { by_name, names_groups })
    }

    /// The action of that name.
    pub(super) fn get(&self, name: &str) -> Option<&Action> {
        self.by_name.get(name)
    }

    /// Whether any policy asks which groups a level of trust or an action is in that need not be the asker's own.
    pub(super) fn name_groups(&self) -> bool {
        self.names_groups
    }
}

impl Action {
    /// The policies whose scope may fit: `asker` and `resource` are each the names of one and of all that it is in.
    pub(super) fn policies(&self, asker: &[EntityUid], resource: &[EntityUid]) -> Vec<&Single> {
        let about = resource.iter().filter_map(|uid| self.about.get(uid)).flatten();
        let for_asker = |single: &&Arc<Single>| match &single.principal {
            Some(principal) => asker.contains(principal),
            None => true,
        };
        self.about_any.iter().chain(about).filter(for_asker).map(Arc::as_ref).collect()
    }
}

impl Single {
    fn of(policy: &Policy, reads: Reads) -> Result<Self, String> {
        let mut set = PolicySet::new();
        set.add(policy.clone()).map_err(|error| error.to_string())?;
        let principal = match policy.principal_constraint() {
            PrincipalConstraint::Any | PrincipalConstraint::Is(_) => None,
            PrincipalConstraint::Eq(uid)
            | PrincipalConstraint::In(uid)
            | PrincipalConstraint::IsIn(_, uid) => Some(uid),
        };
        let (id, effect) = (policy.id().to_string(), policy.effect());
        Ok(Self { id, effect, set, reads_context: reads.context, principal })
    }
}

/// Whether the scope of a policy leaves room for an action.
fn may_concern(policy: &Policy, action: &EntityUid, actions: &Entities) -> bool {
    let is_in = |group: &EntityUid| group == action || actions.is_ancestor_of(group, action);
    match policy.action_constraint() {
        ActionConstraint::Any => true,
        ActionConstraint::Eq(only) => only == *action,
        ActionConstraint::In(groups) => groups.iter().any(is_in),
    }
}

/// What the conditions of a policy look at. Errs on the side of everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Reads {
    context: bool,
    /// Actions or levels of trust by name.
    groups: bool,
}

impl Reads {
    fn of(policy: &Policy) -> Self {
        let mut reads = Self::default();
        match policy.to_json() {
            Ok(json) => reads.add(json.get("conditions").unwrap_or(&Value::Null)),
            Err(_) => reads = Self { context: true, groups: true },
        }
        reads
    }

    /// Looks through the conditions of a policy in Cedar's JSON form.
    fn add(&mut self, json: &Value) {
        match json {
            Value::Array(items) => items.iter().for_each(|item| self.add(item)),
            Value::Object(fields) => {
                self.context |= fields.get("Var").and_then(Value::as_str) == Some("context");
                let named = fields.get("type").and_then(Value::as_str);
                self.groups |= named.is_some_and(|kind| kind == "Action" || kind == "Trust");
                fields.values().for_each(|field| self.add(field));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;
    use std::time::{Duration, SystemTime};

    use cedar_policy::{Authorizer, Context, Decision, Request};
    use mentat_manifest::{Capability, ModuleDigest, RuntimeKind};
    use proptest::prelude::*;

    use super::super::{Policies, PolicySource, Verdict, terms};
    use super::*;
    use crate::model::ExecutionId;
    use crate::security::principal::{Circumstances, Principal, Trust};

    #[test]
    fn what_a_policy_looks_at_is_found_in_its_conditions() {
        for (condition, context, groups) in [
            ("true", false, false),
            ("context.time < datetime(\"2027-01-01\")", true, false),
            ("[1, 2].contains(if context has narrowing then 1 else 2)", true, false),
            ("{ a: context }.a.execution.caller == \"x\"", true, false),
            ("principal in Trust::\"signed\"", false, true),
            ("principal in [Trust::\"signed\"]", false, true),
            ("action in Action::\"network\"", false, true),
            ("principal.trust == \"context\"", false, false),
        ] {
            let text =
                format!("permit (principal in Trust::\"signed\", action, resource) when {{ {condition} }};");
            let policy = Policy::from_str(&text).unwrap();
            assert_eq!(Reads::of(&policy), Reads { context, groups }, "{condition}");
        }
    }

    /// Policies with every form of a scope, and with conditions on everything that there is.
    const POLICIES: [&str; 22] = [
        "permit (principal, action, resource);",
        "permit (principal == Agent::\"a.b\", action == Action::\"env:read\", resource == Variable::\"KEY\");",
        "permit (principal == Agent::\"a.c\", action, resource);",
        "permit (principal in Tenant::\"acme\", action in Action::\"filesystem\", resource in Path::\"/data\");",
        "permit (principal in Trust::\"signed\", action in [Action::\"network:https\", Action::\"env\"], resource);",
        "permit (principal in Trust::\"untrusted\", action in Action::\"compute\", resource);",
        "permit (principal is Agent, action, resource is Endpoint in Domain::\"example.com\");",
        "permit (principal, action, resource is Path) when { resource.path like \"/data/*\" };",
        "permit (principal, action, resource) when { principal in Trust::\"community\" };",
        "permit (principal, action, resource) when { Trust::\"verified\" in Trust::\"signed\" };",
        "permit (principal, action, resource) when { Action::\"env:read\" in Action::\"env\" };",
        "permit (principal, action, resource) when { action in Action::\"network\" };",
        "permit (principal, action, resource) when { context.time < datetime(\"2027-01-01\") };",
        "permit (principal, action, resource) when { context has narrowing };",
        "permit (principal, action, resource) when { context.execution.caller == \"ci\" && principal.major == 1 };",
        "permit (principal, action, resource) when { principal has signer && principal.signer like \"CN=*\" };",
        "forbid (principal, action, resource in Path::\"/data/private\");",
        "forbid (principal, action in Action::\"network\", resource) unless { resource has port && resource.port == 443 };",
        "forbid (principal in Tenant::\"other\", action, resource);",
        "forbid (principal, action, resource) when { context has narrowing && context.narrowing.contains(\"env:KEY\") };",
        // These cannot be evaluated.
        "forbid (principal, action == Action::\"env:read\", resource) when { principal.major + 9223372036854775807 > 0 };",
        "permit (principal, action in Action::\"filesystem\", resource) when { principal.minor * 9223372036854775807 > 0 };",
    ];
    const CAPABILITIES: [&str; 12] = [
        "filesystem:read:/data/a",
        "filesystem:readwrite:/data/private/a",
        "filesystem:write:/",
        "network:https:api.example.com",
        "network:*:api.example.com",
        "network:tcp:10.0.0.0/8",
        "env:KEY",
        "env:OTHER",
        "secret:KEY",
        "compute:memory=64MB",
        "media:read:pictures/",
        "extension:x",
    ];

    /// What Cedar says to the whole set, with everything there that there could be.
    fn plainly(
        set: &PolicySet,
        policies: &Policies,
        principal: &Principal,
        capability: &Capability,
        circumstances: &Circumstances,
    ) -> String {
        let terms = &policies.terms;
        let (agent, _) = terms.agent(principal).unwrap();
        let (resource, _) = terms.resource(capability).unwrap();
        let mut permitting = Vec::new();
        for action in terms::actions(capability) {
            let context = Context::from_pairs(terms.context(circumstances)).unwrap();
            let action = policies.actions.get(action).unwrap().uid.clone();
            let request = Request::new(agent.uid(), action, resource.uid(), context, None).unwrap();
            let mut entities = terms.groups();
            entities.extend([agent.clone(), resource.clone()]);
            let entities = Entities::from_entities(entities, None).unwrap();
            let response = Authorizer::new().is_authorized(&request, set, &entities);
            let mut reasons: Vec<String> = response.diagnostics().reason().map(ToString::to_string).collect();
            reasons.sort();
            if response.diagnostics().errors().next().is_some() {
                return "faulty".into();
            }
            match response.decision() {
                Decision::Allow => permitting.extend(reasons),
                Decision::Deny if reasons.is_empty() => return "unmentioned".into(),
                Decision::Deny => return format!("forbidden {reasons:?}"),
            }
        }
        permitting.sort();
        permitting.dedup();
        format!("permitted {permitting:?}")
    }

    fn told(verdict: Verdict) -> String {
        let sorted = |mut policies: Vec<String>| {
            policies.sort();
            policies
        };
        match verdict {
            Verdict::Permitted(policies) => format!("permitted {policies:?}"),
            Verdict::Forbidden(policies) => format!("forbidden {:?}", sorted(policies)),
            Verdict::Unmentioned => "unmentioned".into(),
            Verdict::Faulty(..) => "faulty".into(),
            Verdict::InPlaceOf(..) => "refused to a module".into(),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn what_is_left_out_makes_no_difference(
            chosen in proptest::sample::subsequence(&POLICIES[..], 0..7),
            trust in proptest::sample::select(&Trust::ALL[..]),
            is_narrowed in any::<bool>(),
            tenant in proptest::sample::select(&["acme", "other"][..]),
        ) {
            let text = chosen.join("\n");
            let source = PolicySource { name: "own".into(), text: text.clone() };
            let policies = Policies::parse(&[source]).unwrap();
            let set = PolicySet::from_str(&text).unwrap();
            let mut named = PolicySet::new();
            for policy in set.policies() {
                let number: usize = policy.id().to_string().trim_start_matches("policy").parse().unwrap();
                let id = cedar_policy::PolicyId::new(format!("own#{}", number + 1));
                named.add(policy.new_id(id)).unwrap();
            }
            let principal = Principal {
                agent: "a.b".parse().unwrap(),
                version: "1.2.3".parse().unwrap(),
                module: ModuleDigest::of(b"module"),
                in_place_of: None,
                runtime: RuntimeKind::Wasm,
                tenant: tenant.into(),
                trust,
                signer: (trust > Trust::Untrusted).then(|| "CN=Somebody".into()),
            };
            let circumstances = Circumstances {
                time: SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_510_800),
                execution: ExecutionId::new(),
                caller: "ci".into(),
                narrowing: is_narrowed.then(|| vec!["env:KEY".to_owned()].into()),
            };
            let asker = policies.asker(&principal);
            for capability in CAPABILITIES {
                let capability = capability.parse().unwrap();
                let found = told(policies.answer(&asker, &capability, &circumstances));
                let plain = plainly(&named, &policies, &principal, &capability, &circumstances);
                prop_assert_eq!(found, plain, "{} under {}", capability, text);
            }
        }
    }
}
