//! The floors of the service: processes that do as little as can be done at its doors. `serve-floor` is this program as one
//! of them, so that both are asked in the same way.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::Context;
use bytes::Bytes;
use clap::ValueEnum;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use mentat_proto::v1::{ExecuteAgentRequest, ExecuteAgentResponse};
use rustix::process::Signal;
use tokio::net::TcpListener;
use tonic::codegen::{BoxFuture, Service};
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::transport::server::TcpIncoming;
use tonic::{Status, body::Body};
use tonic_prost::ProstCodec;

use crate::modules;
use crate::raw::{Raw, RawEngine, Settings};
use crate::server::FLOOR_READY;
use crate::streams;

/// Executions at the same time that a floor has room for; its clients ask for fewer.
const PLACES: u32 = 256;
/// As many as the service has where nothing else is said.
const SERVICE_PLACES: u32 = 1000;

/// What a floor does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Answers with its input, by gRPC
    GrpcEcho,
    /// Executes a module by Wasmtime alone, by gRPC
    GrpcRaw,
    /// Executes a module by Wasmtime alone, by HTTP
    HttpRaw,
    /// Sends as many chunks as it is asked for, by WebSocket
    WebSocket,
    /// Has an engine and its pool, and does nothing
    Engine,
}

/// What an answer is made by; nothing for an echo.
#[derive(Clone)]
struct Answer(Option<Arc<Raw>>);

/// Is a floor until it is killed.
pub(crate) fn serve(kind: Kind, module: &str) -> anyhow::Result<()> {
    // Whoever ends the benchmark ends its floors, however that is done.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    if kind == Kind::Engine {
        let _engine = RawEngine::new(Settings::ours(SERVICE_PLACES))?;
        ready("nothing");
        loop {
            std::thread::park();
        }
    }
    let raw = match kind {
        Kind::GrpcEcho | Kind::WebSocket => None,
        _ => Some(Arc::new(Raw::new(&modules::named(module)?.module, Settings::best(PLACES))?)),
    };
    let threads = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    threads.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        match (kind, raw) {
            (Kind::WebSocket, _) => {
                ready(&format!("http={address}"));
                streams::serve_bare(listener).await
            }
            (Kind::HttpRaw, raw) => {
                ready(&format!("http={address}"));
                serve_http(listener, raw.context("nothing to execute")?).await
            }
            (_, raw) => {
                ready(&format!("grpc={address}"));
                let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
                let server = tonic::transport::Server::builder().add_service(Answer(raw));
                Ok(server.serve_with_incoming(incoming).await?)
            }
        }
    })
}

#[allow(clippy::print_stderr, reason = "as the service says it")]
fn ready(addresses: &str) {
    eprintln!("{FLOOR_READY}{addresses}");
}

/// Every method is `ExecuteAgent`.
impl Service<Request<Body>> for Answer {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let answer = self.clone();
        Box::pin(async move { Ok(Grpc::new(ProstCodec::default()).unary(answer, request).await) })
    }
}

impl NamedService for Answer {
    const NAME: &'static str = "mentat.runtime.v1.WasmRuntime";
}

impl UnaryService<ExecuteAgentRequest> for Answer {
    type Response = ExecuteAgentResponse;
    type Future = BoxFuture<tonic::Response<Self::Response>, Status>;

    fn call(&mut self, request: tonic::Request<ExecuteAgentRequest>) -> Self::Future {
        let raw = self.0.clone();
        Box::pin(async move {
            let input = request.into_inner().input;
            let output = match raw {
                None => input,
                Some(raw) => execute(&raw, input).await.map_err(Status::internal)?,
            };
            Ok(tonic::Response::new(ExecuteAgentResponse { output, ..ExecuteAgentResponse::default() }))
        })
    }
}

async fn execute(raw: &Raw, input: Bytes) -> Result<Bytes, String> {
    raw.output(input).await.map(Bytes::from).map_err(|error| format!("{error:#}"))
}

async fn serve_http(listener: TcpListener, raw: Arc<Raw>) -> anyhow::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let raw = Arc::clone(&raw);
        let service = service_fn(move |request: Request<Incoming>| {
            let raw = Arc::clone(&raw);
            async move {
                let input = request.into_body().collect().await.map_err(|error| error.to_string())?;
                let output = execute(&raw, input.to_bytes()).await?;
                Ok::<_, String>(Response::new(Full::new(output)))
            }
        });
        tokio::runtime::Handle::current().spawn(async move {
            // A client that goes away has been answered.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
