//! What one execution has asked for so far: counted by kind, and remembered where it is recorded, so that the same question
//! is on record once.

use std::collections::{BTreeMap, HashMap};

use mentat_manifest::{Capability, CapabilityKind};

use super::audit::Decisions;
use super::denial::DenialReason;
use super::policy::Permission;

/// Different answers to questions of one execution; each is a record in the audit log.
const MAX_RECORDED: usize = 10_000;

/// How often a power was given, by which policies.
pub(super) type Given = BTreeMap<(Capability, Vec<String>), u64>;

/// What an execution has asked for so far.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    by_kind: BTreeMap<CapabilityKind, Decisions>,
    /// The answers to each question that are on record.
    recorded: HashMap<Capability, Answers>,
    /// How many answers that are.
    records: usize,
    /// Whether anything found no place on record, or no log that can be written; the first of either has a record.
    is_full: bool,
    is_unwritten: bool,
    /// Kept where a receipt is to say so.
    given: Option<Given>,
}

/// Which answers to a question are on record.
#[derive(Clone, Copy, Debug, Default)]
struct Answers {
    given: bool,
    refused: bool,
}

impl Answers {
    fn of(&mut self, is_given: bool) -> &mut bool {
        if is_given { &mut self.given } else { &mut self.refused }
    }
}

impl Ledger {
    /// How often powers were given and refused, by kind.
    pub(super) fn decisions(&self) -> &BTreeMap<CapabilityKind, Decisions> {
        &self.by_kind
    }

    /// From now on, what is given is remembered.
    pub(super) fn remember_given(&mut self) {
        self.given.get_or_insert_default();
    }

    /// What was given since.
    pub(super) fn take_given(&mut self) -> Given {
        self.given.take().unwrap_or_default()
    }

    /// Counts a decision.
    pub(super) fn count(&mut self, kind: CapabilityKind, is_given: bool) {
        let decisions = self.by_kind.entry(kind).or_default();
        let count = if is_given { &mut decisions.granted } else { &mut decisions.denied };
        *count = count.saturating_add(1);
    }

    /// Counts a decision that is to be on record, and says whether it is new there. What cannot be recorded is not given:
    /// `is_recording` says whether anything can, and of different things there is room for so many.
    pub(super) fn note(
        &mut self,
        capability: &Capability,
        mut decided: Result<Permission, DenialReason>,
        is_recording: bool,
    ) -> (Result<Permission, DenialReason>, bool) {
        let is_given = decided.is_ok();
        let mut is_known = self.recorded.get_mut(capability).is_some_and(|answers| *answers.of(is_given));
        if !is_known {
            let refused = if self.records >= MAX_RECORDED {
                Some((DenialReason::TooMany(MAX_RECORDED), &mut self.is_full))
            } else {
                (!is_recording).then_some((DenialReason::Unrecorded, &mut self.is_unwritten))
            };
            if let Some((reason, is_told)) = refused {
                // What is refused in any case is told by its own reason.
                decided = decided.and(Err(reason));
                is_known = std::mem::replace(is_told, true);
            } else {
                *self.recorded.entry(capability.clone()).or_default().of(is_given) = true;
                self.records += 1;
            }
        }
        self.count(capability.kind(), decided.is_ok());
        if let (Some(given), Ok(permission)) = (&mut self.given, &decided) {
            let key = (permission.capability().clone(), permission.policies().to_vec());
            let count = given.entry(key).or_default();
            *count = count.saturating_add(1);
        }
        (decided, !is_known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused() -> Result<Permission, DenialReason> {
        Err(DenialReason::Narrowed)
    }

    #[test]
    fn the_same_is_recorded_once_and_counted_each_time() {
        let mut ledger = Ledger::default();
        let asked = "env:A".parse().unwrap();
        assert_eq!(ledger.note(&asked, refused(), true), (refused(), true));
        assert_eq!(ledger.note(&asked, refused(), true), (refused(), false));
        assert_eq!(ledger.decisions()[&CapabilityKind::Env], Decisions { granted: 0, denied: 2 });
    }

    #[test]
    fn answers_that_change_to_and_fro_are_recorded_once_each() {
        let mut ledger = Ledger::default();
        let asked: Capability = "env:A".parse().unwrap();
        let given = || Ok(Permission { capability: asked.clone(), policies: Vec::new() });
        let new = |ledger: &mut Ledger, decided| ledger.note(&asked, decided, true).1;
        assert!(new(&mut ledger, given()) && new(&mut ledger, refused()));
        assert!(!new(&mut ledger, given()) && !new(&mut ledger, refused()) && !new(&mut ledger, given()));
    }

    #[test]
    fn what_cannot_be_recorded_is_refused_and_the_first_of_it_is_on_record() {
        let asked = |number: usize| format!("env:A{number}").parse::<Capability>().unwrap();
        let given = |number: usize| Ok(Permission { capability: asked(number), policies: Vec::new() });
        let mut ledger = Ledger::default();
        let unrecorded = || Err(DenialReason::Unrecorded);
        assert_eq!(ledger.note(&asked(0), given(0), false), (unrecorded(), true));
        assert_eq!(ledger.note(&asked(1), given(1), false), (unrecorded(), false));
        assert_eq!(ledger.note(&asked(2), refused(), false), (refused(), false), "it has its own reason");
        for number in 0..MAX_RECORDED {
            assert_eq!(ledger.note(&asked(number), given(number), true), (given(number), true));
        }
        let too_many = || Err(DenialReason::TooMany(MAX_RECORDED));
        let next = MAX_RECORDED;
        assert_eq!(ledger.note(&asked(next), given(next), true), (too_many(), true));
        assert_eq!(ledger.note(&asked(next), given(next), true), (too_many(), false));
        assert_eq!(ledger.note(&asked(0), given(0), true), (given(0), false));
    }
}
