//! The way out of a container: a listener at its own loopback, in a network in which there is nothing else. Who speaks to it
//! can be nobody but the one execution in that container, so that nobody has to say who they are.
//!
//! Decides on nothing: what is asked there, the runtime's `Egress` answers by the execution's grant.

use std::convert::Infallible;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use mentat_runtime::Egress;
use mentat_runtime::error::Error;
use tokio::net::TcpListener;

/// Where a container finds its proxy. In its network no other program has a port.
pub(super) const PORT: u16 = 3128;
/// How long to wait before the next connection where one could not be taken.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);
/// The variables by which programs find a proxy; some libraries read these, some those.
const PROXY_VARIABLES: [&str; 6] =
    ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"];
/// And what they reach without one: themselves.
const NO_PROXY_VARIABLES: [&str; 2] = ["no_proxy", "NO_PROXY"];
const NO_PROXY: &str = "localhost,127.0.0.1,::1";

/// The way out of the container of one execution.
#[derive(Debug)]
pub(super) struct Outlet {
    pub(super) listener: TcpListener,
    pub(super) egress: Egress,
}

/// The variables of a container with a way out.
pub(super) fn variables() -> impl Iterator<Item = (String, String)> {
    let proxy = format!("http://127.0.0.1:{PORT}");
    let proxies = PROXY_VARIABLES.into_iter().map(move |name| (name.to_owned(), proxy.clone()));
    proxies.chain(NO_PROXY_VARIABLES.into_iter().map(|name| (name.to_owned(), NO_PROXY.to_owned())))
}

/// Serves the way out, where there is one, until the execution has to end for what was asked there. To be dropped with the
/// execution, and all connections with it.
pub(super) async fn serve(outlet: Option<&Outlet>) -> Error {
    let Some(Outlet { listener, egress }) = outlet else { return std::future::pending().await };
    tokio::select! {
        message = egress.violated() => Error::SecurityViolation { message },
        never = pass(listener, egress) => match never {},
    }
}

async fn pass(listener: &TcpListener, egress: &Egress) -> Infallible {
    let mut served = FuturesUnordered::new();
    loop {
        let has_room = served.len() < egress.places();
        tokio::select! {
            accepted = listener.accept(), if has_room => match accepted {
                Ok((stream, _)) => served.push(egress.serve(stream)),
                Err(error) => {
                    tracing::warn!(%error, "a container's connection could not be taken");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                }
            },
            Some(()) = served.next(), if !served.is_empty() => {}
        }
    }
}
