//! How the agents that are stored stand by their signatures: found out when it is first asked, and again when it is no longer
//! current. What is found goes to the audit log, the metrics and the service's own log here, and nowhere else.
//!
//! Invariant: an execution asks this without waiting for anybody, and nothing is verified for it that was verified before.

use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::{ArcSwap, Guard};
use mentat_runtime::error::Error;
use mentat_runtime::model::Caller;
use mentat_runtime::security::attestation::{Attestations, Concern, Refusal, Standing, Verdict};
use mentat_runtime::security::audit::{Record, Recorder, RejectionPart};
use mentat_runtime::security::principal::Trust;

use crate::store::{OverSigned, StoredAgent};
use crate::telemetry::Metrics;

/// Who decides by signatures, and tells of it.
#[derive(Debug)]
pub struct Signatures {
    attestations: Arc<Attestations>,
    metrics: Arc<Metrics>,
    audit: Option<Recorder>,
}

/// What was last found of an agent; copies are of the same.
#[derive(Clone, Debug)]
pub struct LastStanding(Arc<ArcSwap<Standing>>);

/// How many agents stand how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StandingCounts {
    /// By level of trust, the lowest first.
    pub trusted: [u64; Trust::ALL.len()],
    /// Those that may not run.
    pub refused: u64,
}

impl Signatures {
    /// Decides by `attestations`; rejections are recorded in `audit` where there is one.
    #[must_use]
    pub fn new(attestations: Arc<Attestations>, metrics: Arc<Metrics>, audit: Option<Recorder>) -> Self {
        Self { attestations, metrics, audit }
    }

    /// How an agent stands now: found out where what was last found is no longer current.
    pub fn standing(&self, agent: &StoredAgent) -> Guard<Arc<Standing>> {
        loop {
            let now = SystemTime::now();
            let last = agent.standing.0.load();
            if self.attestations.is_current(&last, now) {
                return last;
            }
            let found = self.find(agent, now);
            // Of several who find it out at the same time, one tells.
            let before = agent.standing.0.compare_and_swap(&*last, Arc::clone(&found));
            if Arc::ptr_eq(&before, &last) {
                self.tell_changed(agent, &last, &found);
                return agent.standing.0.load();
            }
        }
    }

    /// Tells what an operator should know: once for each change, and not once for each look.
    fn tell_changed(&self, agent: &StoredAgent, last: &Standing, found: &Standing) {
        if let Some(refusal) = found.refusal()
            && last.refusal().map(|refusal| refusal.code) != Some(refusal.code)
        {
            self.tell_refused(None, agent, refusal);
        }
        if let Verdict::Tolerated(concern) = found.verdict()
            && last.verdict() != found.verdict()
        {
            let (id, version, tenant) = (&agent.id, &agent.version, &agent.tenant);
            tracing::warn!(agent_id = %id, %version, %tenant, "agent runs all the same: {concern}");
        }
    }

    /// Lets an agent in that somebody loads or activates.
    ///
    /// # Errors
    /// `ATTESTATION_REJECTED`.
    pub fn admit(&self, caller: &Caller, agent: &StoredAgent) -> Result<(), Error> {
        let found = self.find(agent, SystemTime::now());
        agent.standing.0.store(Arc::clone(&found));
        match found.verdict() {
            Verdict::Accepted => Ok(()),
            Verdict::Tolerated(concern) => {
                let (id, version, tenant) = (&agent.id, &agent.version, &agent.tenant);
                tracing::warn!(agent_id = %id, %version, %tenant, "agent loaded all the same: {concern}");
                if matches!(concern, Concern::UnsignedUntil(_)) {
                    self.metrics.attestation_unenforced();
                }
                Ok(())
            }
            Verdict::Refused(refusal) => {
                self.tell_refused(Some(caller), agent, refusal);
                Err(refusal.of(&agent.id, &agent.version))
            }
        }
    }

    /// Records a load that the store has refused for its signature.
    ///
    /// # Errors
    /// What the store said.
    pub fn record_refused(
        &self,
        caller: &Caller,
        agent: &StoredAgent,
        told: Result<(), Error>,
    ) -> Result<(), Error> {
        if let Err(Error::AttestationRejected { code, message, .. }) = &told {
            self.tell_refused(Some(caller), agent, &Refusal { code, message: message.clone() });
        }
        told
    }

    /// Whether unsigned agents of a tenant may take the place of signed ones.
    #[must_use]
    pub fn over_signed(&self, tenant: &str) -> OverSigned {
        if self.attestations.minds_signatures(tenant) { OverSigned::Refuse } else { OverSigned::Allow }
    }

    fn find(&self, agent: &StoredAgent, now: SystemTime) -> Arc<Standing> {
        let standing = self.attestations.judge(&agent.candidate(), now);
        if let Some(verification) = standing.verification() {
            self.metrics.attestation_verified(&verification);
        }
        Arc::new(standing)
    }

    fn tell_refused(&self, caller: Option<&Caller>, agent: &StoredAgent, refusal: &Refusal) {
        let StoredAgent { tenant, id, version, .. } = agent;
        let Refusal { code, message } = refusal;
        tracing::warn!(agent_id = %id, %version, %tenant, code, "agent refused: {message}");
        if let Some(audit) = &self.audit {
            audit.record(Record::of_rejection(RejectionPart {
                agent: id.to_string(),
                version: version.to_string(),
                module: agent.module.to_string(),
                tenant: tenant.to_string(),
                caller: caller.map(|caller| caller.name.to_string()),
                code: (*code).to_owned(),
                reason: message.clone(),
            }));
        }
    }
}

impl LastStanding {
    /// What was last found, whether or not it is current.
    #[must_use]
    pub fn last(&self) -> Arc<Standing> {
        self.0.load_full()
    }
}

impl Default for LastStanding {
    fn default() -> Self {
        Self(Arc::new(ArcSwap::from_pointee(Standing::unknown())))
    }
}

/// What was found is not what an agent is.
impl PartialEq for LastStanding {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for LastStanding {}

impl StandingCounts {
    /// With one more.
    #[must_use]
    pub fn with(mut self, standing: &Standing) -> Self {
        if standing.refusal().is_some() {
            self.refused += 1;
            return self;
        }
        for (level, count) in Trust::ALL.into_iter().zip(&mut self.trusted) {
            *count += u64::from(level == standing.trust());
        }
        self
    }
}
