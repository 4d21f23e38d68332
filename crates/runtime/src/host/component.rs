//! The host's side of the component world `mentat:agent/agent` (in `wit/`), and the linker that
//! offers it together with WASI 0.2. What the core ABI's functions do, these do.

use wasmtime::component::{HasSelf, Linker, Resource};
use wasmtime::{Engine, StoreContextMut};

use self::bindings::mentat::agent::{capabilities, errors, log, metrics, streams};
use super::abi::{self, AbiError};
use super::api::DECISION_BYTES;
use super::capabilities::{self as grants, CallError};
use super::context::HostContext;
use super::{calls, http, media, polling, preview2, sockets};
use crate::model::{HostCallKind, LogLevel};

pub(crate) mod bindings {
    //! Generated from `wit/agent.wit`.
    #![allow(missing_docs, unreachable_pub, reason = "generated code; the WIT carries the documentation")]

    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "agent",
        imports: {
            "mentat:agent/capabilities.request": trappable,
            "mentat:agent/streams.[method]output-stream.write": async,
        },
        exports: { default: async },
    });
}

/// The interface of grants, in its published version.
const CAPABILITIES: &str = "mentat:agent/capabilities@1.0.0";
/// The interfaces that a component may import, without their versions. Any 0.2.x of WASI is taken,
/// as far as Wasmtime's own version of the interface covers it.
pub(crate) const INTERFACES: &[&str] = &[
    "mentat:agent/capabilities",
    "mentat:agent/errors",
    "mentat:agent/log",
    "mentat:agent/media",
    "mentat:agent/metrics",
    "mentat:agent/streams",
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:http/outgoing-handler",
    "wasi:http/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
    "wasi:sockets/instance-network",
    "wasi:sockets/ip-name-lookup",
    "wasi:sockets/network",
    "wasi:sockets/tcp",
    "wasi:sockets/tcp-create-socket",
    "wasi:sockets/udp",
    "wasi:sockets/udp-create-socket",
];

pub(crate) fn linker(engine: &Engine) -> wasmtime::Result<Linker<HostContext>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    calls::count_wasi(&mut linker)?;
    polling::add_to_linker(&mut linker)?;
    preview2::add_to_linker(&mut linker)?;
    http::add_to_linker(&mut linker)?;
    sockets::add_to_linker(&mut linker)?;
    bindings::Agent::add_to_linker::<_, HasSelf<HostContext>>(&mut linker, |context| context)?;
    linker.allow_shadowing(true);
    // Bindings give a host function the store's data; raising a budget takes the store.
    linker.instance(CAPABILITIES)?.func_wrap_async("[method]grant.invoke", |store, (grant, arguments)| {
        Box::new(invoke(store, grant, arguments))
    })?;
    media::add_to_linker(&mut linker)?;
    linker.allow_shadowing(false);
    Ok(linker)
}

type Invoked = wasmtime::Result<(Result<Vec<u8>, errors::Error>,)>;

async fn invoke(
    mut store: StoreContextMut<'_, HostContext>,
    grant: Resource<capabilities::Grant>,
    arguments: String,
) -> Invoked {
    store.data_mut().calls.count(HostCallKind::CapabilityInvoke);
    abi::charge(&mut store, DECISION_BYTES.saturating_add(arguments.len()))?;
    let used = grants::invoke(store, handle(&grant), arguments.as_bytes()).await?;
    Ok((used.map(|result| result.to_vec()).map_err(refusal),))
}

/// The handle that a resource stands for.
fn handle(grant: &Resource<capabilities::Grant>) -> i32 {
    grant.rep().cast_signed()
}

/// An error in the words of the contract.
pub(super) fn refusal(error: CallError) -> errors::Error {
    let code = match error.code {
        AbiError::NotInManifest => errors::Code::NotInManifest,
        AbiError::Denied => errors::Code::Denied,
        AbiError::Malformed => errors::Code::Malformed,
        AbiError::NotFound => errors::Code::NotFound,
        AbiError::TooLarge => errors::Code::TooLarge,
        AbiError::Exhausted => errors::Code::Exhausted,
        AbiError::TimedOut => errors::Code::TimedOut,
        AbiError::Unavailable => errors::Code::Unavailable,
        AbiError::Unsupported => errors::Code::Unsupported,
        // Resources and return values leave no room for the last two.
        AbiError::Closed | AbiError::BadHandle | AbiError::NoResult => errors::Code::Closed,
    };
    errors::Error { code, message: error.message }
}

pub(super) fn unsupported(context: &mut HostContext, kind: HostCallKind) -> errors::Error {
    context.calls.count(kind);
    let error = AbiError::Unsupported;
    context.fail(error);
    errors::Error { code: errors::Code::Unsupported, message: error.text().to_owned() }
}

impl errors::Host for HostContext {}

impl log::Host for HostContext {
    fn log(&mut self, level: log::Level, message: String) {
        self.calls.count(HostCallKind::Log);
        let level = match level {
            log::Level::Error => LogLevel::Error,
            log::Level::Warn => LogLevel::Warn,
            log::Level::Info => LogLevel::Info,
            log::Level::Debug => LogLevel::Debug,
            log::Level::Trace => LogLevel::Trace,
        };
        self.logs.log(level, message.as_bytes());
    }
}

impl capabilities::Host for HostContext {
    fn request(
        &mut self,
        capability: String,
    ) -> wasmtime::Result<Result<Resource<capabilities::Grant>, errors::Error>> {
        self.calls.count(HostCallKind::CapabilityRequest);
        let asked = grants::request(self, capability.as_bytes())?;
        Ok(asked.map(|handle| Resource::new_own(handle.cast_unsigned())).map_err(refusal))
    }
}

impl capabilities::HostGrant for HostContext {
    fn invoke(
        &mut self,
        _grant: Resource<capabilities::Grant>,
        _arguments: String,
    ) -> Result<Vec<u8>, errors::Error> {
        // The linker has another function in its place.
        Err(unsupported(self, HostCallKind::CapabilityInvoke))
    }

    fn drop(&mut self, grant: Resource<capabilities::Grant>) -> wasmtime::Result<()> {
        self.calls.count(HostCallKind::CapabilityRelease);
        // One that is not held was released by the end of the execution.
        let _ = grants::release(self, handle(&grant));
        Ok(())
    }
}

impl streams::Host for HostContext {
    fn start(&mut self, name: String) -> Result<Resource<streams::OutputStream>, errors::Error> {
        self.calls.count(HostCallKind::Stream);
        let started = self.streams.start(name.as_bytes());
        started.map(|handle| Resource::new_own(handle.cast_unsigned())).map_err(refusal)
    }
}

impl streams::HostOutputStream for HostContext {
    async fn write(
        &mut self,
        stream: Resource<streams::OutputStream>,
        chunk: Vec<u8>,
    ) -> Result<(), errors::Error> {
        self.calls.count(HostCallKind::Stream);
        let handle = stream.rep().cast_signed();
        let chunk = self.streams.write(handle, &chunk).map_err(refusal)?;
        chunk.done().await.map_err(refusal)?;
        self.streams.written(handle);
        Ok(())
    }

    fn end(&mut self, stream: Resource<streams::OutputStream>) -> Result<(), errors::Error> {
        self.calls.count(HostCallKind::Stream);
        self.streams.end(stream.rep().cast_signed()).map_err(refusal)
    }

    fn drop(&mut self, stream: Resource<streams::OutputStream>) -> wasmtime::Result<()> {
        self.calls.count(HostCallKind::Stream);
        self.streams.give_up(stream.rep().cast_signed());
        Ok(())
    }
}

impl metrics::Host for HostContext {
    fn record(&mut self, name: String, value: f64) -> Result<(), errors::Error> {
        self.calls.count(HostCallKind::Metric);
        self.streams.record(name.as_bytes(), value).map_err(refusal)
    }
}
