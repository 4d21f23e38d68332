//! The way onto the network of an agent that runs outside this process, as in a container: it speaks to us as to an HTTP proxy,
//! by requests for whole URLs and by CONNECT. Each of them is decided on, connected and bounded as those of a module are.
//!
//! Knows nothing of where the agent's connections come from. Invariant: one connection carries one request, or one tunnel:
//! nothing that follows can be taken for another one.

mod forwarded;
mod refusal;
mod tunnel;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};
use mentat_manifest::Capability;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};

use self::tunnel::Tunnel;
use super::gate::Gate;
use super::network::{Network, NetworkError};
use super::outbound::Outbound;
use super::requests::{self, ContentError, Patience, Received};
use super::stdio::LogSink;
use crate::model::LogLevel;
use crate::security::policy::Grant;

/// Bytes of a request's line and headers at most.
const MAX_HEAD_BYTES: usize = 64 << 10;
/// Headers of a request at most.
const MAX_HEADERS: usize = 100;
/// How long an agent may take for them.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections of an agent to the proxy over those that may lead on: they are told that there are too many.
const SPARE_CONNECTIONS: usize = 8;

/// The way of one execution onto the network. What it has open ends with the futures that serve it.
#[derive(Debug)]
pub struct Egress {
    outbound: Arc<Outbound>,
}

/// A tunnel that was permitted, and the connection that is to become it.
type Opened = Mutex<Option<(OnUpgrade, Tunnel)>>;

impl Egress {
    pub(crate) fn new(network: Arc<Network>, grant: Grant, logs: LogSink) -> Self {
        let gate = Arc::new(Gate::new(grant, logs.clone()));
        Self { outbound: Arc::new(Outbound::new(network, gate, logs)) }
    }

    /// Whether a capability is for something that an agent can do by way of a proxy: all of the network but datagrams.
    #[must_use]
    pub fn leads_to(capability: &Capability) -> bool {
        forwarded::is_for_a_proxy(capability)
    }

    /// Connections that are served at one time at most.
    #[must_use]
    pub fn places(&self) -> usize {
        let connections = self.outbound.network.config().connections;
        usize::try_from(connections).unwrap_or(usize::MAX).saturating_add(SPARE_CONNECTIONS)
    }

    /// Comes back when the execution has to end for a denial; why.
    pub async fn violated(&self) -> String {
        loop {
            self.outbound.gate.terminated().await;
            if let Some(violation) = self.outbound.gate.violation() {
                return violation;
            }
        }
    }

    /// Serves one connection of the agent's until it has ended. To be dropped where the execution ends before.
    pub async fn serve(&self, stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) {
        let opened = Arc::new(Opened::default());
        let service = service_fn(|request| {
            let (outbound, opened) = (Arc::clone(&self.outbound), Arc::clone(&opened));
            async move { Ok::<_, Infallible>(answer(&outbound, &opened, request).await) }
        });
        let connection = http1::Builder::new()
            .keep_alive(false)
            // Who has said all of a request may end that side of the connection, and is answered all the same. Who goes away
            // altogether looks alike until something is written; what waits for the host then does so for as long as it may.
            .half_close(true)
            .max_buf_size(MAX_HEAD_BYTES)
            .max_headers(MAX_HEADERS)
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        // What broke it is the agent's own doing, or was told as an answer.
        let _ = connection.await;
        let tunnel = opened.lock().take();
        if let Some((upgrade, tunnel)) = tunnel
            && let Ok(upgraded) = upgrade.await
        {
            tunnel.carry(&self.outbound, TokioIo::new(upgraded)).await;
        }
    }
}

async fn answer(outbound: &Arc<Outbound>, opened: &Opened, request: Request<Incoming>) -> Response<Received> {
    let answered = if request.method() == Method::CONNECT {
        open(outbound, opened, request).await
    } else {
        forward(outbound, request).await
    };
    answered.unwrap_or_else(|error| {
        // A denial is in the log already.
        if !matches!(error, NetworkError::Denied(_)) {
            outbound.logs.log(LogLevel::Warn, error.tell().as_bytes());
        }
        refusal::response(&error)
    })
}

/// Passes a request on, and its response back.
async fn forward(
    outbound: &Arc<Outbound>,
    request: Request<Incoming>,
) -> Result<Response<Received>, NetworkError> {
    let request = forwarded::request(request)?;
    let permission = outbound.decide_request(request.uri())?;
    let place = outbound.open()?;
    let request =
        request.map(|body| body.map_err(|error| ContentError::Broken(error.to_string())).boxed_unsync());
    let response = requests::send(outbound, place, &permission, request, Patience::default()).await?;
    let logs = outbound.logs.clone();
    let told = move |error: NetworkError| {
        // The agent sees no more than that its connection breaks.
        logs.log(LogLevel::Warn, error.tell().as_bytes());
        error
    };
    Ok(forwarded::response(response)?.map(|body| body.map_err(told).boxed_unsync()))
}

/// Opens a tunnel, which begins when its answer is sent.
async fn open(
    outbound: &Arc<Outbound>,
    opened: &Opened,
    mut request: Request<Incoming>,
) -> Result<Response<Received>, NetworkError> {
    let ways = forwarded::tunnel(&request)?;
    let tunnel = Tunnel::open(outbound, ways).await?;
    *opened.lock() = Some((hyper::upgrade::on(&mut request), tunnel));
    Ok(Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync()))
}
