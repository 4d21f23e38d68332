//! What components say while they work: their log, streams and metrics, by the functions that core modules have.

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource, ResourceType};

use super::bindings::mentat::agent::{log, streams};
use super::{Answer, refusal};
use crate::host::abi;
use crate::host::api::EVENT_COST_BYTES;
use crate::host::capabilities::CallError;
use crate::host::context::HostContext;
use crate::model::{HostCallKind, LogLevel};

/// The interfaces, in their published versions.
const LOG: &str = "mentat:agent/log@1.0.0";
const STREAMS: &str = "mentat:agent/streams@1.0.0";
const METRICS: &str = "mentat:agent/metrics@1.0.0";

type Store<'a> = StoreContextMut<'a, HostContext>;
type OutputStream = Resource<streams::OutputStream>;

pub(super) fn add_to_linker(linker: &mut Linker<HostContext>) -> wasmtime::Result<()> {
    linker.instance(LOG)?.func_wrap("log", write_log)?;
    linker.instance(METRICS)?.func_wrap("record", record)?;
    let mut instance = linker.instance(STREAMS)?;
    instance.resource(
        "output-stream",
        ResourceType::host::<streams::OutputStream>(),
        |mut store, stream| {
            store.data_mut().calls.count(HostCallKind::Stream);
            store.data_mut().streams.give_up(stream.cast_signed());
            Ok(())
        },
    )?;
    instance.func_wrap("start", start)?;
    instance.func_wrap_async("[method]output-stream.write", |store, (stream, chunk)| {
        Box::new(write(store, stream, chunk))
    })?;
    instance.func_wrap("[static]output-stream.end", end)
}

fn write_log(mut store: Store<'_>, (level, message): (log::Level, String)) -> wasmtime::Result<()> {
    store.data_mut().calls.count(HostCallKind::Log);
    abi::charge(&mut store, message.len())?;
    let level = match level {
        log::Level::Error => LogLevel::Error,
        log::Level::Warn => LogLevel::Warn,
        log::Level::Info => LogLevel::Info,
        log::Level::Debug => LogLevel::Debug,
        log::Level::Trace => LogLevel::Trace,
    };
    store.data().logs.log(level, message.as_bytes());
    Ok(())
}

fn record(mut store: Store<'_>, (name, value): (String, f64)) -> Answer<()> {
    store.data_mut().calls.count(HostCallKind::Metric);
    abi::charge(&mut store, EVENT_COST_BYTES)?;
    answer(store.data_mut().streams.record(name.as_bytes(), value))
}

fn start(mut store: Store<'_>, (name,): (String,)) -> Answer<OutputStream> {
    store.data_mut().calls.count(HostCallKind::Stream);
    abi::charge(&mut store, EVENT_COST_BYTES)?;
    let started = store.data_mut().streams.start(name.as_bytes());
    answer(started.map(|handle| Resource::new_own(handle.cast_unsigned())))
}

/// Appends a chunk, waiting for the stream's readers.
async fn write(mut store: Store<'_>, stream: OutputStream, chunk: Vec<u8>) -> Answer<()> {
    store.data_mut().calls.count(HostCallKind::Stream);
    abi::charge(&mut store, EVENT_COST_BYTES.saturating_add(chunk.len()))?;
    let handle = stream.rep().cast_signed();
    let taken = store.data_mut().streams.write(handle, &chunk);
    let written = match taken {
        Ok(chunk) => chunk.done().await,
        Err(error) => Err(error),
    };
    if written.is_ok() {
        store.data_mut().streams.written(handle);
    }
    answer(written)
}

fn end(mut store: Store<'_>, (stream,): (OutputStream,)) -> Answer<()> {
    store.data_mut().calls.count(HostCallKind::Stream);
    abi::charge(&mut store, EVENT_COST_BYTES)?;
    answer(store.data_mut().streams.end(stream.rep().cast_signed()))
}

fn answer<T>(outcome: Result<T, CallError>) -> Answer<T> {
    Ok((outcome.map_err(refusal),))
}
