//! Whether an agent may be loaded and executed by what was signed of it, and how far its signer is trusted: the operator's
//! rules on top of what a verifier finds. Reads no files; what the operator trusts comes in as a [`Verifier`], and is replaced
//! whole.
//!
//! Invariant: a [`Standing`] is only made here, and says until when it is worth anything. Whoever keeps one asks
//! [`Attestations::is_current`] before they go by it, which is two comparisons and no lock.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mentat_attestation::{Signer, Verifier};
use mentat_manifest::{AgentId, AgentVersion, Attestation, ModuleDigest};
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

use super::principal::Trust;
use super::time::rfc3339_of;
use crate::error::Error;

/// The longest that what was found of a signature counts: clocks are set, and a rejection may have been for a time to come.
const RECHECK_EVERY: Duration = Duration::from_secs(60);
/// The same of agents without a signature, of which only dates that the operator set can change anything.
const RECHECK_UNSIGNED_EVERY: Duration = Duration::from_secs(24 * 60 * 60);

/// Whether agents must be signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AttestationMode {
    /// Agents without a signature that holds are refused.
    Required,
    /// Agents without a signature are untrusted; those with one that does not hold are refused.
    #[default]
    Optional,
    /// Nobody looks at signatures; all agents are untrusted.
    Off,
}

/// The operator's rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttestationRules {
    /// Whether agents must be signed.
    pub mode: AttestationMode,
    /// The same for single tenants.
    pub tenants: BTreeMap<String, AttestationMode>,
    /// Before it, agents without a signature are told of and not refused.
    pub enforce_from: Option<SystemTime>,
    /// Who is trusted how far; whoever has a valid chain and is not in here is `signed`.
    pub trust: Vec<TrustRule>,
    /// Versions that agents must have at least.
    pub minimum_versions: Vec<MinimumVersion>,
}

/// How far signers are trusted that are all of what is given here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustRule {
    /// How far.
    pub level: Trust,
    /// The email address of the certificate, or `*@` and the domain of any.
    pub email: Option<String>,
    /// The certificate's subject, by RFC 4514.
    pub subject: Option<String>,
    /// The one organisation of its subject.
    pub organisation: Option<String>,
    /// The object identifier of a policy that it was issued under.
    pub policy: Option<String>,
    /// `sha256:<hex>` of the root that it leads to.
    pub root: Option<String>,
}

/// A version that an agent must have at least.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MinimumVersion {
    /// The agent.
    pub agent: AgentId,
    /// The oldest version that may run.
    pub version: AgentVersion,
    /// The tenants that this is for; everybody where empty.
    pub tenants: Vec<String>,
}

/// An agent that is to be judged.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Whose it is.
    pub tenant: &'a str,
    /// The manifest's id.
    pub id: &'a AgentId,
    /// The manifest's version.
    pub version: &'a AgentVersion,
    /// The manifest's text.
    pub manifest: &'a str,
    /// The module.
    pub module: &'a ModuleDigest,
    /// The block that says who signed it, wherever that came from.
    pub attestation: Option<&'a Attestation>,
}

/// What was found of an agent: how far it is trusted, or why it may not run.
#[derive(Clone, Debug)]
pub struct Standing {
    trust: Trust,
    name: Option<Arc<str>>,
    signer: Option<Box<Signer>>,
    verdict: Verdict,
    /// What it was found under.
    generation: u64,
    /// The first moment in which it may be otherwise.
    until: SystemTime,
    verification: Option<Verification>,
}

/// Whether it may run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may.
    Accepted,
    /// It may, and the operator should know this.
    Tolerated(Concern),
    /// It may not.
    Refused(Refusal),
}

/// What an operator should know of an agent that may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Concern {
    /// It is not signed, and will be refused from this time on.
    UnsignedUntil(SystemTime),
    /// It is signed, and there are no roots to verify that by.
    NoRoots,
}

/// Why an agent may not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The cause in one word, which never changes.
    pub code: &'static str,
    /// The cause, and what to do; escaped.
    pub message: String,
}

/// That a signature was verified, for those who count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verification {
    /// `valid`, or the code of the rejection.
    pub result: &'static str,
    /// How long it took.
    pub took: Duration,
}

/// Who decides by signatures in a service.
#[derive(Debug)]
pub struct Attestations {
    rules: AttestationRules,
    verifier: RwLock<Arc<Verifier>>,
    /// Goes up with every change of what the operator trusts; 0 is before the first.
    generation: AtomicU64,
}

impl Attestations {
    /// Decides by these rules, and by what the operator trusts.
    #[must_use]
    pub fn new(rules: AttestationRules, verifier: Verifier) -> Self {
        Self { rules, verifier: RwLock::new(Arc::new(verifier)), generation: AtomicU64::new(1) }
    }

    /// Goes by other roots and revocation lists from now on: whatever was found before is not current any more.
    pub fn replace(&self, verifier: Verifier) {
        *self.verifier.write() = Arc::new(verifier);
        // After it is there, so that nothing that was found by the old one is taken for new.
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Whether a standing still says how things are.
    #[must_use]
    pub fn is_current(&self, standing: &Standing, now: SystemTime) -> bool {
        standing.generation == self.generation.load(Ordering::Acquire) && now < standing.until
    }

    /// Whether this tenant's agents may be replaced by unsigned ones once they were signed.
    #[must_use]
    pub fn minds_signatures(&self, tenant: &str) -> bool {
        self.mode(tenant) != AttestationMode::Off
    }

    /// How an agent stands. Verifies a signature where there is one, which takes some tenths of a millisecond.
    #[must_use]
    pub fn judge(&self, candidate: &Candidate<'_>, now: SystemTime) -> Standing {
        // Before the verifier, so that one which comes between makes this old.
        let generation = self.generation.load(Ordering::Acquire);
        let verifier = Arc::clone(&self.verifier.read());
        let mut standing = self.judge_signature(candidate, &verifier, now);
        standing.generation = generation;
        if let (Some(refusal), false) = (self.outdated(candidate), standing.is_refused()) {
            standing.verdict = Verdict::Refused(refusal);
        }
        standing
    }

    fn judge_signature(&self, candidate: &Candidate<'_>, verifier: &Verifier, now: SystemTime) -> Standing {
        let mode = self.mode(candidate.tenant);
        let enforced_later = self.rules.enforce_from.filter(|from| now < *from);
        let unsigned = |verdict| Standing {
            until: (now + RECHECK_UNSIGNED_EVERY).min(enforced_later.unwrap_or(now + RECHECK_UNSIGNED_EVERY)),
            verdict,
            ..Standing::unknown()
        };
        let attestation = match (mode, candidate.attestation) {
            (AttestationMode::Off, _) | (AttestationMode::Optional, None) => {
                return unsigned(Verdict::Accepted);
            }
            (AttestationMode::Required, None) => {
                return unsigned(match enforced_later {
                    Some(from) => Verdict::Tolerated(Concern::UnsignedUntil(from)),
                    None => Verdict::Refused(Refusal::unsigned()),
                });
            }
            (_, Some(attestation)) => attestation,
        };
        if verifier.anchors().roots().is_empty() {
            return unsigned(match mode {
                AttestationMode::Required => Verdict::Refused(Refusal::no_roots()),
                _ => Verdict::Tolerated(Concern::NoRoots),
            });
        }
        let began = std::time::Instant::now();
        let verified = verifier.verify(candidate.manifest, attestation, candidate.module, now);
        let verification = |result| Some(Verification { result, took: began.elapsed() });
        match verified {
            Ok(signer) => Standing {
                trust: self.trust(&signer),
                name: Some(signer.name().into()),
                // The last second in which it holds belongs to it.
                until: (now + RECHECK_EVERY).min(signer.holds_until + Duration::from_secs(1)),
                signer: Some(Box::new(signer)),
                verdict: Verdict::Accepted,
                generation: 0,
                verification: verification("valid"),
            },
            Err(rejection) => Standing {
                until: now + RECHECK_EVERY,
                verdict: Verdict::Refused(Refusal { code: rejection.code(), message: rejection.to_string() }),
                verification: verification(rejection.code()),
                ..Standing::unknown()
            },
        }
    }

    fn mode(&self, tenant: &str) -> AttestationMode {
        self.rules.tenants.get(tenant).copied().unwrap_or(self.rules.mode)
    }

    fn trust(&self, signer: &Signer) -> Trust {
        let levels = self.rules.trust.iter().filter(|rule| rule.fits(signer)).map(|rule| rule.level);
        levels.max().unwrap_or(Trust::Signed)
    }

    /// Why the version is too old: a vulnerable version stays signed for as long as its signer is trusted.
    fn outdated(&self, candidate: &Candidate<'_>) -> Option<Refusal> {
        let is_for = |minimum: &&MinimumVersion| {
            minimum.agent == *candidate.id
                && (minimum.tenants.is_empty()
                    || minimum.tenants.iter().any(|tenant| tenant == candidate.tenant))
        };
        let minimum =
            self.rules.minimum_versions.iter().filter(is_for).map(|minimum| &minimum.version).max()?;
        (candidate.version < minimum).then(|| Refusal {
            code: "version_below_minimum",
            message: format!(
                "the operator wants version {minimum} of it at least (`attestation.minimum_versions`); load or activate a \
                 newer one"
            ),
        })
    }
}

impl Standing {
    /// That nothing was found out yet; never current.
    #[must_use]
    pub fn unknown() -> Self {
        Self {
            trust: Trust::Untrusted,
            name: None,
            signer: None,
            verdict: Verdict::Accepted,
            generation: 0,
            until: UNIX_EPOCH,
            verification: None,
        }
    }

    /// How far the agent is trusted.
    #[must_use]
    pub fn trust(&self) -> Trust {
        self.trust
    }

    /// What the signer is called, where a signature holds.
    #[must_use]
    pub fn name(&self) -> Option<&Arc<str>> {
        self.name.as_ref()
    }

    /// The signer, where a signature holds.
    #[must_use]
    pub fn signer(&self) -> Option<&Signer> {
        self.signer.as_deref()
    }

    /// Whether the agent may run.
    #[must_use]
    pub fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    /// Why it may not.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        match &self.verdict {
            Verdict::Refused(refusal) => Some(refusal),
            Verdict::Accepted | Verdict::Tolerated(_) => None,
        }
    }

    /// The code of why the agent may not run, and a sentence about it; or, where it may, no code, and what its operator
    /// should know.
    #[must_use]
    pub fn told(&self) -> (&'static str, String) {
        match &self.verdict {
            Verdict::Accepted => ("", String::new()),
            Verdict::Tolerated(concern) => ("", concern.to_string()),
            Verdict::Refused(refusal) => (refusal.code, refusal.message.clone()),
        }
    }

    /// What was done to find it out, where a signature was verified.
    #[must_use]
    pub fn verification(&self) -> Option<Verification> {
        self.verification
    }

    fn is_refused(&self) -> bool {
        self.refusal().is_some()
    }
}

impl Refusal {
    fn unsigned() -> Self {
        Self {
            code: "unsigned",
            message: "it is not signed, and this server wants agents that are (`attestation.mode`); sign it"
                .into(),
        }
    }

    fn no_roots() -> Self {
        Self {
            code: "no_roots",
            message:
                "there are no roots to verify its signature by; the operator sets them by `attestation.roots`"
                    .into(),
        }
    }

    /// That an unsigned agent is to take the place of a signed one.
    #[must_use]
    pub fn unsigned_over_signed(signed: &AgentVersion) -> Self {
        Self {
            code: "unsigned_over_signed",
            message: format!(
                "it is not signed, and version {signed} of it is, which is loaded; sign it, or unload the signed versions \
                 first"
            ),
        }
    }

    /// The same for callers.
    #[must_use]
    pub fn of(&self, id: &AgentId, version: &AgentVersion) -> Error {
        Error::AttestationRejected {
            agent: format!("{id}@{version}"),
            code: self.code,
            message: self.message.clone(),
        }
    }
}

impl TrustRule {
    fn fits(&self, signer: &Signer) -> bool {
        let is = |wanted: &Option<String>, found: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| found == Some(wanted))
        };
        let email = |wanted: &String| signer.email.as_deref().is_some_and(|email| is_address(wanted, email));
        self.email.as_ref().is_none_or(email)
            && is(&self.subject, Some(&signer.subject))
            && is(&self.organisation, signer.organisation.as_deref())
            && is(&self.root, Some(&signer.root_fingerprint))
            && self.policy.as_ref().is_none_or(|policy| signer.policies.contains(policy))
    }
}

/// Whether an address is the one that is wanted, or one of the domain that is. Case matters before the `@` (RFC 5321, section
/// 2.4), so that nobody is taken for another.
fn is_address(wanted: &str, email: &str) -> bool {
    let (Some((local, domain)), Some((wanted_local, wanted_domain))) =
        (email.rsplit_once('@'), wanted.rsplit_once('@'))
    else {
        return false;
    };
    (wanted_local == "*" || wanted_local == local) && domain.eq_ignore_ascii_case(wanted_domain)
}

impl fmt::Display for Concern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnsignedUntil(from) => {
                write!(
                    formatter,
                    "it is not signed, and will be refused from {} on; sign it",
                    rfc3339_of(*from)
                )
            }
            Self::NoRoots => formatter.write_str(
                "it is signed, and there are no roots to verify that by; set them by `attestation.roots`",
            ),
        }
    }
}

#[cfg(test)]
mod tests;
