//! The operator's policies, in Cedar: checked against the schema when they are read, asked about one capability at a
//! time. Knows the words of policies; knows nothing of manifests, files or guests.
//!
//! Invariant: a policy that cannot be evaluated denies. Cedar itself leaves such a policy out, which for a `forbid`
//! would be a permission.

mod actions;
mod constants;
mod names;
mod nesting;
mod paths;
mod reading;
mod suggestion;
mod terms;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use cedar_policy::{Authorizer, Context, Effect, Entities, EntityUid, PolicySet, Request, Schema};
use mentat_manifest::{Capability, ModuleDigest, escape_untrusted};

use self::actions::{Actions, Single};
use self::paths::Paths;
use self::reading::Reader;
use self::terms::Terms;
use super::principal::{Circumstances, Principal};
use crate::error::Error;

/// The words that policies are checked against.
pub const SCHEMA: &str = include_str!("cedar/schema.cedarschema");
/// The policies where the operator has none.
pub const DEFAULT_POLICIES: &str = include_str!("cedar/default.cedar");

/// Problems of policies that are told; the rest is counted.
const MAX_PROBLEMS: usize = 50;
/// Bytes of stack that Cedar wants to see left, and some; and what it gets where there are fewer.
const MIN_STACK_BYTES: usize = 256 << 10;
const STACK_BYTES: usize = 1 << 20;
/// Bytes of stack that the deepest policies are read on.
const READING_STACK_BYTES: usize = 16 << 20;
/// Characters of one problem, and of the id of a policy.
const MAX_TEXT_CHARS: usize = 512;

/// A file of policies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicySource {
    /// What the file is called in messages, and its policies in records.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// Policies that are ready to be asked.
pub struct Policies {
    count: usize,
    authorizer: Authorizer,
    terms: Terms,
    actions: Actions,
    paths: Paths,
}

/// An agent in the words of policies, made once for all that it asks.
#[derive(Debug)]
pub struct Asker {
    /// What runs.
    own: Result<Known, String>,
    /// The module in whose place it runs.
    replaced: Option<(ModuleDigest, Result<Known, String>)>,
}

#[derive(Debug)]
struct Known {
    uid: EntityUid,
    /// Its name, and those of all that it is in.
    names: Vec<EntityUid>,
    entities: Entities,
}

/// Something wrong with a policy, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyProblem {
    /// The file.
    pub file: String,
    /// From 1; 0 where the problem has no place.
    pub line: usize,
    /// In characters, from 1; 0 where the problem has no place.
    pub column: usize,
    /// What is wrong, and what to do about it where that is known.
    pub message: String,
}

/// Everything that is wrong with a set of policies.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", list(.0))]
pub struct PolicyError(pub Vec<PolicyProblem>);

/// What policies say to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// At least one policy permits it and none forbids it; who permits.
    Permitted(Vec<String>),
    /// Who forbids it.
    Forbidden(Vec<String>),
    /// No policy speaks of it, which is a no.
    Unmentioned,
    /// This policy could not be evaluated, for this reason.
    Faulty(String, String),
    /// What they say to this module, in whose place an image runs, and by which the image is refused it.
    InPlaceOf(ModuleDigest, Box<Self>),
}

impl Policies {
    /// Reads and checks policies.
    ///
    /// # Errors
    /// Everything that is wrong in any of the files, with line and column.
    pub fn parse(sources: &[PolicySource]) -> Result<Self, PolicyError> {
        stacker::maybe_grow(READING_STACK_BYTES, READING_STACK_BYTES, || Self::read(sources))
    }

    fn read(sources: &[PolicySource]) -> Result<Self, PolicyError> {
        let schema = Schema::from_str(SCHEMA).map_err(|error| inner("the schema", &error))?;
        let terms = Terms::new(&schema).map_err(|error| inner("the schema", &error))?;
        let reader = Reader::new(schema);
        let mut problems = Vec::new();
        let mut set = PolicySet::new();
        let mut files: BTreeMap<String, &str> = BTreeMap::new();
        for source in sources {
            match reader.read(source) {
                Err(found) => problems.extend(found),
                Ok(policies) => {
                    for policy in policies {
                        let id = policy.id().to_string();
                        if let Some(other) = files.insert(id.clone(), &source.name) {
                            problems.push(reading::problem(
                                source,
                                None,
                                &format!("policy id `{id}` is used twice, in `{other}` as well"),
                            ));
                        } else if let Err(error) = set.add(policy) {
                            problems.push(reading::problem(source, None, &error.to_string()));
                        }
                    }
                }
            }
        }
        if !problems.is_empty() {
            problems.truncate(MAX_PROBLEMS);
            return Err(PolicyError(problems));
        }
        let actions = Actions::of(&set, terms.actions()).map_err(|error| inner("the policies", &error))?;
        let (count, paths) = (set.num_of_policies(), Paths::of(&set));
        Ok(Self { count, authorizer: Authorizer::new(), terms, actions, paths })
    }

    /// The policies where the operator has none.
    ///
    /// # Errors
    /// `INTERNAL` when they do not fit their own schema, which a test rules out.
    pub fn standard() -> Result<Self, Error> {
        let source = PolicySource { name: "default".into(), text: DEFAULT_POLICIES.into() };
        Self::parse(&[source]).map_err(|error| Error::internal("reading the default policies", error))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none, so that everything is denied.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// An agent, ready to ask.
    #[must_use]
    pub fn asker(&self, principal: &Principal) -> Asker {
        let replaced = principal.replaced().map(|module| (module.module, self.known(&module)));
        Asker { own: self.known(principal), replaced }
    }

    fn known(&self, principal: &Principal) -> Result<Known, String> {
        with_stack(|| {
            let (agent, names) = self.terms.agent(principal).map_err(told)?;
            let groups = if self.actions.name_groups() { self.terms.groups() } else { Vec::new() };
            let uid = agent.uid();
            let entities = Entities::from_entities(groups.into_iter().chain([agent]), None).map_err(told)?;
            Ok(Known { uid, names, entities })
        })
    }

    /// Asks whether `principal` may have `capability`. A capability of several modes, such as `readwrite`, must be
    /// permitted in each of them; one of an image in place of a module, to both: who chooses what runs gains nothing by it.
    #[must_use]
    pub fn ask(
        &self,
        principal: &Principal,
        capability: &Capability,
        circumstances: &Circumstances,
    ) -> Verdict {
        self.answer(&self.asker(principal), capability, circumstances)
    }

    /// The same for an agent that asks more than once. It must come of these very policies.
    #[must_use]
    pub fn answer(&self, asker: &Asker, capability: &Capability, circumstances: &Circumstances) -> Verdict {
        let own = self.answer_to(&asker.own, capability, circumstances);
        let (Some((module, replaced)), Verdict::Permitted(_) | Verdict::Unmentioned) =
            (&asker.replaced, &own)
        else {
            return own;
        };
        match (own, self.answer_to(replaced, capability, circumstances)) {
            (Verdict::Permitted(policies), Verdict::Permitted(others)) => {
                Verdict::Permitted(sorted([policies, others].concat()))
            }
            // That no policy permits it says less than that one forbids it.
            (Verdict::Unmentioned, Verdict::Permitted(_) | Verdict::Unmentioned) => Verdict::Unmentioned,
            (_, refused) => Verdict::InPlaceOf(*module, Box::new(refused)),
        }
    }

    /// The answer to one of the two.
    fn answer_to(
        &self,
        known: &Result<Known, String>,
        capability: &Capability,
        circumstances: &Circumstances,
    ) -> Verdict {
        let answered = with_stack(|| self.verdict(known.as_ref()?, capability, circumstances));
        answered.unwrap_or_else(|message: String| Verdict::Faulty("the question".into(), message))
    }

    /// Whether any policy may say something else of a path below this one than of this one.
    #[must_use]
    pub fn tells_apart_below(&self, path: &str) -> bool {
        self.paths.tell_apart_below(path)
    }

    /// The policy that would permit it, and no more than it.
    #[must_use]
    pub fn suggestion(principal: &Principal, capability: &Capability) -> String {
        suggestion::permission(principal.agent.as_str(), capability)
    }

    /// The clause that would except it from a policy that forbids it, and no more than it.
    #[must_use]
    pub fn exception(principal: &Principal, capability: &Capability) -> String {
        suggestion::exception(principal.agent.as_str(), capability)
    }

    fn verdict(
        &self,
        asker: &Known,
        capability: &Capability,
        circumstances: &Circumstances,
    ) -> Result<Verdict, String> {
        let (resource, names) = self.terms.resource(capability).map_err(told)?;
        let mut asked = Vec::new();
        for name in terms::actions(capability) {
            let action = self.actions.get(name).ok_or_else(|| format!("the action `{name}` is unknown"))?;
            let policies = action.policies(&asker.names, &names);
            // The first that is not permitted is the answer.
            if asked.is_empty() && policies.is_empty() {
                return Ok(Verdict::Unmentioned);
            }
            asked.push((action, policies));
        }
        let reads_context =
            asked.iter().any(|(_, policies)| policies.iter().any(|policy| policy.reads_context));
        let context = if reads_context {
            Context::from_pairs(self.terms.context(circumstances)).map_err(told)?
        } else {
            Context::empty()
        };
        let uid = resource.uid();
        let there = asked.iter().map(|(action, _)| action.entity.clone()).chain([resource]);
        let entities = asker.entities.clone().add_entities(there, None).map_err(told)?;
        let mut permitting = Vec::new();
        for (action, policies) in asked {
            let (asker, action, uid) = (asker.uid.clone(), action.uid.clone(), uid.clone());
            let request = Request::new(asker, action, uid, context.clone(), None).map_err(told)?;
            match self.decide(&request, &policies, &entities) {
                Verdict::Permitted(policies) => permitting.extend(policies),
                other => return Ok(other),
            }
        }
        Ok(Verdict::Permitted(sorted(permitting)))
    }

    /// What policies say together, each asked by itself.
    fn decide(&self, request: &Request, policies: &[&Single], entities: &Entities) -> Verdict {
        let (mut permitting, mut forbidding) = (Vec::new(), Vec::new());
        for policy in policies {
            let response = self.authorizer.is_authorized(request, &policy.set, entities);
            let diagnostics = response.diagnostics();
            if let Some(error) = diagnostics.errors().next() {
                let cedar_policy::AuthorizationError::PolicyEvaluationError(error) = error;
                let message = escape_untrusted(&error.inner().to_string(), MAX_TEXT_CHARS);
                return Verdict::Faulty(policy.id.clone(), message);
            }
            if diagnostics.reason().next().is_some() {
                match policy.effect {
                    Effect::Permit => permitting.push(policy.id.clone()),
                    Effect::Forbid => forbidding.push(policy.id.clone()),
                }
            }
        }
        forbidding.sort();
        match (permitting.is_empty(), forbidding.is_empty()) {
            (_, false) => Verdict::Forbidden(forbidding),
            (false, true) => Verdict::Permitted(permitting),
            (true, true) => Verdict::Unmentioned,
        }
    }
}

/// In order, each once.
fn sorted(mut policies: Vec<String>) -> Vec<String> {
    policies.sort();
    policies.dedup();
    policies
}

fn told(error: impl fmt::Display) -> String {
    error.to_string()
}

/// Runs Cedar on a stack that it thinks is one: a guest's host calls run on the stack of its fibre, which Cedar, measuring
/// by the thread's own, takes for an exhausted one.
fn with_stack<T>(run: impl FnOnce() -> T) -> T {
    stacker::maybe_grow(MIN_STACK_BYTES, STACK_BYTES, run)
}

fn inner(file: &str, error: &dyn fmt::Display) -> PolicyError {
    PolicyError(vec![PolicyProblem { file: file.into(), line: 0, column: 0, message: error.to_string() }])
}

fn list(problems: &[PolicyProblem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

impl fmt::Display for PolicyProblem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(formatter, "{}: {}", self.file, self.message),
            line => write!(formatter, "{}:{line}:{}: {}", self.file, self.column, self.message),
        }
    }
}

impl fmt::Debug for Policies {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Policies").field("count", &self.count).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use mentat_manifest::RuntimeKind;

    use super::*;
    use crate::model::ExecutionId;
    use crate::security::principal::Trust;

    fn policies(text: &str) -> Result<Policies, PolicyError> {
        Policies::parse(&[PolicySource { name: "own".into(), text: text.into() }])
    }

    pub(super) fn principal(trust: Trust) -> Principal {
        Principal {
            agent: "a.b".parse().unwrap(),
            version: "1.2.3".parse().unwrap(),
            module: ModuleDigest::of(b"module"),
            in_place_of: None,
            runtime: RuntimeKind::Wasm,
            tenant: "acme".into(),
            trust,
            signer: None,
        }
    }

    pub(super) fn circumstances() -> Circumstances {
        Circumstances {
            time: SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_510_800),
            execution: ExecutionId::new(),
            caller: "ci".into(),
            narrowing: None,
        }
    }

    fn ask(text: &str, trust: Trust, capability: &str) -> Verdict {
        let capability = capability.parse().unwrap();
        policies(text).unwrap().ask(&principal(trust), &capability, &circumstances())
    }

    fn permits(text: &str, capability: &str) -> bool {
        matches!(ask(text, Trust::Untrusted, capability), Verdict::Permitted(_))
    }

    #[test]
    fn the_default_policies_permit_scratch_and_budget_and_nothing_else() {
        for (capability, permitted) in [
            ("filesystem:readwrite:/tmp", true),
            ("filesystem:read:/tmp/a/b", true),
            ("filesystem:read:/tmpx", false),
            ("filesystem:read:/", false),
            ("compute:memory=64MB", true),
            ("network:https:example.com", false),
            ("env:HOME", false),
            ("secret:KEY", false),
            ("media:read:", false),
            ("extension:x", false),
        ] {
            assert_eq!(permits(DEFAULT_POLICIES, capability), permitted, "{capability}");
        }
    }

    #[test]
    fn paths_are_in_the_directories_above_them_and_names_in_their_domains() {
        let data = "permit (principal, action == Action::\"filesystem:read\", resource in Path::\"/data\");";
        assert!(permits(data, "filesystem:read:/data"));
        assert!(permits(data, "filesystem:read:/data/a/b"));
        assert!(!permits(data, "filesystem:read:/database"));
        assert!(!permits(data, "filesystem:write:/data"));
        assert!(!permits(data, "filesystem:readwrite:/data"), "both modes must be permitted");
        let domain = "permit (principal, action in Action::\"network\", resource in Domain::\"openai.com\");";
        assert!(permits(domain, "network:https:api.openai.com"));
        assert!(permits(domain, "network:https:*.openai.com"));
        assert!(permits(domain, "network:*:openai.com"));
        assert!(!permits(domain, "network:https:evilopenai.com"));
        assert!(!permits(domain, "network:https:*"));
        let inside = "permit (principal, action in Action::\"network\", resource) when \
            { resource has address && resource.address.isInRange(ip(\"10.0.0.0/8\")) };";
        assert!(permits(inside, "network:tcp:10.1.2.3:5432"));
        assert!(permits(inside, "network:tcp:10.1.0.0/16:5432"));
        assert!(!permits(inside, "network:tcp:11.0.0.1:5432"));
        assert!(!permits(inside, "network:tcp:0.0.0.0/0:5432"));
    }

    #[test]
    fn a_policy_can_speak_of_trust_tenant_version_time_and_execution() {
        let text = r#"@id("all of it") permit (principal in Trust::"signed", action == Action::"env:read", resource)
            when { principal in Tenant::"acme" && principal.major == 1 && principal.version == "1.2.3"
                && resource.name == "KEY" && context.time < datetime("2027-01-01")
                && context.execution.caller == "ci" && !(context has narrowing) };"#;
        assert_eq!(ask(text, Trust::Untrusted, "env:KEY"), Verdict::Unmentioned);
        for trust in [Trust::Signed, Trust::Community, Trust::Verified] {
            assert_eq!(ask(text, trust, "env:KEY"), Verdict::Permitted(vec!["all of it".into()]));
        }
    }

    #[test]
    fn a_forbid_wins_and_is_named() {
        let text = "permit (principal, action, resource);\n\
            forbid (principal, action, resource == Variable::\"KEY\");";
        assert_eq!(ask(text, Trust::Verified, "env:KEY"), Verdict::Forbidden(vec!["own#2".into()]));
        assert_eq!(ask(text, Trust::Verified, "env:OTHER"), Verdict::Permitted(vec!["own#1".into()]));
    }

    #[test]
    fn a_policy_that_cannot_be_evaluated_denies() {
        let text = "permit (principal, action, resource);\n@id(\"broken\") forbid (principal, action, resource) when \
            { principal.major + 9223372036854775807 > 0 };";
        assert!(
            matches!(ask(text, Trust::Verified, "env:KEY"), Verdict::Faulty(policy, _) if policy == "broken")
        );
    }

    #[test]
    fn an_id_that_is_used_twice_is_told() {
        let twice = "@id(\"a\") permit (principal, action, resource);";
        let error = policies(&format!("{twice}\n{twice}")).unwrap_err();
        assert!(error.to_string().contains("twice"), "{error}");
    }
}
