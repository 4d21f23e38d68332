//! Where a call goes. Those of the runtime, which are nearly all, go straight to it, and whoever makes them is asked for
//! first; health checks and reflection go by tonic's router and answer everybody.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};

use futures::future::{Either, MapOk, TryFutureExt};
use http_body_util::BodyExt;
use mentat_proto::v1::wasm_runtime_server::WasmRuntimeServer;
use tonic::body::Body;
use tonic::codegen::BoxFuture;
use tonic::codegen::http::{Request, Response};
use tonic::server::NamedService;
use tonic::service::Routes;
use tower::Service;

use super::authentication::authenticate;
use super::refusals;
use super::service;
use super::status::status;
use crate::door::DoorState;
use crate::transport::{BodyError, RequestBody};

type Runtime = WasmRuntimeServer<service::Service>;
type Executed = MapOk<BoxFuture<Response<Body>, Infallible>, fn(Response<Body>) -> Response<Body>>;

type Routed = <Routes as Service<Request<RequestBody>>>::Future;

/// The services of this door.
#[derive(Clone, Debug)]
pub(crate) struct GrpcDoor {
    runtime: Runtime,
    others: Routes,
    state: DoorState,
}

impl GrpcDoor {
    pub(super) fn of(runtime: Runtime, others: Routes, state: DoorState) -> Self {
        Self { runtime, others, state }
    }
}

impl Service<Request<RequestBody>> for GrpcDoor {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<Executed, Either<Routed, Ready<Result<Response<Body>, Infallible>>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Neither service ever is anything else.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<RequestBody>) -> Self::Future {
        if !is_for_the_runtime(request.uri().path()) {
            return Either::Right(Either::Left(self.others.call(request)));
        }
        if let Err(refused) = authenticate(&self.state, &mut request) {
            return Either::Right(Either::Right(ready(Ok(refused.into_http()))));
        }
        // A body that does not come has its reason.
        let request = request.map(|body| body.map_err(|error: BodyError| status(&error.to_error())));
        let explain: fn(Response<Body>) -> Response<Body> = refusals::explain;
        Either::Left(self.runtime.call(request).map_ok(explain))
    }
}

fn is_for_the_runtime(path: &str) -> bool {
    path.strip_prefix('/')
        .and_then(|path| path.strip_prefix(Runtime::NAME))
        .is_some_and(|method| method.starts_with('/'))
}
