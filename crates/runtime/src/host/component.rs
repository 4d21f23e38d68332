//! The host's side of the component world `mentat:agent/agent` (in `wit/`), and the linker that
//! offers it together with WASI 0.2. What the core ABI's functions do, these do.

use wasmtime::Engine;
use wasmtime::component::{HasSelf, Linker, Resource};

use self::bindings::mentat::agent::{capabilities, errors, log, media, metrics, streams};
use super::abi::AbiError;
use super::context::HostContext;
use super::http;
use crate::model::LogLevel;

pub(crate) mod bindings {
    //! Generated from `wit/agent.wit`.
    #![allow(missing_docs, unreachable_pub, reason = "generated code; the WIT carries the documentation")]

    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "agent",
        exports: { default: async },
    });
}

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
    http::add_to_linker(&mut linker)?;
    bindings::Agent::add_to_linker::<_, HasSelf<HostContext>>(&mut linker, |context| context)?;
    Ok(linker)
}

fn unsupported(context: &mut HostContext) -> errors::Error {
    let error = AbiError::Unsupported;
    context.fail(error);
    errors::Error { code: errors::Code::Unsupported, message: error.text().to_owned() }
}

impl errors::Host for HostContext {}

impl log::Host for HostContext {
    fn log(&mut self, level: log::Level, message: String) {
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
    fn request(&mut self, _capability: String) -> Result<Resource<capabilities::Grant>, errors::Error> {
        Err(unsupported(self))
    }
}

impl capabilities::HostGrant for HostContext {
    fn invoke(
        &mut self,
        _grant: Resource<capabilities::Grant>,
        _arguments: String,
    ) -> Result<Vec<u8>, errors::Error> {
        Err(unsupported(self))
    }

    fn drop(&mut self, _grant: Resource<capabilities::Grant>) -> wasmtime::Result<()> {
        Ok(())
    }
}

impl media::Host for HostContext {
    fn download(&mut self, _reference: String) -> Result<Vec<u8>, errors::Error> {
        Err(unsupported(self))
    }

    fn upload(&mut self, _content: Vec<u8>, _media_type: String) -> Result<String, errors::Error> {
        Err(unsupported(self))
    }
}

impl streams::Host for HostContext {
    fn start(&mut self, _name: String) -> Result<Resource<streams::OutputStream>, errors::Error> {
        Err(unsupported(self))
    }
}

impl streams::HostOutputStream for HostContext {
    fn write(
        &mut self,
        _stream: Resource<streams::OutputStream>,
        _chunk: Vec<u8>,
    ) -> Result<(), errors::Error> {
        Err(unsupported(self))
    }

    fn end(&mut self, _stream: Resource<streams::OutputStream>) -> Result<(), errors::Error> {
        Err(unsupported(self))
    }

    fn drop(&mut self, _stream: Resource<streams::OutputStream>) -> wasmtime::Result<()> {
        Ok(())
    }
}

impl metrics::Host for HostContext {
    fn record(&mut self, _name: String, _value: f64) -> Result<(), errors::Error> {
        Err(unsupported(self))
    }
}
