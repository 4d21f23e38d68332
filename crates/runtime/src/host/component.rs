//! The host's side of the component world `mentat:agent/agent` (in `wit/`), and the linker that
//! offers it together with WASI 0.2. What the core ABI's functions do, these do, and cost the same fuel.

mod events;

use wasmtime::component::{Linker, Resource, ResourceType};
use wasmtime::{Engine, StoreContextMut};

use self::bindings::mentat::agent::{capabilities, errors};
use super::abi::{self, AbiError};
use super::api::DECISION_BYTES;
use super::capabilities::{self as grants, CallError};
use super::context::HostContext;
use super::{calls, http, media, polling, preview2, sockets};
use crate::model::HostCallKind;

pub(crate) mod bindings {
    //! Generated from `wit/agent.wit`: its types, and how `process` is called. The functions that it imports are put into
    //! the linker by hand, since those of the bindings see the store's data alone, and charging fuel takes the store.
    #![allow(missing_docs, unreachable_pub, reason = "generated code; the WIT carries the documentation")]

    wasmtime::component::bindgen!({ path: "../../wit", world: "agent", exports: { default: async } });
}

/// The interface of errors, in its published version; it has types only.
const ERRORS: &str = "mentat:agent/errors@1.0.0";
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
    linker.instance(ERRORS)?;
    add_capabilities(&mut linker)?;
    events::add_to_linker(&mut linker)?;
    media::add_to_linker(&mut linker)?;
    Ok(linker)
}

/// What a function of the contract answers.
pub(super) type Answer<T> = wasmtime::Result<(Result<T, errors::Error>,)>;

fn add_capabilities(linker: &mut Linker<HostContext>) -> wasmtime::Result<()> {
    let mut instance = linker.instance(CAPABILITIES)?;
    instance.resource("grant", ResourceType::host::<capabilities::Grant>(), |mut store, grant| {
        store.data_mut().calls.count(HostCallKind::CapabilityRelease);
        // One that is not held was released by the end of the execution.
        let _ = grants::release(store.data_mut(), grant.cast_signed());
        Ok(())
    })?;
    instance.func_wrap(
        "request",
        |mut store: StoreContextMut<'_, HostContext>, (capability,): (String,)| {
            store.data_mut().calls.count(HostCallKind::CapabilityRequest);
            abi::charge(&mut store, DECISION_BYTES)?;
            let asked = grants::request(store.data_mut(), capability.as_bytes())?;
            let granted =
                asked.map(|handle| Resource::<capabilities::Grant>::new_own(handle.cast_unsigned()));
            Ok((granted.map_err(refusal),))
        },
    )?;
    instance.func_wrap_async("[method]grant.invoke", |store, (grant, arguments)| {
        Box::new(invoke(store, grant, arguments))
    })
}

async fn invoke(
    mut store: StoreContextMut<'_, HostContext>,
    grant: Resource<capabilities::Grant>,
    arguments: String,
) -> Answer<Vec<u8>> {
    store.data_mut().calls.count(HostCallKind::CapabilityInvoke);
    abi::charge(&mut store, DECISION_BYTES.saturating_add(arguments.len()))?;
    let used = grants::invoke(store, grant.rep().cast_signed(), arguments.as_bytes()).await?;
    Ok((used.map(|result| result.to_vec()).map_err(refusal),))
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
