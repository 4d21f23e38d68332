//! What all executions of an agent have in common, as long as the agent stands as it does and the same policies are in
//! force. Made for the first of them and kept where the agent is, so that the next ones only look whether it still holds.

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;
use mentat_manifest::{Limits, Listed};

use super::audit::Told;
use super::authority::Applicant;
use super::cedar::{Asker, Policies};
use super::principal::Principal;
use crate::error::Error;

/// An agent before the policies.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) policies: Arc<Policies>,
    pub(super) principal: Principal,
    /// What its manifest lists.
    pub(super) manifest: Arc<Listed>,
    /// What its manifest asks for, before anybody takes something away.
    budget: Limits,
    /// The principal in the words of the policies, from the first question on.
    asker: OnceLock<Asker>,
    /// And in those of the audit log, from the first record on.
    told: OnceLock<Told>,
}

/// What was last found of an agent, for whoever has it in memory. It belongs to one manifest, and to one authority.
#[derive(Debug, Default)]
pub struct LastCase(ArcSwapOption<Case>);

impl LastCase {
    /// The case of who applies now: the last one, where it is the same.
    ///
    /// # Errors
    /// Why there is no budget for it.
    pub(super) fn of(
        &self,
        applicant: &Applicant<'_>,
        policies: &Arc<Policies>,
        budget: impl FnOnce() -> Result<Limits, Error>,
    ) -> Result<Arc<Case>, Error> {
        let last = self.0.load();
        if let Some(case) = last.as_ref().filter(|case| case.is_of(applicant, policies)) {
            return Ok(Arc::clone(case));
        }
        let (policies, manifest) = (Arc::clone(policies), Arc::clone(applicant.manifest.listed()));
        let case = Arc::new(Case::new(policies, applicant.principal(), manifest, budget()?));
        self.0.store(Some(Arc::clone(&case)));
        Ok(case)
    }
}

impl Case {
    pub(super) fn new(
        policies: Arc<Policies>,
        principal: Principal,
        manifest: Arc<Listed>,
        budget: Limits,
    ) -> Self {
        Self { policies, principal, manifest, budget, asker: OnceLock::new(), told: OnceLock::new() }
    }

    /// Whether this is the case of who applies.
    fn is_of(&self, applicant: &Applicant<'_>, policies: &Arc<Policies>) -> bool {
        let Applicant { manifest, module, runtime, in_place_of, trust, signer, caller, .. } = applicant;
        let principal = &self.principal;
        Arc::ptr_eq(&self.policies, policies)
            && Arc::ptr_eq(&self.manifest, manifest.listed())
            && principal.module == **module
            && principal.runtime == *runtime
            && principal.in_place_of.as_ref() == *in_place_of
            && principal.trust == *trust
            && principal.signer.as_ref() == *signer
            && principal.tenant == caller.tenant
            && principal.version == manifest.version
    }

    /// What the manifest asks for.
    pub(super) fn budget(&self) -> &Limits {
        &self.budget
    }

    /// The principal, as it asks the policies.
    pub(super) fn asker(&self) -> &Asker {
        self.asker.get_or_init(|| self.policies.asker(&self.principal))
    }

    /// What records say of the agent.
    pub(super) fn told(&self) -> &Told {
        self.told.get_or_init(|| Told::new(&self.principal, &self.manifest))
    }
}
