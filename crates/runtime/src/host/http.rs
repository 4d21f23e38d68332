//! `wasi:http` for components: their requests take the same way as those by a grant, and may hold so much in the host
//! while they wait to be sent. Wasmtime bounds headers and bodies by these numbers; a method's and an authority's length
//! it leaves to us.

use std::sync::Arc;

use http_body_util::BodyExt;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi_http::p2::bindings::http::types::{HostOutgoingRequest, Method};
use wasmtime_wasi_http::p2::types::HostOutgoingRequest as OutgoingRequest;
use wasmtime_wasi_http::{RequestOptions, WasiBody, WasiHttpCtx, WasiHttpHooks, WasiHttpView};

use super::context::HostContext;
use super::network::NetworkError;
use super::outbound::Outbound;
use super::requests::{self, ContentError, Patience};
use crate::model::LogLevel;

/// The interface whose functions are bounded here, in Wasmtime's own version of it; a component's is matched to it.
const TYPES: &str = "wasi:http/types@0.2.12";
/// Bytes of a request's method or authority at most; servers take less.
const MAX_REQUEST_PART_BYTES: usize = 8 << 10;
/// Bytes of one list of headers at most, with the host's bookkeeping; common servers take 8 to 16 KiB on the wire.
const MAX_FIELDS_BYTES: usize = 32 << 10;
/// Bytes of one write to a request's body; two of them wait for the sender at most.
const MAX_BODY_CHUNK_BYTES: usize = 64 << 10;

/// Sends the HTTP requests of one component.
pub(crate) struct OutboundHttp(pub(crate) Arc<Outbound>);

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

impl WasiHttpHooks for OutboundHttp {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        errors: Box<dyn Future<Output = wasmtime_wasi_http::Result<()>> + Send>,
    ) -> Box<dyn Future<Output = SentRequest> + Send> {
        // Tells of the guest's own body, which the guest knows; WASI 0.2 has no use for it.
        drop(errors);
        let outbound = Arc::clone(&self.0);
        let permission = outbound.decide_request(request.uri());
        let permitted = permission.and_then(|permission| Ok((permission, outbound.open()?)));
        let options = options.unwrap_or_default();
        let patience = Patience {
            connect: options.connect_timeout,
            first_byte: options.first_byte_timeout,
            between_bytes: options.between_bytes_timeout,
        };
        Box::new(async move {
            let request = request
                .map(|body| body.map_err(|error| ContentError::Broken(error.to_string())).boxed_unsync());
            let sent = match permitted {
                Ok((permission, place)) => {
                    requests::send(&outbound, place, &permission, request, patience).await
                }
                Err(error) => Err(error),
            };
            let response = sent.inspect_err(|error| {
                // WASI's error is a word; the log has the sentence, and has that of a denial already.
                if !matches!(error, NetworkError::Denied(_)) {
                    outbound.logs.log(LogLevel::Warn, error.tell().as_bytes());
                }
            })?;
            let response = response.map(|body| body.map_err(Into::into).boxed_unsync());
            let done: Box<dyn Future<Output = wasmtime_wasi_http::Result<()>> + Send> =
                Box::new(async { Ok(()) });
            Ok((response, done))
        })
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        MAX_BODY_CHUNK_BYTES
    }
}
