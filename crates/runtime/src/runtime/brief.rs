//! Executions that are over in a moment, as most are: on the caller's own stack, and not on a fibre, which is there to give
//! the thread away in the middle. What takes longer is begun anew on a fibre, and its module is not tried here for a while.
//!
//! Invariant: nothing of an execution has left its sandbox when it is given up here. So only modules are tried that ask
//! the host for their input, their output and their log; what they logged is told when they are over.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use mentat_manifest::{ByteCount, Fuel, Metering};
use wasmtime::{Store, Trap};

use super::code::Tier;
use super::inspect::ModuleInfo;
use super::instance::{Clock, FUEL_SLICE, HOST_CALL_BYTES, Spent, judge, tell};
use super::live::call_now;
use super::module::{CoreCall, Linked};
use super::pool::Permit;
use crate::host::context::{HostConfig, HostContext};
use crate::model::Outcome;
use crate::security::policy::Grant;

/// Bytes of memory that an execution may have here: to be given their pages, and to give them back, takes milliseconds.
const MAX_MEMORY: ByteCount = ByteCount(8 << 20);
/// Fuel and memory of an execution that takes little more than the rest of a request does, some tenth of a millisecond.
const SHORT_FUEL: u64 = 100_000;
const SHORT_MEMORY: ByteCount = ByteCount(2 << 20);
/// Executions in a row that took no more, after which the next one is expected to.
const SHORT_IN_A_ROW: u32 = 64;
/// The shortest wall clock that nothing here comes near to.
const LEAST_TIMEOUT: Duration = Duration::from_millis(100);
/// Stack for the host's functions, beyond the guest's.
const HOST_STACK_BYTES: usize = 256 << 10;
/// What modules may ask the host for that are tried: nothing that is done for anybody else.
const HARMLESS: [(&str, &str); 6] = [
    ("mentat", "read_input"),
    ("mentat", "write_output"),
    ("mentat", "log"),
    ("mentat", "result_read"),
    ("mentat", "last_error"),
    ("env", "abort"),
];

/// Executions that are not tried here after the first that took longer, and at most.
const FIRST_LEFT_OUT: u32 = 16;
const MOST_LEFT_OUT: u32 = 4096;

/// How long the next execution of a module will take, by what the last ones did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Expected {
    /// No more than a request takes besides it.
    Short,
    /// About a millisecond at most.
    Brief,
    /// Longer, or it is not known how long.
    Long,
}

/// Whether a module's executions are tried here. After one that took longer, which can be for its input, or since others
/// had the processor, the next ones are not; twice as many each time, until one was brief again.
#[derive(Debug)]
pub(super) struct Brevity {
    is_possible: bool,
    /// Executions before the next one that is tried.
    left_out: AtomicU32,
    /// How many that will be after the next one that takes longer.
    next_left_out: AtomicU32,
    /// Executions in a row that were short, as far as they are counted.
    short: AtomicU32,
}

impl Brevity {
    /// Of a module whose executions can be tried at all, or not.
    pub(super) fn new(is_possible: bool) -> Self {
        let next_left_out = AtomicU32::new(FIRST_LEFT_OUT);
        Self { is_possible, left_out: AtomicU32::new(0), next_left_out, short: AtomicU32::new(0) }
    }

    /// Whether the next execution is tried.
    pub(super) fn is_likely(&self) -> bool {
        self.is_possible && self.left_out.load(Ordering::Relaxed) == 0
    }

    /// What is expected of the next execution.
    pub(super) fn expected(&self) -> Expected {
        match self.is_likely() {
            false => Expected::Long,
            true if self.short.load(Ordering::Relaxed) >= SHORT_IN_A_ROW => Expected::Short,
            true => Expected::Brief,
        }
    }

    /// An execution is not tried here. Two that come at once may count as one, which does no harm.
    pub(super) fn leave_out(&self) {
        let left_out = self.left_out.load(Ordering::Relaxed);
        if left_out > 0 {
            let _ =
                self.left_out.compare_exchange(left_out, left_out - 1, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    fn was_brief(&self, fuel: u64, memory: ByteCount) {
        let short = self.short.load(Ordering::Relaxed);
        if fuel > SHORT_FUEL || memory > SHORT_MEMORY {
            self.was_not_short();
        } else if short < SHORT_IN_A_ROW {
            // Where another one was not meanwhile, that counts.
            let _ = self.short.compare_exchange(short, short + 1, Ordering::Relaxed, Ordering::Relaxed);
        }
        if self.next_left_out.load(Ordering::Relaxed) != FIRST_LEFT_OUT {
            self.next_left_out.store(FIRST_LEFT_OUT, Ordering::Relaxed);
        }
    }

    fn was_not_short(&self) {
        if self.short.load(Ordering::Relaxed) > 0 {
            self.short.store(0, Ordering::Relaxed);
        }
    }

    /// One that was tried took longer than it was expected to.
    fn was_longer_than(&self, expected: Expected) {
        match expected {
            Expected::Short => self.was_not_short(),
            Expected::Brief | Expected::Long => self.was_long(),
        }
    }

    fn was_long(&self) {
        self.was_not_short();
        let next = self.next_left_out.load(Ordering::Relaxed);
        // Several that took long at the same time, as where the machine stood still, count once.
        if self.left_out.compare_exchange(0, next, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            self.next_left_out.store(next.saturating_mul(2).min(MOST_LEFT_OUT), Ordering::Relaxed);
        }
    }
}

/// Whether a module's executions can be tried here at all.
pub(super) fn is_harmless(info: &ModuleInfo, tier: Tier, metering: Metering, call: CoreCall) -> bool {
    let asks_for_little =
        info.imports.iter().all(|import| HARMLESS.contains(&(import.module.as_str(), import.name.as_str())));
    // Baseline code calls the host to be charged, and waits there.
    asks_for_little && tier == Tier::Optimized && metering == Metering::Fuel && call == CoreCall::Process
}

/// Executes a module, if that is possible here, and over in as short a time as is expected.
pub(super) fn run(
    expected: Expected,
    code: &Linked,
    host: &Arc<HostConfig>,
    grant: &Grant,
    input: &Bytes,
    permit: &Permit,
) -> Option<Outcome> {
    let limits = grant.limits();
    let stack = usize::try_from(code.engine.stack.0).ok()?.checked_add(HOST_STACK_BYTES)?;
    let is_possible =
        limits.timeout >= LEAST_TIMEOUT && stacker::remaining_stack().is_some_and(|left| left >= stack);
    if !is_possible {
        return None;
    }
    let mut context = HostContext::new(input.clone(), grant, host, None);
    let (most_fuel, most_memory) = match expected {
        Expected::Short => (SHORT_FUEL, SHORT_MEMORY),
        // As much as it may take on a fibre before it gives its thread away.
        Expected::Brief | Expected::Long => (FUEL_SLICE, MAX_MEMORY),
    };
    context.limiter.cap(most_memory);
    context.memory_export = code.entry.memory();
    let mut store = Store::new(&code.engine.wasmtime, context);
    let mut clock = Clock::start();
    store.limiter(|context| &mut context.limiter);
    // In case that a single operation takes long: by then the second one traps.
    store.set_epoch_deadline(2);
    let fuel = limits.fuel.0.min(most_fuel);
    store.set_fuel(fuel).ok()?;
    store.set_hostcall_fuel(HOST_CALL_BYTES);
    let called = call_now(&mut store, &code.entry, &mut clock)?;
    // Whatever came of it: its guest may have gone another way for want of memory.
    if store.data().limiter.is_capped() {
        code.brevity.was_longer_than(expected);
        return None;
    }
    if let Err(error) = &called {
        let ran_out = match error.downcast_ref::<Trap>() {
            Some(Trap::OutOfFuel) => fuel < limits.fuel.0,
            Some(Trap::Interrupt) => true,
            _ => false,
        };
        if ran_out {
            code.brevity.was_longer_than(expected);
            return None;
        }
    }
    let fuel = fuel.saturating_sub(store.get_fuel().ok()?);
    code.brevity.was_brief(fuel, store.data().limiter.memory_peak());
    let fuel = Some(Fuel(fuel));
    let result = judge(&store, called, limits);
    Some(tell(&store, result, &Spent { clock, fuel, queued: permit.queued() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many executions are left out until one is tried.
    fn left_out(brevity: &Brevity) -> u32 {
        let mut left_out = 0;
        while !brevity.is_likely() {
            brevity.leave_out();
            left_out += 1;
        }
        left_out
    }

    #[test]
    fn who_took_longer_is_tried_again_later_and_who_always_does_seldom() {
        let brevity = Brevity::new(true);
        assert!(brevity.is_likely());
        for expected in [16, 32, 64] {
            brevity.was_long();
            assert_eq!(left_out(&brevity), expected);
        }
        brevity.was_brief(1, ByteCount(0));
        brevity.was_long();
        assert_eq!(left_out(&brevity), 16);
        (0..40).for_each(|_| brevity.was_long());
        assert_eq!(left_out(&brevity), 32, "at the same time");
        for _ in 0..10 {
            brevity.was_long();
            left_out(&brevity);
        }
        brevity.was_long();
        assert_eq!(left_out(&brevity), MOST_LEFT_OUT);
        assert!(!Brevity::new(false).is_likely());
    }

    #[test]
    fn who_was_short_many_times_in_a_row_is_expected_to_be_again() {
        let brevity = Brevity::new(true);
        for _ in 0..SHORT_IN_A_ROW {
            assert_eq!(brevity.expected(), Expected::Brief);
            brevity.was_brief(SHORT_FUEL, SHORT_MEMORY);
        }
        let is_short_again = || {
            (0..SHORT_IN_A_ROW).for_each(|_| brevity.was_brief(1, ByteCount(0)));
            assert_eq!(brevity.expected(), Expected::Short);
        };
        is_short_again();
        brevity.was_brief(SHORT_FUEL + 1, SHORT_MEMORY);
        assert_eq!(brevity.expected(), Expected::Brief);
        is_short_again();
        brevity.was_brief(1, ByteCount(SHORT_MEMORY.0 + 1));
        assert_eq!(brevity.expected(), Expected::Brief);
        is_short_again();
        brevity.was_longer_than(Expected::Short);
        assert_eq!(brevity.expected(), Expected::Brief);
        is_short_again();
        brevity.was_longer_than(Expected::Brief);
        assert_eq!(brevity.expected(), Expected::Long);
        left_out(&brevity);
        assert_eq!(brevity.expected(), Expected::Brief);
        assert_eq!(Brevity::new(false).expected(), Expected::Long);
    }
}
