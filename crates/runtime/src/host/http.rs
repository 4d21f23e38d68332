//! `wasi:http` for components: who may send (nobody, without a grant), and how much a guest's requests may hold in
//! the host while they wait to be sent. Wasmtime bounds headers and bodies by these numbers; a method's and an
//! authority's length it leaves to us.

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi_http::p2::bindings::http::types::{HostOutgoingRequest, Method};
use wasmtime_wasi_http::p2::types::HostOutgoingRequest as OutgoingRequest;
use wasmtime_wasi_http::{RequestOptions, WasiBody, WasiHttpCtx, WasiHttpHooks, WasiHttpView};

use super::context::HostContext;

/// The interface whose functions are bounded here, in Wasmtime's own version of it; a component's is matched to it.
const TYPES: &str = "wasi:http/types@0.2.12";
/// Bytes of a request's method or authority at most; servers take less.
const MAX_REQUEST_PART_BYTES: usize = 8 << 10;
/// Bytes of one list of headers at most, with the host's bookkeeping; common servers take 8 to 16 KiB on the wire.
const MAX_FIELDS_BYTES: usize = 32 << 10;
/// Bytes of one write to a request's body; two of them wait for the sender at most.
const MAX_BODY_CHUNK_BYTES: usize = 64 << 10;

/// Refuses every HTTP request a component makes.
pub(crate) struct DeniedHttp;

/// The bounds of one execution's HTTP resources.
pub(crate) fn context() -> WasiHttpCtx {
    let mut context = WasiHttpCtx::new();
    context.set_field_size_limit(MAX_FIELDS_BYTES);
    context
}

/// Offers `wasi:http` for outgoing requests.
pub(crate) fn add_to_linker(linker: &mut Linker<HostContext>) -> wasmtime::Result<()> {
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker)?;
    linker.allow_shadowing(true);
    let mut types = linker.instance(TYPES)?;
    types.func_wrap("[method]outgoing-request.set-method", set_method)?;
    types.func_wrap("[method]outgoing-request.set-authority", set_authority)?;
    linker.allow_shadowing(false);
    Ok(())
}

type Answer = wasmtime::Result<(Result<(), ()>,)>;

fn set_method(
    mut store: StoreContextMut<'_, HostContext>,
    (request, method): (Resource<OutgoingRequest>, Method),
) -> Answer {
    if matches!(&method, Method::Other(name) if name.len() > MAX_REQUEST_PART_BYTES) {
        return Ok((Err(()),));
    }
    Ok((store.data_mut().http().set_method(request, method)?,))
}

fn set_authority(
    mut store: StoreContextMut<'_, HostContext>,
    (request, authority): (Resource<OutgoingRequest>, Option<String>),
) -> Answer {
    if authority.as_ref().is_some_and(|authority| authority.len() > MAX_REQUEST_PART_BYTES) {
        return Ok((Err(()),));
    }
    Ok((store.data_mut().http().set_authority(request, authority)?,))
}

type SentRequest = wasmtime_wasi_http::Result<(
    http::Response<WasiBody>,
    Box<dyn Future<Output = wasmtime_wasi_http::Result<()>> + Send>,
)>;

impl WasiHttpHooks for DeniedHttp {
    fn send_request(
        &mut self,
        _request: http::Request<WasiBody>,
        _options: Option<RequestOptions>,
        _errors: Box<dyn Future<Output = wasmtime_wasi_http::Result<()>> + Send>,
    ) -> Box<dyn Future<Output = SentRequest> + Send> {
        Box::new(async { Err(wasmtime_wasi_http::Error::HttpRequestDenied) })
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        MAX_BODY_CHUNK_BYTES
    }
}
