//! What all executions of an agent have in common, as long as the agent stands as it does and the same policies are in
//! force. Made for the first of them and kept where the agent is, so that the next ones only look whether it still holds.

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;
use mentat_manifest::{Limits, Listed};

use super::audit::{Recorder, Told};
use super::authority::Applicant;
use super::cedar::{Asker, Policies};
use super::offers::Offers;
use super::principal::Principal;
use crate::error::Error;

/// An agent before the policies.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) policies: Arc<Policies>,
    pub(super) principal: Principal,
    /// What its manifest lists.
    pub(super) manifest: Arc<Listed>,
    /// What there is to be granted.
    pub(super) offers: Arc<Offers>,
    /// Where decisions and executions are recorded, where they are.
    pub(super) audit: Option<Recorder>,
    /// What its manifest asks for, before anybody takes something away.
    pub(super) budget: Limits,
    /// The principal in the words of the policies, from the first question on.
    pub(super) asker: OnceLock<Asker>,
    /// And in those of the audit log, from the first record on.
    pub(super) told: OnceLock<Told>,
}

/// What was last found of an agent, for whoever has it in memory. It belongs to one manifest, and to one authority.
#[derive(Debug, Default)]
pub struct LastCase(ArcSwapOption<Case>);

impl LastCase {
    /// The case of who applies now: the last one, where it is the same, or one that is made.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn of(
        &self,
        applicant: &Applicant<'_>,
        policies: &Arc<Policies>,
        make: impl FnOnce() -> Result<Case, Error>,
    ) -> Result<Arc<Case>, Error> {
        let last = self.0.load();
        if let Some(case) = last.as_ref().filter(|case| case.is_of(applicant, policies)) {
            return Ok(Arc::clone(case));
        }
        let case = Arc::new(make()?);
        self.0.store(Some(Arc::clone(&case)));
        Ok(case)
    }
}

impl Case {
    /// One of which nothing is recorded, and which can be given nothing.
    pub(super) fn new(
        policies: Arc<Policies>,
        principal: Principal,
        manifest: Arc<Listed>,
        budget: Limits,
    ) -> Self {
        let (offers, audit) = (Arc::default(), None);
        let (asker, told) = (OnceLock::new(), OnceLock::new());
        Self { policies, principal, manifest, offers, audit, budget, asker, told }
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

    /// The principal, as it asks the policies.
    pub(super) fn asker(&self) -> &Asker {
        self.asker.get_or_init(|| self.policies.asker(&self.principal))
    }

    /// What records say of the agent.
    pub(super) fn told(&self) -> &Told {
        self.told.get_or_init(|| Told::new(&self.principal, &self.manifest))
    }
}
