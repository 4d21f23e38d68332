//! An instance, and how it is called: made from linked code in a store that is prepared for it.

use std::fmt;

use wasmtime::{Extern, Func, Instance, ModuleExport, Store, TypedFunc};
use wasmtime_wasi::I32Exit;
use wasmtime_wasi::p2::bindings::Command;

use super::instance::Clock;
use super::module::{CoreCall, Entry};
use crate::host::component::bindings::Agent;
use crate::host::context::HostContext;
use crate::model::LogLevel;

/// What a component's `err` ends with; its text is the last log line.
const EXIT_COMPONENT_ERROR: i32 = 1;

/// An instance that is initialised.
pub(super) enum Live {
    Process(TypedFunc<(), i32>),
    Start(TypedFunc<(), ()>),
    Agent(Agent),
    Command(Command),
}

/// Makes an instance and initialises it.
pub(super) async fn instantiate(store: &mut Store<HostContext>, entry: &Entry) -> wasmtime::Result<Live> {
    match entry {
        Entry::Core { pre, call, function, initialize, .. } => {
            let instance = pre.instantiate_async(&mut *store).await?;
            if let Some(initialize) = initialize {
                let initialize = exported(store, &instance, initialize)?.typed::<(), ()>(&*store)?;
                initialize.call_async(&mut *store, ()).await?;
            }
            let function = exported(store, &instance, function)?;
            Ok(match call {
                CoreCall::Process => Live::Process(function.typed(&*store)?),
                CoreCall::Start => Live::Start(function.typed(&*store)?),
            })
        }
        Entry::Agent(pre) => Ok(Live::Agent(pre.instantiate_async(&mut *store).await?)),
        Entry::Command(pre) => Ok(Live::Command(pre.instantiate_async(&mut *store).await?)),
    }
}

/// Makes an instance of a core module, initialises and calls it, all on this stack; answers the exit code. `None` for a
/// component.
pub(super) fn call_now(
    store: &mut Store<HostContext>,
    entry: &Entry,
    clock: &mut Clock,
) -> Option<wasmtime::Result<i32>> {
    let Entry::Core { pre, function, initialize, .. } = entry else { return None };
    let mut call = || {
        let instance = pre.instantiate(&mut *store)?;
        if let Some(initialize) = initialize {
            exported(store, &instance, initialize)?.typed::<(), ()>(&*store)?.call(&mut *store, ())?;
        }
        let process = exported(store, &instance, function)?.typed::<(), i32>(&*store)?;
        clock.call();
        process.call(&mut *store, ())
    };
    Some(call())
}

impl Live {
    /// Calls the entry point; answers the exit code.
    pub(super) async fn call(&self, store: &mut Store<HostContext>) -> wasmtime::Result<i32> {
        match self {
            Self::Process(process) => process.call_async(&mut *store, ()).await,
            Self::Start(start) => {
                start.call_async(&mut *store, ()).await?;
                Ok(0)
            }
            Self::Agent(agent) => {
                let input = store.data().input.clone();
                match agent.call_process(&mut *store, &input).await? {
                    Ok(output) => {
                        store.data().output.set(&output)?;
                        Ok(0)
                    }
                    Err(text) => {
                        store.data().logs.log(LogLevel::Error, text.as_bytes());
                        Ok(EXIT_COMPONENT_ERROR)
                    }
                }
            }
            Self::Command(command) => match command.wasi_cli_run().call_run(&mut *store).await? {
                Ok(()) => Ok(0),
                Err(()) => Err(I32Exit(1).into()),
            },
        }
    }
}

/// A function by its place, which was found when the module was linked.
fn exported(
    store: &mut Store<HostContext>,
    instance: &Instance,
    export: &ModuleExport,
) -> wasmtime::Result<Func> {
    let found = instance.get_module_export(store, export).and_then(Extern::into_func);
    found.ok_or_else(|| wasmtime::Error::msg("the module does not export the function that was linked"))
}

impl fmt::Debug for Live {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Process(_) => "process",
            Self::Start(_) => "start",
            Self::Agent(_) => "agent",
            Self::Command(_) => "command",
        })
    }
}
