//! The gate of one execution: every power that its guest uses is asked for here, by a handle or by way of WASI. Asks the
//! grant, and ends the execution where the operator wants denials to end it. It has the execution's budget as well, which
//! one of the powers can raise.
//!
//! Invariant: nothing in this room makes a `Permission`; what touches the world takes one, and gets it here.

use std::collections::HashSet;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};

use mentat_manifest::Capability;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::budget::Budget;
use super::capabilities::Violation;
use super::stdio::LogSink;
use crate::model::LogLevel;
use crate::security::denial::{Denial, DenialReason};
use crate::security::policy::{Grant, OnViolation, Permission};

/// Different refusals that an execution's log tells of; its own lines must find their place too.
const MAX_TOLD: usize = 50;

/// Where the powers of one execution are asked for.
#[derive(Debug)]
pub(crate) struct Gate {
    grant: Grant,
    budget: Budget,
    logs: LogSink,
    told: Mutex<HashSet<String>>,
    violation: Mutex<Option<String>>,
    terminated: AtomicBool,
    termination: Notify,
}

impl Gate {
    pub(crate) fn new(grant: Grant, logs: LogSink) -> Self {
        let budget = Budget::new(grant.limits().clone());
        let (told, violation) = (Mutex::default(), Mutex::default());
        let (terminated, termination) = (AtomicBool::new(false), Notify::const_new());
        Self { grant, budget, logs, told, violation, terminated, termination }
    }

    /// The offers, and the budget at the beginning; powers are asked for.
    pub(crate) fn grant(&self) -> &Grant {
        &self.grant
    }

    /// What the execution may cost, as it stands.
    pub(crate) fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Asks for a power.
    pub(crate) fn decide(&self, capability: &Capability) -> Result<Permission, Denial> {
        self.grant.decide(capability).inspect_err(|denial| self.denied(denial))
    }

    /// Refuses what the sandbox keeps back, whatever was granted.
    pub(crate) fn refuse(&self, capability: &Capability, why: &'static str) -> Denial {
        let denial = self.grant.refuse(capability, why);
        self.denied(&denial);
        denial
    }

    fn denied(&self, denial: &Denial) {
        // That nothing can be recorded is nobody's violation.
        let is_violation = denial.reason != DenialReason::Unrecorded;
        if is_violation && self.grant.on_violation() == OnViolation::Terminate {
            self.violation.lock().get_or_insert_with(|| denial.to_string());
            self.terminated.store(true, Ordering::Release);
            self.termination.notify_waiters();
        }
    }

    /// Asks for one of several powers, any of which will do, the last among them: one decision, about the first that is given,
    /// or else about the first.
    pub(crate) fn decide_any(&self, ways: &[Capability], last: &Capability) -> Result<Permission, Denial> {
        let given = ways.iter().chain([last]).find(|way| self.grant.explain(way).is_ok());
        self.decide(given.or(ways.first()).unwrap_or(last))
    }

    /// Tells the execution's log why something was refused, where the guest is told no more than an error number: once
    /// for each thing that was asked for.
    pub(crate) fn tell(&self, asked: &str, why: impl FnOnce() -> String) {
        let mut told = self.told.lock();
        if told.len() < MAX_TOLD && told.insert(asked.to_owned()) {
            self.logs.log(LogLevel::Warn, why().as_bytes());
        }
    }

    /// Ends a host call where the execution has to end for a denial.
    ///
    /// # Errors
    /// The violation, which is the guest's end.
    pub(crate) fn check(&self) -> wasmtime::Result<()> {
        match self.violation() {
            Some(message) => Err(Violation(message).into()),
            None => Ok(()),
        }
    }

    /// Whether the execution has to end for a denial.
    pub(crate) fn is_terminated(&self) -> bool {
        self.terminated.load(Ordering::Acquire)
    }

    /// Comes back when the execution has to end for a denial.
    pub(crate) async fn terminated(&self) {
        let mut told = pin!(self.termination.notified());
        // Before the look, so that nothing is missed between the two.
        told.as_mut().enable();
        if !self.is_terminated() {
            told.await;
        }
    }

    /// The denial that ends the execution, if there is one.
    pub(crate) fn violation(&self) -> Option<String> {
        self.violation.lock().clone()
    }
}
