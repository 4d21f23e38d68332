//! The powers of one execution: what it may cost, who is asked for them, and what has been answered so far.

use std::sync::Arc;
use std::time::SystemTime;

use mentat_manifest::{Capability, FileAccess, Limits, Listed, is_at_or_below};
use parking_lot::Mutex;

use super::audit::{Ended, Ending, Record, Recorder};
use super::case::Case;
use super::cedar::{Policies, Verdict};
use super::denial::DenialReason;
use super::ledger::Ledger;
use super::offers::Offers;
use super::policy::{OnViolation, Permission};
use super::principal::{Circumstances, Principal};

/// The tenant of those who run agents on their own machines.
const USERS_TENANT: &str = "default";

/// What an execution can ask for, and who answers.
#[derive(Debug)]
pub(super) struct Powers {
    /// What it may cost.
    pub(super) limits: Limits,
    /// What that can be raised to.
    pub(super) ceiling: Limits,
    /// A WASI command's arguments.
    pub(super) args: Vec<String>,
    pub(super) judge: Judge,
    /// What each that had a say left; all must cover what is asked for.
    pub(super) narrowing: Vec<Vec<Capability>>,
    pub(super) on_violation: OnViolation,
    pub(super) ledger: Mutex<Ledger>,
}

/// Who answers.
#[derive(Clone, Debug)]
pub(super) enum Judge {
    /// The operator's policies.
    Policies { case: Arc<Case>, circumstances: Circumstances },
    /// The user of the command line, who has said it all.
    User {
        allowed: Vec<Capability>,
        /// What the manifest lists; `None` for a module without one.
        manifest: Option<Arc<Listed>>,
        offers: Arc<Offers>,
    },
}

impl Powers {
    /// What the manifest lists; `None` for a module without one.
    pub(super) fn listed(&self) -> Option<&Arc<Listed>> {
        match &self.judge {
            Judge::Policies { case, .. } => Some(&case.manifest),
            Judge::User { manifest, .. } => manifest.as_ref(),
        }
    }

    /// What there is to be granted.
    pub(super) fn offers(&self) -> &Offers {
        match &self.judge {
            Judge::Policies { case, .. } => &case.offers,
            Judge::User { offers, .. } => offers,
        }
    }

    /// Where decisions are recorded; `None` for a user's own executions.
    pub(super) fn audit(&self) -> Option<&Recorder> {
        match &self.judge {
            Judge::Policies { case, .. } => case.audit.as_ref(),
            Judge::User { .. } => None,
        }
    }

    /// On whose behalf it is.
    pub(super) fn tenant(&self) -> &str {
        match &self.judge {
            Judge::Policies { case, .. } => &case.principal.tenant,
            Judge::User { .. } => USERS_TENANT,
        }
    }

    /// Those of the manifest's and of the user's capabilities, each once.
    pub(super) fn with_allowed(
        &self,
        listed: &[Capability],
        wanted: impl Fn(&&Capability) -> bool,
    ) -> Vec<Capability> {
        let allowed = match &self.judge {
            Judge::User { allowed, .. } => allowed.as_slice(),
            Judge::Policies { .. } => &[],
        };
        let mut all: Vec<Capability> = listed.iter().chain(allowed).filter(wanted).cloned().collect();
        all.sort();
        all.dedup();
        all
    }

    /// Whether anything below a guest path can be read by a capability for it.
    pub(super) fn reads_below(&self, top: &str) -> bool {
        let listed = self.listed().map_or(&[][..], |listed| &listed.capabilities);
        let reads = |capability: &&Capability| match capability {
            Capability::Filesystem { access, path } => {
                *access != FileAccess::Write && path != top && is_at_or_below(path, top)
            }
            _ => false,
        };
        !self.with_allowed(listed, reads).is_empty()
    }

    /// The execution's end, at this time, as it is recorded. `None` for a user's own.
    pub(super) fn ended(self: Arc<Self>, ending: Ending, time: SystemTime) -> Option<Ended> {
        // Nearly always nobody else has them any more.
        let judge = Arc::try_unwrap(self).map_or_else(|shared| shared.judge.clone(), |powers| powers.judge);
        let Judge::Policies { case, circumstances } = judge else { return None };
        Some(Ended { case, circumstances: Circumstances { time, ..circumstances }, ending })
    }

    /// Counts a decision, and records it where it is the first of its kind in this execution.
    pub(super) fn note(
        &self,
        capability: &Capability,
        time: SystemTime,
        decided: Result<Permission, DenialReason>,
    ) -> Result<Permission, DenialReason> {
        let mut ledger = self.ledger.lock();
        let (Some(audit), Judge::Policies { case, circumstances }) = (self.audit(), &self.judge) else {
            ledger.count(capability.kind(), decided.is_ok());
            return decided;
        };
        let (decided, is_new) = ledger.note(capability, decided, audit.admits());
        if is_new {
            let circumstances = Circumstances { time, ..circumstances.clone() };
            audit.record(Record::of_decision(&case.principal, &circumstances, capability, decided.as_ref()));
        }
        decided
    }

    /// What manifest, narrowing and policies say to a capability, or the user in their place.
    pub(super) fn decide(
        &self,
        capability: &Capability,
        time: SystemTime,
    ) -> Result<Permission, DenialReason> {
        let permission = |policies| Permission { capability: capability.clone(), policies };
        let covers = |all: &[Capability]| all.iter().any(|one| one.covers(capability));
        if let Judge::User { allowed, .. } = &self.judge
            && let Some(by) = allowed.iter().find(|allowed| allowed.covers(capability))
        {
            return Ok(permission(vec![format!("--allow {by}")]));
        }
        if let Some(listed) = self.listed()
            && !covers(&listed.capabilities)
        {
            return Err(DenialReason::NotInManifest(listed.agent.clone()));
        }
        if !self.narrowing.iter().all(|left| covers(left)) {
            return Err(DenialReason::Narrowed);
        }
        match &self.judge {
            Judge::User { .. } => Err(DenialReason::NotAllowed),
            Judge::Policies { case, circumstances } => {
                let circumstances = Circumstances { time, ..circumstances.clone() };
                let verdict = case.policies.answer(case.asker(), capability, &circumstances);
                permitting(verdict, &case.principal, capability).map(permission)
            }
        }
    }
}

/// The policies that permit a capability, or why they do not, and what would have to be otherwise. Whatever would, is said
/// of the agent, and so for its module as well as for the image in that one's place.
fn permitting(
    verdict: Verdict,
    principal: &Principal,
    capability: &Capability,
) -> Result<Vec<String>, DenialReason> {
    match verdict {
        Verdict::Permitted(policies) => Ok(policies),
        Verdict::Forbidden(by) => {
            Err(DenialReason::Forbidden(by, Policies::exception(principal, capability)))
        }
        Verdict::Unmentioned => Err(DenialReason::NotPermitted(Policies::suggestion(principal, capability))),
        Verdict::Faulty(policy, message) => Err(DenialReason::Faulty(policy, message)),
        Verdict::InPlaceOf(module, refused) => permitting(*refused, principal, capability)
            .map_err(|reason| DenialReason::InPlaceOf(module, Box::new(reason))),
    }
}
