//! The `mentat` functions of the core ABI, and the linkers that offer them together with WASI.
//! Everything a core module can import is registered here; nothing else exists for it.
//!
//! Invariant: every function takes its pointers through `abi`, and touches only its own
//! execution's [`HostContext`].

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use wasmtime::{AsContextMut, Caller, Engine, ExternType, Linker, Store};
use wasmtime_wasi::I32Exit;

use super::abi::{self, AbiError};
use super::calls::{self, CORE_WASI};
use super::context::{GuestResult, HostConfig, HostContext};
use super::{capabilities, component, media, metering};
use crate::model::{HostCallKind, LogLevel};
use crate::runtime::inspect::Signature;
use crate::security::policy::Grant;

/// The module name of the core ABI.
pub(super) const MENTAT: &str = "mentat";
/// What a decision of policy costs, as bytes that are moved: some microseconds.
pub(super) const DECISION_BYTES: usize = 64 << 10;
/// What an event costs, as bytes that are moved: about a microsecond.
pub(super) const EVENT_COST_BYTES: usize = 16 << 10;
/// UTF-16 units of an abort's message or file name at most.
const MAX_ABORT_UNITS: u32 = 1024;

/// Everything a guest can be linked to.
pub(crate) struct HostInterface {
    core: Linker<HostContext>,
    /// For modules whose results may have to be waited for. Others read theirs without giving the thread away.
    core_waiting: Linker<HostContext>,
    pub(crate) component: wasmtime::component::Linker<HostContext>,
    /// What core modules may import, by module and name.
    pub(crate) core_imports: BTreeMap<(String, String), Signature>,
}

/// The marker error by which a guest ends that called `env.abort`.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct GuestAbort(pub(crate) String);

impl HostInterface {
    pub(crate) fn new(engine: &Engine) -> wasmtime::Result<Self> {
        let core = core_linker(engine)?;
        let core_imports = list_imports(engine, &core);
        let mut core_waiting = core.clone();
        core_waiting.allow_shadowing(true);
        media::let_results_wait(&mut core_waiting)?;
        core_waiting.allow_shadowing(false);
        let component = component::linker(engine)?;
        Ok(Self { core, core_waiting, component, core_imports })
    }

    /// Offers what baseline code is charged by. No module can ask for it: it is not among the imports.
    pub(crate) fn offer_charge(&mut self) -> wasmtime::Result<()> {
        metering::add_to_linker(&mut self.core)?;
        metering::add_to_linker(&mut self.core_waiting)
    }

    /// What a core module is linked to that imports these, by module and name.
    pub(crate) fn core_for<'a>(
        &self,
        mut imports: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> &Linker<HostContext> {
        if imports.any(|import| import == (MENTAT, "download_media")) {
            &self.core_waiting
        } else {
            &self.core
        }
    }
}

fn list_imports(engine: &Engine, linker: &Linker<HostContext>) -> BTreeMap<(String, String), Signature> {
    let mut store = Store::new(engine, HostContext::nobody());
    let definitions: Vec<_> = linker
        .iter(&mut store)
        .filter(|(module, _, _)| !calls::is_hidden(module))
        .map(|(module, name, item)| (module.to_owned(), name.to_owned(), item))
        .collect();
    definitions
        .into_iter()
        .filter_map(|(module, name, item)| match item.ty(&store) {
            ExternType::Func(function) => Some(((module, name), Signature::of(&function))),
            _ => None,
        })
        .collect()
}

fn core_linker(engine: &Engine) -> wasmtime::Result<Linker<HostContext>> {
    let mut linker = Linker::new(engine);
    calls::add_wasi(&mut linker)?;
    linker.allow_shadowing(true);
    // Wasmtime's own refuses statuses above 125, which ordinary programs do use.
    for module in CORE_WASI {
        let exit = |mut caller: Caller<'_, HostContext>, status: i32| -> wasmtime::Result<()> {
            caller.data_mut().calls.count(HostCallKind::WasiExit);
            Err(I32Exit(status).into())
        };
        linker.func_wrap(module, "proc_exit", exit)?;
    }
    linker.allow_shadowing(false);

    linker.func_wrap(MENTAT, "read_input", read_input)?;
    linker.func_wrap(MENTAT, "write_output", write_output)?;
    linker.func_wrap(MENTAT, "log", log)?;
    linker.func_wrap(MENTAT, "result_read", result_read)?;
    linker.func_wrap(MENTAT, "last_error", last_error)?;
    linker.func_wrap("env", "abort", abort)?;
    linker.func_wrap(MENTAT, "request_capability", request_capability)?;
    linker.func_wrap_async(MENTAT, "invoke_capability", |caller, (handle, pointer, length)| {
        Box::new(invoke_capability(caller, handle, pointer, length))
    })?;
    linker.func_wrap(MENTAT, "release_capability", release_capability)?;
    linker.func_wrap(MENTAT, "start_stream", start_stream)?;
    linker.func_wrap_async(MENTAT, "write_stream", |caller, (handle, pointer, length)| {
        Box::new(write_stream(caller, handle, pointer, length))
    })?;
    linker.func_wrap(MENTAT, "end_stream", end_stream)?;
    linker.func_wrap(MENTAT, "record_metric", record_metric)?;
    media::add_to_core_linker(&mut linker)?;
    Ok(linker)
}

/// Answers the input's length; copies it if all of it fits.
fn read_input(mut caller: Caller<'_, HostContext>, pointer: i32, capacity: i32) -> wasmtime::Result<i32> {
    caller.data_mut().calls.count(HostCallKind::Input);
    abi::copy_whole(&mut caller, "read_input", pointer, capacity, |context| context.input.clone())
}

/// Sets the output; the last call wins.
fn write_output(mut caller: Caller<'_, HostContext>, pointer: i32, length: i32) -> wasmtime::Result<i32> {
    caller.data_mut().calls.count(HostCallKind::Output);
    let memory = abi::memory(&mut caller)?;
    let source = abi::range(&caller, memory, "write_output", pointer, length)?;
    abi::charge(&mut caller, source.len())?;
    caller.data().output.set(abi::bytes(&caller, memory, source)?)?;
    Ok(0)
}

/// Logs one line, lossily made UTF-8.
fn log(mut caller: Caller<'_, HostContext>, level: i32, pointer: i32, length: i32) -> wasmtime::Result<()> {
    caller.data_mut().calls.count(HostCallKind::Log);
    let memory = abi::memory(&mut caller)?;
    let source = abi::range(&caller, memory, "log", pointer, length)?;
    abi::charge(&mut caller, source.len())?;
    caller.data().logs.log(LogLevel::from_abi(level), abi::bytes(&caller, memory, source)?);
    Ok(())
}

/// Asks for a grant; a handle above 0, or an error.
fn request_capability(
    mut caller: Caller<'_, HostContext>,
    pointer: i32,
    length: i32,
) -> wasmtime::Result<i32> {
    caller.data_mut().calls.count(HostCallKind::CapabilityRequest);
    let memory = abi::memory(&mut caller)?;
    let source = abi::range(&caller, memory, "request_capability", pointer, length)?;
    abi::charge(&mut caller, DECISION_BYTES)?;
    let (bytes, context) = memory.data_and_store_mut(&mut caller);
    let text = bytes.get(source).unwrap_or_default();
    match capabilities::request(context, text)? {
        Ok(handle) => Ok(handle),
        Err(error) => Ok(context.refuse(error)),
    }
}

/// Uses a grant; answers the length of the result.
async fn invoke_capability(
    mut caller: Caller<'_, HostContext>,
    handle: i32,
    pointer: i32,
    length: i32,
) -> wasmtime::Result<i32> {
    caller.data_mut().calls.count(HostCallKind::CapabilityInvoke);
    let memory = abi::memory(&mut caller)?;
    let source = abi::range(&caller, memory, "invoke_capability", pointer, length)?;
    abi::charge(&mut caller, DECISION_BYTES.saturating_add(source.len()))?;
    let kept = source.len().min(capabilities::MAX_ARGUMENT_BYTES + 1);
    let arguments = abi::bytes(&caller, memory, source)?.get(..kept).unwrap_or_default().to_vec();
    let used = capabilities::invoke(caller.as_context_mut(), handle, &arguments).await?;
    match used {
        Ok(result) => {
            abi::charge(&mut caller, result.len())?;
            let length = i32::try_from(result.len())?;
            caller.data_mut().result = Some(GuestResult::Whole(result));
            Ok(length)
        }
        Err(error) => Ok(caller.data_mut().refuse(error)),
    }
}

/// Gives a grant back.
fn release_capability(mut caller: Caller<'_, HostContext>, handle: i32) -> wasmtime::Result<i32> {
    caller.data_mut().calls.count(HostCallKind::CapabilityRelease);
    abi::charge(&mut caller, 0)?;
    match capabilities::release(caller.data_mut(), handle) {
        Ok(()) => Ok(0),
        Err(error) => Ok(caller.data_mut().refuse(error)),
    }
}

/// Starts a stream; a handle above 0, or an error.
fn start_stream(mut caller: Caller<'_, HostContext>, pointer: i32, length: i32) -> wasmtime::Result<i32> {
    caller.data_mut().calls.count(HostCallKind::Stream);
    let memory = abi::memory(&mut caller)?;
    let source = abi::range(&caller, memory, "start_stream", pointer, length)?;
    abi::charge(&mut caller, EVENT_COST_BYTES)?;
    let (bytes, context) = memory.data_and_store_mut(&mut caller);
    match context.streams.start(bytes.get(source).unwrap_or_default()) {
        Ok(handle) => Ok(handle),
        Err(error) => Ok(context.refuse(error)),
    }
}

/// Appends a chunk to a stream, waiting for its readers.
async fn write_stream(
    mut caller: Caller<'_, HostContext>,
    handle: i32,
    pointer: i32,
    length: i32,
) -> wasmtime::Result<i32> {
    caller.data_mut().calls.count(HostCallKind::Stream);
    let memory = abi::memory(&mut caller)?;
    let source = abi::range(&caller, memory, "write_stream", pointer, length)?;
    abi::charge(&mut caller, EVENT_COST_BYTES.saturating_add(source.len()))?;
    let (bytes, context) = memory.data_and_store_mut(&mut caller);
    let taken = context.streams.write(handle, bytes.get(source).unwrap_or_default());
    let written = match taken {
        Ok(chunk) => chunk.done().await,
        Err(error) => Err(error),
    };
    match written {
        Ok(()) => {
            caller.data_mut().streams.written(handle);
            Ok(0)
        }
        Err(error) => Ok(caller.data_mut().refuse(error)),
    }
}

/// Ends a stream.
fn end_stream(mut caller: Caller<'_, HostContext>, handle: i32) -> wasmtime::Result<i32> {
    caller.data_mut().calls.count(HostCallKind::Stream);
    abi::charge(&mut caller, EVENT_COST_BYTES)?;
    match caller.data_mut().streams.end(handle) {
        Ok(()) => Ok(0),
        Err(error) => Ok(caller.data_mut().refuse(error)),
    }
}

/// Records a value of a metric of the agent's own.
fn record_metric(
    mut caller: Caller<'_, HostContext>,
    pointer: i32,
    length: i32,
    value: f64,
) -> wasmtime::Result<i32> {
    caller.data_mut().calls.count(HostCallKind::Metric);
    let memory = abi::memory(&mut caller)?;
    let source = abi::range(&caller, memory, "record_metric", pointer, length)?;
    abi::charge(&mut caller, EVENT_COST_BYTES)?;
    let (bytes, context) = memory.data_and_store_mut(&mut caller);
    match context.streams.record(bytes.get(source).unwrap_or_default(), value) {
        Ok(()) => Ok(0),
        Err(error) => Ok(context.refuse(error)),
    }
}

/// Copies from the current result; answers how much that was.
pub(super) fn result_read(
    mut caller: Caller<'_, HostContext>,
    offset: i32,
    pointer: i32,
    capacity: i32,
) -> wasmtime::Result<i32> {
    caller.data_mut().calls.count(HostCallKind::Result);
    let memory = abi::memory(&mut caller)?;
    let target = abi::range(&caller, memory, "result_read", pointer, capacity)?;
    let offset = usize::try_from(offset.cast_unsigned())?;
    let left = match &caller.data().result {
        Some(GuestResult::Whole(result)) if offset <= result.len() => result.slice(offset..),
        _ => {
            abi::charge(&mut caller, 0)?;
            return Ok(caller.data_mut().fail(AbiError::NoResult));
        }
    };
    let copied = left.slice(..left.len().min(target.len()));
    abi::charge(&mut caller, copied.len())?;
    memory.write(&mut caller, target.start, &copied)?;
    Ok(i32::try_from(copied.len())?)
}

/// Answers the length of the last error's text; copies it if all of it fits.
fn last_error(mut caller: Caller<'_, HostContext>, pointer: i32, capacity: i32) -> wasmtime::Result<i32> {
    caller.data_mut().calls.count(HostCallKind::LastError);
    abi::copy_whole(&mut caller, "last_error", pointer, capacity, |context| context.last_error.clone())
}

/// AssemblyScript's way to give up: two of its strings, a line and a column.
fn abort(
    mut caller: Caller<'_, HostContext>,
    message: i32,
    file: i32,
    line: i32,
    column: i32,
) -> wasmtime::Result<()> {
    caller.data_mut().calls.count(HostCallKind::Abort);
    let message = assemblyscript_string(&mut caller, message).unwrap_or_else(|| "abort".into());
    let file = assemblyscript_string(&mut caller, file).unwrap_or_else(|| "unknown file".into());
    let (line, column) = (line.cast_unsigned(), column.cast_unsigned());
    Err(GuestAbort(format!("{message} ({file}:{line}:{column})")).into())
}

/// Reads a string of AssemblyScript's runtime: UTF-16 at the pointer, its size in bytes in the four
/// bytes before it. `None` for null and for anything not wholly inside memory.
fn assemblyscript_string(caller: &mut Caller<'_, HostContext>, pointer: i32) -> Option<String> {
    let memory = abi::memory(caller).ok()?;
    let header = pointer.cast_unsigned().checked_sub(4)?;
    let size = abi::range(&*caller, memory, "abort", header.cast_signed(), 4).ok()?;
    let size: [u8; 4] = abi::bytes(caller, memory, size).ok()?.try_into().ok()?;
    let units = (u32::from_le_bytes(size) / 2).min(MAX_ABORT_UNITS);
    let text = abi::range(&*caller, memory, "abort", pointer, (units * 2).cast_signed()).ok()?;
    let text = abi::bytes(caller, memory, text).ok()?;
    let units = text.chunks_exact(2).filter_map(|pair| Some(u16::from_le_bytes(pair.try_into().ok()?)));
    Some(char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect())
}

impl HostContext {
    /// A context without input and output, for asking the linker what it offers.
    fn nobody() -> Self {
        Self::new(Bytes::new(), &Grant::nothing(), &Arc::new(HostConfig::default()), None)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::runtime::engine::{Engine, EngineConfig};

    /// What is known of each function; the tests of the whole runtime walk through it.
    const TABLE: &str = include_str!("../../tests/all/walk/functions.txt");

    #[test]
    fn what_the_linkers_offer_is_what_the_table_of_functions_says() {
        let engine = Engine::new(EngineConfig::default()).unwrap();
        let offered = &engine
            .of(mentat_manifest::Metering::Fuel, crate::runtime::code::Tier::Optimized)
            .unwrap()
            .host
            .core_imports;
        let offered: BTreeSet<String> = offered
            .iter()
            .map(|((module, name), signature)| format!("core {module} {name} {signature}"))
            .collect();
        let table: BTreeSet<String> = TABLE
            .lines()
            .filter(|line| line.starts_with("core "))
            .filter_map(|line| Some(line.rsplit_once(": ")?.0.to_owned()))
            .collect();
        assert_eq!(table, offered, "a function that is not in `walk/functions.txt` needs a line there");
        let interfaces: BTreeSet<&str> = TABLE
            .lines()
            .filter_map(|line| Some(line.strip_prefix("component ")?.split_once(' ')?.0))
            .collect();
        // These hold types alone.
        let mut of_types = vec![
            "mentat:agent/errors",
            "wasi:cli/terminal-input",
            "wasi:cli/terminal-output",
            "wasi:sockets/network",
        ];
        of_types.extend(interfaces);
        of_types.sort_unstable();
        assert_eq!(of_types, component::INTERFACES);
    }
}
