//! The one authority of a service: its budgets, its offers and its policies. Every execution gets its [`Grant`] here.

use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use mentat_manifest::{Capability, Limits, LimitsRequest, Manifest, ModuleDigest, RuntimeKind};
use parking_lot::Mutex;

use super::audit::Recorder;
use super::case::Case;
pub use super::case::LastCase;
use super::cedar::Policies;
use super::offers::Offers;
use super::policy::{Grant, OnViolation, Rules};
use super::powers::{Judge, Powers};
use super::principal::{Circumstances, Principal, Trust};
use crate::error::Error;
use crate::model::{Caller, ExecutionId};

/// Capabilities that one caller may leave to an execution; manifests list a handful.
const MAX_NARROWING: usize = 1000;
/// Bytes of all that is left to an execution, in JSON: it stands whole in the record of each decision.
const MAX_NARROWING_BYTES: usize = 16 << 10;

/// Who decides in a service.
#[derive(Debug)]
pub struct Authority {
    pub(super) rules: Rules,
    on_violation: OnViolation,
    offers: Arc<Offers>,
    pub(super) audit: Option<Recorder>,
    policies: ArcSwap<Policies>,
}

/// An execution that wants to begin.
#[derive(Clone, Copy, Debug)]
pub struct Applicant<'a> {
    /// The agent's manifest, as it was loaded.
    pub manifest: &'a Manifest,
    /// The module that will run, or the image.
    pub module: &'a ModuleDigest,
    /// What will execute it.
    pub runtime: RuntimeKind,
    /// The module in whose place an image is executed, if it is: it is given what policies permit to both.
    pub in_place_of: Option<&'a ModuleDigest>,
    /// How far the agent's signature is trusted.
    pub trust: Trust,
    /// Who signed it.
    pub signer: Option<&'a Arc<str>>,
    /// On whose behalf.
    pub caller: &'a Caller,
    /// Which execution.
    pub execution: ExecutionId,
    /// What those who had a say took away.
    pub narrowing: &'a [Narrowing],
    /// What was found of the agent when it applied before; kept with its manifest.
    pub last: &'a LastCase,
}

/// What a caller takes away from an execution.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Narrowing {
    /// Of its budget.
    pub limits: LimitsRequest,
    /// All the capabilities that are left; `None` where nothing is taken away.
    pub capabilities: Option<Vec<Capability>>,
}

impl Narrowing {
    /// Reads the capabilities that a caller leaves to an execution.
    ///
    /// # Errors
    /// `INVALID_REQUEST` for the first that is none, or for too many.
    pub fn capabilities(texts: &[String]) -> Result<Vec<Capability>, Error> {
        if texts.len() > MAX_NARROWING {
            return Err(Error::InvalidRequest {
                message: format!("`capabilities` lists {}, the limit is {MAX_NARROWING}", texts.len()),
            });
        }
        let read = |text: &String| {
            text.parse::<Capability>().map_err(|error| Error::InvalidRequest { message: error.to_string() })
        };
        texts.iter().map(read).collect()
    }
}

impl Authority {
    /// An authority; what it decides is recorded in `audit` where there is one.
    #[must_use]
    pub fn new(
        rules: Rules,
        on_violation: OnViolation,
        offers: Offers,
        policies: Policies,
        audit: Option<Recorder>,
    ) -> Self {
        Self {
            rules,
            on_violation,
            audit,
            offers: Arc::new(offers),
            policies: ArcSwap::from_pointee(policies),
        }
    }

    /// The budgets.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Puts other policies in force: for executions that begin from now on; those that run keep what they began under.
    pub fn replace(&self, policies: Policies) {
        self.policies.store(Arc::new(policies));
    }

    /// Decides on an execution of an agent: the manifest's budget, narrowed by everything in `narrowing`. Its powers are
    /// decided on one by one, when they are asked for.
    ///
    /// # Errors
    /// `INVALID_REQUEST` when the manifest asks for more than the operator's ceiling, and where what is left to the execution
    /// is too long.
    pub fn decide(&self, applicant: &Applicant<'_>) -> Result<Grant, Error> {
        let Applicant { caller, narrowing, .. } = applicant;
        let policies = self.policies.load();
        let case = applicant.last.of(applicant, &policies, || self.case(applicant, &policies))?;
        let narrow = |limits: Limits| narrowing.iter().fold(limits, |limits, by| limits.narrow(&by.limits));
        let left: Vec<Vec<Capability>> = narrowing.iter().filter_map(|by| by.capabilities.clone()).collect();
        let told = if left.is_empty() { None } else { Some(told(&left)?.into()) };
        let circumstances = Circumstances {
            time: SystemTime::now(),
            execution: applicant.execution,
            caller: Arc::clone(&caller.name),
            narrowing: told,
        };
        let (limits, ceiling) = (narrow(case.budget.clone()), narrow(self.rules.ceiling.clone()));
        let powers = Powers {
            limits,
            ceiling,
            args: Vec::new(),
            judge: Judge::Policies { case, circumstances },
            narrowing: left,
            on_violation: self.on_violation,
            ledger: Mutex::default(),
        };
        Ok(Grant { powers: Arc::new(powers) })
    }

    /// What is found of an agent that applies.
    fn case(&self, applicant: &Applicant<'_>, policies: &Arc<Policies>) -> Result<Case, Error> {
        let manifest = applicant.manifest;
        let (listed, budget) = (Arc::clone(manifest.listed()), self.rules.budget(Some(manifest))?);
        let case = Case::new(Arc::clone(policies), applicant.principal(), listed, budget);
        Ok(Case { offers: Arc::clone(&self.offers), audit: self.audit.clone(), ..case })
    }
}

impl Applicant<'_> {
    /// Who asks for powers.
    pub(super) fn principal(&self) -> Principal {
        Principal {
            agent: self.manifest.id.clone(),
            version: self.manifest.version.clone(),
            module: *self.module,
            in_place_of: self.in_place_of.copied(),
            runtime: self.runtime,
            tenant: Arc::clone(&self.caller.tenant),
            trust: self.trust,
            signer: self.signer.cloned(),
        }
    }
}

/// What is left to an execution, in words for policies and records.
fn told(left: &[Vec<Capability>]) -> Result<Vec<String>, Error> {
    let told: Vec<String> = left.iter().flatten().map(ToString::to_string).collect();
    let bytes = serde_json::to_string(&told).map_or(usize::MAX, |text| text.len());
    if bytes > MAX_NARROWING_BYTES {
        return Err(Error::InvalidRequest {
            message: format!(
                "the capabilities that are left to the execution have {bytes} bytes together, the limit is \
                 {MAX_NARROWING_BYTES}; leave it directories and domains, not each file and host"
            ),
        });
    }
    Ok(told)
}

#[cfg(test)]
mod tests {
    use mentat_manifest::Fuel;

    use super::*;
    use crate::security::cedar::PolicySource;
    use crate::security::denial::DenialReason;

    const MANIFEST: &str = "id: a.b\nversion: 1.0.0\nruntime: wasm\nmodule: agent.wasm\nwasm:\n  fuel: 5000\n  \
        capabilities: [\"filesystem:read:/data\", \"env:KEY\", \"network:https:*.example.com\"]\n  \
        wasi: { preopens: { /data/in: read-only, /tmp: read-write } }\n";
    const POLICIES: &str = "@id(\"data\") permit (principal, action, resource in Path::\"/data\");\n\
        @id(\"net\") permit (principal, action in Action::\"network\", resource in Domain::\"example.com\");\n\
        @id(\"never\") forbid (principal, action, resource in Domain::\"bad.example.com\");";

    fn decide(narrowing: &[Narrowing]) -> Grant {
        granted(POLICIES, RuntimeKind::Wasm, None, narrowing)
    }

    fn granted(
        policies: &str,
        runtime: RuntimeKind,
        in_place_of: Option<&ModuleDigest>,
        narrowing: &[Narrowing],
    ) -> Grant {
        let source = PolicySource { name: "own".into(), text: policies.into() };
        let policies = Policies::parse(&[source]).unwrap();
        let authority =
            Authority::new(Rules::default(), OnViolation::Deny, Offers::default(), policies, None);
        let applicant = Applicant {
            manifest: &Manifest::parse(MANIFEST).unwrap(),
            module: &ModuleDigest::of(b"runs"),
            runtime,
            in_place_of,
            trust: Trust::Untrusted,
            signer: None,
            caller: &Caller::local(),
            execution: ExecutionId::new(),
            narrowing,
            last: &LastCase::default(),
        };
        authority.decide(&applicant).unwrap()
    }

    fn decision(grant: &Grant, capability: &str) -> Result<Vec<String>, DenialReason> {
        let decided = grant.decide(&capability.parse().unwrap());
        decided.map(|permission| permission.policies().to_vec()).map_err(|denial| denial.reason)
    }

    #[test]
    fn a_power_needs_the_manifest_and_a_policy_and_no_policy_against_it() {
        let grant = decide(&[]);
        assert_eq!(decision(&grant, "filesystem:read:/data/x"), Ok(vec!["data".into()]));
        assert!(matches!(decision(&grant, "filesystem:write:/data/x"), Err(DenialReason::NotInManifest(_))));
        assert!(matches!(decision(&grant, "env:KEY"), Err(DenialReason::NotPermitted(_))));
        assert_eq!(decision(&grant, "network:https:a.example.com"), Ok(vec!["net".into()]));
        let decided = decision(&grant, "network:https:x.bad.example.com");
        assert!(matches!(decided, Err(DenialReason::Forbidden(by, _)) if by == ["never"]));
        let preopens: Vec<String> = grant.preopens().iter().map(ToString::to_string).collect();
        assert_eq!(preopens, ["filesystem:read:/data/in", "filesystem:readwrite:/tmp"]);
    }

    /// What an image is answered that asks for `env:KEY` in place of a module.
    fn asked_by_image(policies: &str) -> Result<Vec<String>, DenialReason> {
        let module = ModuleDigest::of(b"module");
        let grant = granted(policies, RuntimeKind::Container, Some(&module), &[]);
        decision(&grant, "env:KEY")
    }

    #[test]
    fn an_image_in_place_of_a_module_is_given_what_is_permitted_to_both_of_them() {
        let (image, module) = (ModuleDigest::of(b"runs"), ModuleDigest::of(b"module"));
        let of = |kind: &str, digest: &ModuleDigest| {
            format!(
                "@id(\"{kind} {digest}\") {kind} (principal, action, resource) when {{ principal.module == \"{digest}\" }};"
            )
        };
        let (for_image, for_module) = (of("permit", &image), of("permit", &module));
        let both = asked_by_image(&format!("{for_image}{for_module}")).unwrap();
        assert_eq!(both.len(), 2, "the policies of both: {both:?}");
        let everybody = "@id(\"all\") permit (principal, action, resource);";
        assert_eq!(asked_by_image(everybody), Ok(vec!["all".into()]));
        assert!(matches!(asked_by_image(&for_module), Err(DenialReason::NotPermitted(_))));
        let refused = |policies: &str| match asked_by_image(policies) {
            Err(DenialReason::InPlaceOf(of, reason)) if of == module => *reason,
            other => panic!("{other:?}"),
        };
        assert!(matches!(refused(&for_image), DenialReason::NotPermitted(_)));
        let forbidden = format!("{everybody}{}", of("forbid", &module));
        assert!(matches!(refused(&forbidden), DenialReason::Forbidden(by, _) if by.len() == 1));
        let forbidden = format!("{for_module}{}", of("forbid", &module));
        assert!(matches!(refused(&forbidden), DenialReason::Forbidden(by, _) if by.len() == 1));
        let forbidden = format!("{everybody}{}", of("forbid", &image));
        assert!(matches!(asked_by_image(&forbidden), Err(DenialReason::Forbidden(..))));
        let faulty = format!(
            "{everybody}@id(\"broken\") forbid (principal, action, resource) when {{ principal.module == \"{module}\" && \
             principal.major + 9223372036854775807 > 0 }};"
        );
        assert!(matches!(refused(&faulty), DenialReason::Faulty(by, _) if by == "broken"));
        // Whoever runs as itself is asked about alone.
        let itself = granted(&for_image, RuntimeKind::Container, None, &[]);
        assert_eq!(decision(&itself, "env:KEY").unwrap().len(), 1);
    }

    #[test]
    fn a_refusal_for_the_module_says_so_and_what_it_tells_to_write_gives_the_capability() {
        let module = ModuleDigest::of(b"module");
        let told = |policies: &str| {
            let grant = granted(policies, RuntimeKind::Container, Some(&module), &[]);
            grant.decide(&"env:KEY".parse().unwrap()).unwrap_err().to_string()
        };
        let everybody = "permit (principal, action, resource);";
        let forbid = "@id(\"never\") forbid (principal, action, resource)";
        let condition = format!("when {{ principal.module == \"{module}\" }}");
        let said = told(&format!("{everybody}{forbid} {condition};"));
        let begins = format!(
            "capability `env:KEY` of the module `{module}`, in whose place the image is executed, is forbidden by the policy \
             `never`; the operator excepts it there with `"
        );
        let exception = said.strip_prefix(&begins).unwrap_or_else(|| panic!("{said}"));
        let exception = exception.strip_suffix('`').unwrap();
        asked_by_image(&format!("{everybody}{forbid} {condition} {exception};")).unwrap();
        let image = ModuleDigest::of(b"runs");
        let said = told(&format!(
            "permit (principal, action, resource) when {{ principal.module == \"{image}\" }};"
        ));
        let (_, policy) = said.split_once("is permitted by no policy; this one would: ").unwrap();
        asked_by_image(policy).unwrap();
    }

    #[test]
    fn what_was_found_of_an_agent_holds_as_long_as_nothing_else_is_so() {
        let policies =
            |text: &str| Policies::parse(&[PolicySource { name: "own".into(), text: text.into() }]).unwrap();
        let signed = "@id(\"signed\") permit (principal in Trust::\"signed\", action, resource);";
        let authority =
            Authority::new(Rules::default(), OnViolation::Deny, Offers::default(), policies(signed), None);
        let (manifest, last) = (Manifest::parse(MANIFEST).unwrap(), LastCase::default());
        let (one, other) = (ModuleDigest::of(b"one"), ModuleDigest::of(b"other"));
        let asked = |module: &ModuleDigest, trust: Trust, tenant: &str| {
            let caller = Caller { tenant: tenant.into(), name: "ci".into() };
            let (execution, narrowing) = (ExecutionId::new(), &[][..]);
            let applicant = Applicant {
                manifest: &manifest,
                module,
                runtime: RuntimeKind::Wasm,
                in_place_of: None,
                trust,
                signer: None,
                caller: &caller,
                execution,
                narrowing,
                last: &last,
            };
            let grant = authority.decide(&applicant).unwrap();
            assert_eq!((grant.execution(), grant.tenant()), (Some(execution), tenant));
            decision(&grant, "env:KEY")
        };
        // The second time is by what was found at the first.
        for _ in 0..2 {
            assert_eq!(asked(&one, Trust::Signed, "a"), Ok(vec!["signed".into()]));
        }
        assert!(asked(&one, Trust::Untrusted, "a").is_err());
        let of_one = format!(
            "@id(\"one\") permit (principal in Tenant::\"a\", action, resource) when {{ principal.module == \"{one}\" }};"
        );
        authority.replace(policies(&of_one));
        assert_eq!(asked(&one, Trust::Untrusted, "a"), Ok(vec!["one".into()]));
        assert!(asked(&other, Trust::Untrusted, "a").is_err());
        assert!(asked(&one, Trust::Untrusted, "b").is_err());
        assert_eq!(asked(&one, Trust::Untrusted, "a"), Ok(vec!["one".into()]));
    }

    #[test]
    fn what_a_caller_leaves_fits_into_a_record() {
        let left = |count: usize| vec![vec![format!("env:{}", "A".repeat(90)).parse().unwrap(); count]];
        assert_eq!(told(&left(160)).unwrap().len(), 160);
        assert!(told(&left(180)).unwrap_err().to_string().contains("the limit is 16384"));
    }

    #[test]
    fn a_caller_can_only_take_away() {
        let narrowing = |fuel: u64, capabilities: &[&str]| Narrowing {
            limits: LimitsRequest { fuel: Some(Fuel(fuel)), ..LimitsRequest::default() },
            capabilities: Some(capabilities.iter().map(|text| text.parse().unwrap()).collect()),
        };
        let grant = decide(&[
            narrowing(100, &["filesystem:readwrite:/", "network:https:a.example.com"]),
            narrowing(1_000_000, &["filesystem:read:/data/a", "network:*:*"]),
        ]);
        assert_eq!((grant.limits().fuel, grant.ceiling().fuel), (Fuel(100), Fuel(100)));
        assert_eq!(decision(&grant, "filesystem:read:/data/a/b"), Ok(vec!["data".into()]));
        assert_eq!(decision(&grant, "filesystem:read:/data/b"), Err(DenialReason::Narrowed));
        assert!(matches!(decision(&grant, "filesystem:write:/data/a"), Err(DenialReason::NotInManifest(_))));
        assert_eq!(decision(&grant, "network:https:a.example.com"), Ok(vec!["net".into()]));
        assert_eq!(decision(&grant, "network:https:b.example.com"), Err(DenialReason::Narrowed));
    }
}
