//! Executions that are over in a moment, as most are: on the caller's own stack, and not on a fibre, which is there to give
//! the thread away in the middle. What takes longer is begun anew on a fibre, and its module is not tried here again.
//!
//! Invariant: nothing of an execution has left its sandbox when it is given up here. So only modules are tried that ask
//! the host for their input, their output and their log; what they logged is told when they are over.

use std::sync::Arc;
use std::time::Duration;

use mentat_manifest::{Fuel, Metering};
use wasmtime::{Store, Trap};

use super::code::Tier;
use super::inspect::ModuleInfo;
use super::instance::{Clock, FUEL_SLICE, HOST_CALL_BYTES, Spent, judge, tell};
use super::live::call_now;
use super::module::{CoreCall, Linked};
use super::pool::Permit;
use crate::host::context::{HostConfig, HostContext};
use crate::model::{Event, Invocation, Outcome};
use crate::security::policy::Grant;

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

/// Whether a module's executions can be tried here at all.
pub(super) fn is_harmless(info: &ModuleInfo, tier: Tier, metering: Metering, call: CoreCall) -> bool {
    let asks_for_little =
        info.imports.iter().all(|import| HARMLESS.contains(&(import.module.as_str(), import.name.as_str())));
    // Baseline code calls the host to be charged, and waits there.
    asks_for_little && tier == Tier::Optimized && metering == Metering::Fuel && call == CoreCall::Process
}

/// Executes a module, if that is possible here, and over in a moment.
pub(super) fn run(
    code: &Linked,
    host: &Arc<HostConfig>,
    grant: &Grant,
    invocation: &Invocation,
    permit: &Permit,
) -> Option<Outcome> {
    let limits = grant.limits();
    let stack = usize::try_from(code.engine.stack.0).ok()?.checked_add(HOST_STACK_BYTES)?;
    let is_possible = !invocation.cancel.is_cancelled()
        && limits.timeout >= LEAST_TIMEOUT
        && stacker::remaining_stack().is_some_and(|left| left >= stack);
    if !is_possible {
        return None;
    }
    let mut context = HostContext::new(invocation.input.clone(), grant, host, None);
    context.memory_export = code.entry.memory();
    let mut store = Store::new(&code.engine.wasmtime, context);
    let mut clock = Clock::start();
    store.limiter(|context| &mut context.limiter);
    // In case that a single operation takes long: by then the second one traps.
    store.set_epoch_deadline(2);
    // As much as it may take on a fibre before it gives its thread away.
    let fuel = limits.fuel.0.min(FUEL_SLICE);
    store.set_fuel(fuel).ok()?;
    store.set_hostcall_fuel(HOST_CALL_BYTES);
    let called = call_now(&mut store, &code.entry, &mut clock)?;
    if let Err(error) = &called {
        let ran_out = match error.downcast_ref::<Trap>() {
            Some(Trap::OutOfFuel) => fuel < limits.fuel.0,
            Some(Trap::Interrupt) => true,
            _ => false,
        };
        if ran_out {
            code.remember_long();
            return None;
        }
    }
    let fuel = Some(Fuel(fuel.saturating_sub(store.get_fuel().ok()?)));
    let result = judge(&store, called, limits);
    let outcome = tell(&store, result, &Spent { clock, fuel, queued: permit.queued() });
    if let Some(events) = &invocation.events {
        outcome.logs.iter().for_each(|line| events.write(Event::Log(line.clone())));
    }
    Some(outcome)
}
