//! One store, one call: the only place where a guest runs. A fresh store and instance for each
//! execution, dropped at its end; nothing survives but the [`Outcome`], and the instance itself where the manifest asks
//! for that.
//!
//! Invariant: whatever the guest does (compute, wait in a host call, recurse, allocate), the call
//! ends at the grant's wall clock, and dropping the future ends it at once.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mentat_manifest::{Fuel, Limits, Metering};
use tokio_util::sync::CancellationToken;
use wasmtime::Store;

use super::live::{Live, instantiate};
use super::module::{CoreCall, Entry, Linked};
use super::pool::Permit;
use super::trap::{self, Fault};
use super::warm::WarmInstance;
use crate::error::{Error, TimeLimit};
use crate::host::budget::{Budget, Sleep};
use crate::host::context::{HostConfig, HostContext, Preview2};
use crate::host::descriptors::Descriptors;
use crate::host::gate::Gate;
use crate::host::media::ObjectStdin;
use crate::host::preview1::{FIRST_DIRECTORY, Preview1};
use crate::host::sandbox::{self, OpenLines, Stdio};
use crate::host::sockets;
use crate::model::{Answer, Invocation, Outcome, Usage};
use crate::security::policy::Grant;

/// Host memory that one WASI call may take for copies and subscriptions, beyond input and output.
pub(crate) const HOST_CALL_BYTES: usize = 8 << 20;
/// Fuel after which a guest settles its account, about a millisecond of computing: what is told of one that was cut off
/// is true to this much.
pub(crate) const FUEL_SLICE: u64 = 1_000_000;

/// Where an execution takes place: in a sandbox of its own, or in one that was kept for it.
pub(super) struct Sandbox {
    pub(super) code: Arc<Linked>,
    /// Before the permit, whose slot it has.
    pub(super) kept: Option<Kept>,
    pub(super) permit: Permit,
    /// What a command reads in place of its input.
    pub(super) stdin: Option<ObjectStdin>,
}

/// An instance that served executions before.
pub(super) struct Kept {
    pub(super) store: Store<HostContext>,
    pub(super) live: Live,
    pub(super) uses: u32,
}

/// What becomes of an instance that ran to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Afterwards {
    /// It goes with its execution.
    Dropped,
    /// It is kept for another one.
    Kept,
}

/// Executes a module once; answers its instance as well, where that may be kept.
pub(super) async fn run(
    sandbox: Sandbox,
    host: &Arc<HostConfig>,
    grant: &Grant,
    invocation: Invocation,
    afterwards: Afterwards,
) -> (Outcome, Option<WarmInstance>) {
    let Sandbox { code, permit, kept, stdin } = sandbox;
    let mut context = HostContext::new(invocation.input, grant, host, invocation.events);
    context.stdin = stdin;
    context.memory_export = code.entry.memory();
    let gate = Arc::clone(&context.gate);
    let started = tokio::time::Instant::now();
    let (mut store, live, uses) = match kept.and_then(|kept| kept.enter(&mut context)) {
        Some(Kept { mut store, live, uses }) => {
            *store.data_mut() = context;
            (store, Some(live), uses)
        }
        None => (Store::new(&code.engine.wasmtime, context), None, 0),
    };
    let mut clock = Clock::start();

    let prepared = prepare(&mut store, &code, grant);
    let (result, live, open_lines) = match prepared {
        Err(error) => (Err(error), None, OpenLines::default()),
        Ok(open_lines) => {
            let interruption = Interruption { gate: &gate, cancel: &invocation.cancel, started };
            let called = interruption.or(call(&mut store, &code.entry, live, &mut clock)).await;
            let limits = gate.budget().limits();
            let (result, live) = match called {
                _ if let Some(message) = gate.violation() => {
                    (Err(Error::SecurityViolation { message }), None)
                }
                Ended::Cancelled => (Err(Error::Cancelled), None),
                Ended::TimedOut => {
                    (Err(Error::Timeout { limit: limits.timeout, clock: TimeLimit::Wall }), None)
                }
                Ended::Called(Ok((exit_code, live))) => (Ok(exit_code), Some(live)),
                Ended::Called(Err(error)) => (judge(&store, Err(error), &limits), None),
            };
            (result, live, open_lines)
        }
    };
    open_lines.finish(result.is_ok());

    let spent = Spent { clock, fuel: fuel_used(&store, &code, gate.budget()), queued: permit.queued() };
    let outcome = tell(&store, result, &spent);
    let kept = match live {
        Some(live) if afterwards == Afterwards::Kept => {
            store.data_mut().leave(host);
            Some(WarmInstance {
                store,
                live,
                code,
                permit,
                uses: uses.saturating_add(1),
                since: Instant::now(),
            })
        }
        _ => {
            // The slot goes back to the pool before the permit to use one does.
            drop(store);
            drop(permit);
            None
        }
    };
    (outcome, kept)
}

/// Makes an instance before there is an execution for it, without powers. `None` where its initialisation fails, or asks
/// the host for anything: that is for an execution to answer.
pub(super) async fn make_ahead(
    code: Arc<Linked>,
    host: &Arc<HostConfig>,
    grant: &Grant,
    permit: Permit,
) -> Option<WarmInstance> {
    let context = HostContext::new(Bytes::new(), grant, host, None);
    let gate = Arc::clone(&context.gate);
    let mut store = Store::new(&code.engine.wasmtime, context);
    prepare(&mut store, &code, grant).ok()?;
    let (cancel, started) = (CancellationToken::new(), tokio::time::Instant::now());
    let interruption = Interruption { gate: &gate, cancel: &cancel, started };
    let Ended::Called(Ok(live)) = interruption.or(instantiate(&mut store, &code.entry)).await else {
        return None;
    };
    if store.data().calls.iter().next().is_some() {
        return None;
    }
    store.data_mut().leave(host);
    Some(WarmInstance { store, live, code, permit, uses: 0, since: Instant::now() })
}

impl Kept {
    /// Hands over what the instance has of memory, if it is within what the execution may have.
    fn enter(mut self, context: &mut HostContext) -> Option<Self> {
        context.limiter.inherit(&mut self.store.data_mut().limiter).then_some(self)
    }
}

/// How a call came to its end.
enum Ended<T> {
    Called(wasmtime::Result<T>),
    TimedOut,
    Cancelled,
}

/// What ends a call before its own end.
struct Interruption<'a> {
    gate: &'a Gate,
    cancel: &'a CancellationToken,
    started: tokio::time::Instant,
}

impl Interruption<'_> {
    fn is_cancelled(&self) -> bool {
        self.gate.is_terminated() || self.cancel.is_cancelled()
    }

    async fn come<T>(&self) -> Ended<T> {
        tokio::select! {
            () = self.gate.terminated() => Ended::Cancelled,
            () = self.cancel.cancelled() => Ended::Cancelled,
            () = self.gate.budget().run_out(self.started) => Ended::TimedOut,
        }
    }

    /// Lets a call run until it ends, or this comes. A guest that is to be ended runs no further, one that was denied
    /// something at its beginning not at all. Most calls end at once, and nobody is asked to wake whoever waits for them.
    async fn or<T>(self, call: impl Future<Output = wasmtime::Result<T>>) -> Ended<T> {
        let (mut call, mut come) = (pin!(call), pin!(self.come()));
        poll_fn(|context| {
            if self.is_cancelled() {
                return Poll::Ready(Ended::Cancelled);
            }
            match call.as_mut().poll(context) {
                Poll::Ready(called) => Poll::Ready(Ended::Called(called)),
                Poll::Pending => come.as_mut().poll(context),
            }
        })
        .await
    }
}

/// When things happened; written from inside the call, read after it, even if it was cut off.
pub(super) struct Clock {
    started: Instant,
    called: Option<Instant>,
}

/// What an execution took that its store does not know.
pub(super) struct Spent {
    pub(super) clock: Clock,
    pub(super) fuel: Option<Fuel>,
    pub(super) queued: Duration,
}

impl Clock {
    pub(super) fn start() -> Self {
        Self { started: Instant::now(), called: None }
    }

    /// The entry point is called now.
    pub(super) fn call(&mut self) {
        self.called = Some(Instant::now());
    }
}

/// What came of a call: the exit code, or why there is none.
pub(super) fn judge(
    store: &Store<HostContext>,
    called: wasmtime::Result<i32>,
    limits: &Limits,
) -> Result<i32, Error> {
    called.or_else(|error| match trap::classify(&error, limits, store.data().limiter.refused()) {
        Fault::Exited(exit_code) => Ok(exit_code),
        Fault::Failed(error) => Err(error),
    })
}

/// What came of an execution that has ended.
pub(super) fn tell(store: &Store<HostContext>, result: Result<i32, Error>, spent: &Spent) -> Outcome {
    let (ended, context) = (Instant::now(), store.data());
    let result = result.map(|exit_code| Answer { output: context.output.take(), exit_code });
    let called = spent.clock.called.unwrap_or(ended);
    let usage = Usage {
        fuel: spent.fuel,
        peak_memory: context.limiter.memory_peak(),
        instantiation: called.duration_since(spent.clock.started),
        execution: ended.duration_since(called),
        queued: spent.queued,
    };
    let (logs, logs_dropped) = context.logs.take();
    Outcome { result, host_calls: context.calls, usage, logs, logs_dropped }
}

fn prepare(store: &mut Store<HostContext>, code: &Linked, grant: &Grant) -> Result<OpenLines, Error> {
    let limits = grant.limits();
    store.limiter(|context| &mut context.limiter);
    store.epoch_deadline_async_yield_and_update(1);
    store.set_epoch_deadline(1);
    if code.engine.metering == Metering::Fuel {
        let failed = |error| Error::internal("setting the fuel", error);
        store.set_fuel(limits.fuel.0).map_err(failed)?;
        store.fuel_async_yield_interval(Some(FUEL_SLICE)).map_err(failed)?;
    }
    // A component's input and output are copied through the host, whole: what a guest can hold is let through,
    // so that output over its limit is told as that.
    let transfer = limits.memory_bytes.0.max(store.data().input.len() as u64);
    let transfer = usize::try_from(transfer).unwrap_or(usize::MAX / 2);
    match &code.entry {
        Entry::Core { call, wasi, .. } => {
            store.set_hostcall_fuel(HOST_CALL_BYTES);
            let stdio = match call {
                CoreCall::Start => Stdio::Command,
                CoreCall::Process => Stdio::Logged,
            };
            Ok(if *wasi { preview1(store.data_mut(), stdio) } else { OpenLines::default() })
        }
        Entry::Agent(_) | Entry::Command(_) => {
            store.set_hostcall_fuel(transfer.saturating_add(HOST_CALL_BYTES));
            let stdio = match code.entry {
                Entry::Command(_) => Stdio::Command,
                _ => Stdio::Logged,
            };
            let context = store.data_mut();
            let (mut wasi, volumes, open_lines) = sandbox::build(context, stdio);
            // A component is given its directories when it asks for them.
            let files = Descriptors::new(Arc::clone(&context.gate), volumes, context.host.sandbox.files());
            let sleep = Sleep::new(context.host.sandbox.sleep);
            let outbound = Arc::clone(context.outbound());
            sockets::allow(&mut wasi, &outbound);
            context.preview2 = Some(Box::new(Preview2::new(wasi.build(), files, sleep, outbound)));
            Ok(open_lines)
        }
    }
}

/// WASI 0.1, with the files and variables of the grant.
fn preview1(context: &mut HostContext, stdio: Stdio) -> OpenLines {
    let (mut wasi, volumes, open_lines) = sandbox::build(context, stdio);
    let count = volumes.len();
    let mut files = Descriptors::new(Arc::clone(&context.gate), volumes, context.host.sandbox.files());
    for (descriptor, volume) in (FIRST_DIRECTORY..).zip(0..count) {
        files.opened_root(descriptor, volume);
    }
    let sleep = Sleep::new(context.host.sandbox.sleep);
    context.preview1 = Some(Box::new(Preview1 { wasi: wasi.build_p1(), files, sleep }));
    open_lines
}

async fn call(
    store: &mut Store<HostContext>,
    entry: &Entry,
    live: Option<Live>,
    clock: &mut Clock,
) -> wasmtime::Result<(i32, Live)> {
    let live = match live {
        Some(live) => live,
        None => instantiate(store, entry).await?,
    };
    clock.call();
    let exit_code = live.call(store).await?;
    Ok((exit_code, live))
}

fn fuel_used(store: &Store<HostContext>, code: &Linked, budget: &Budget) -> Option<Fuel> {
    if code.engine.metering != Metering::Fuel {
        return None;
    }
    let left = store.get_fuel().ok()?;
    Some(Fuel(budget.limits().fuel.0.saturating_sub(left)))
}

impl Usage {
    /// From admission to the end.
    #[must_use]
    pub fn total(&self) -> Duration {
        self.instantiation.saturating_add(self.execution)
    }
}
