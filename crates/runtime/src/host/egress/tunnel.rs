//! A tunnel through the proxy: any bytes, where the agent may open connections to the host, or an encrypted connection with
//! it, where it may send HTTPS alone. What is encrypted cannot be looked into; whom it is for stands in its first message.
//!
//! Invariant: no byte goes to the host of a tunnel that is for HTTPS before its first message was found to be for that host.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use mentat_manifest::{Capability, Host};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio_rustls::rustls::server::Acceptor;

use super::forwarded::Ways;
use super::{NetworkError, Outbound};
use crate::host::network::Endpoint;
use crate::model::LogLevel;

/// The port that encrypted connections go to.
const HTTPS_PORT: u16 = 443;
/// Bytes of the first message of an encrypted connection at most; those of browsers have about two thousand.
const MAX_HELLO_BYTES: usize = 16 << 10;
/// Bytes that are carried in one go.
const PIECE_BYTES: usize = 16 << 10;
const NO_TLS: &str = "what it sends through the tunnel begins no encrypted connection; a tunnel for anything else takes `network:tcp:`";
const OTHER_NAME: &str = "the encrypted connection in the tunnel is for another host than the tunnel";

/// A connection that was permitted.
#[derive(Debug)]
pub(super) struct Tunnel {
    stream: TcpStream,
    asked: Capability,
    carries: Carries,
    _place: OwnedSemaphorePermit,
}

/// What a tunnel may carry.
#[derive(Debug)]
enum Carries {
    /// Any bytes.
    Anything,
    /// An encrypted connection for this host.
    Encrypted(Host),
}

/// Why a tunnel ended before both sides had said all.
enum Cut {
    /// A side is gone.
    Broken,
    Idle(Duration),
    TooLarge {
        what: &'static str,
        limit: u64,
    },
}

impl Tunnel {
    /// Connects to a host: for any bytes where that is permitted, else for HTTPS. It is decided on once, by what it is for.
    pub(super) async fn open(outbound: &Arc<Outbound>, ways: Ways) -> Result<Self, NetworkError> {
        let is_given = |way: &Capability| outbound.gate.grant().explain(way).is_ok();
        let is_plain = is_given(&ways.tcp) || (ways.port != HTTPS_PORT && !is_given(&ways.https));
        let asked = if is_plain { ways.tcp } else { ways.https };
        let permission = outbound.decide(&asked)?;
        let place = outbound.open()?;
        let endpoint = Endpoint::of(&permission)?;
        let stream = outbound.network.connect(&endpoint, outbound.network.config().connect_timeout).await?;
        let carries = match &asked {
            Capability::Network { host, .. } if !is_plain => Carries::Encrypted(host.clone()),
            _ => Carries::Anything,
        };
        Ok(Self { stream, asked, carries, _place: place })
    }

    /// Carries bytes both ways until both sides have said all, or one has for too long said nothing or too much.
    pub(super) async fn carry(mut self, outbound: &Outbound, mut agent: impl AsyncRead + AsyncWrite + Unpin) {
        let config = outbound.network.config();
        if let Carries::Encrypted(host) = &self.carries {
            let reading = tokio::time::timeout(config.connect_timeout, hello(&mut agent, host)).await;
            match reading {
                Ok(Ok(hello)) => {
                    if self.stream.write_all(&hello).await.is_err() {
                        return;
                    }
                }
                Ok(Err(why)) => return outbound.withdraw(&self.asked, why),
                Err(_) => return,
            }
        }
        let is_late = Quiet::new(config.response_timeout);
        let (from_agent, to_agent) = tokio::io::split(agent);
        let (from_host, to_host) = self.stream.split();
        let sending = pump(from_agent, to_host, "sent", config.request_bytes.0, &is_late);
        let receiving = pump(from_host, to_agent, "received", config.response_bytes.0, &is_late);
        let cut = tokio::select! {
            carried = async { tokio::try_join!(sending, receiving) } => carried.err(),
            cut = is_late.watch() => Some(cut),
        };
        let message = match cut {
            None | Some(Cut::Broken) => return,
            Some(Cut::Idle(patience)) => {
                format!(
                    "nothing went through the tunnel for `{}` for {} ms; it is closed",
                    self.asked,
                    patience.as_millis()
                )
            }
            Some(Cut::TooLarge { what, limit }) => {
                format!(
                    "more than {limit} bytes were {what} through the tunnel for `{}`; it is closed",
                    self.asked
                )
            }
        };
        outbound.logs.log(LogLevel::Warn, message.as_bytes());
    }
}

/// Reads the first message of an encrypted connection, which must be for this host.
async fn hello(agent: &mut (impl AsyncRead + Unpin), host: &Host) -> Result<Vec<u8>, &'static str> {
    let mut acceptor = Acceptor::default();
    let (mut hello, mut piece) = (Vec::new(), [0; 2 << 10]);
    while hello.len() < MAX_HELLO_BYTES {
        let length = agent.read(&mut piece).await.map_err(|_| NO_TLS)?;
        let mut new = piece.get(..length).filter(|new| !new.is_empty()).ok_or(NO_TLS)?;
        hello.extend_from_slice(new);
        while !new.is_empty() {
            acceptor.read_tls(&mut new).map_err(|_| NO_TLS)?;
        }
        if let Some(accepted) = acceptor.accept().map_err(|_| NO_TLS)? {
            let message = accepted.client_hello();
            return if is_for(message.server_name(), host) { Ok(hello) } else { Err(OTHER_NAME) };
        }
    }
    Err(NO_TLS)
}

/// Addresses are never named there (RFC 6066, section 3).
fn is_for(named: Option<&str>, host: &Host) -> bool {
    match (named, host) {
        (Some(named), Host::Name(name)) => named.trim_end_matches('.').eq_ignore_ascii_case(name),
        (None, Host::Network { .. }) => true,
        _ => false,
    }
}

/// Carries what one side says, at most so many bytes of it, and tells the other that it has said all.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    what: &'static str,
    limit: u64,
    quiet: &Quiet,
) -> Result<(), Cut> {
    let broken = |_: io::Error| Cut::Broken;
    let mut left = limit;
    let mut buffer = vec![0; PIECE_BYTES];
    loop {
        let length = from.read(&mut buffer).await.map_err(broken)?;
        let Some(piece) = buffer.get(..length).filter(|piece| !piece.is_empty()) else {
            return to.shutdown().await.map_err(broken);
        };
        left = left.checked_sub(piece.len() as u64).ok_or(Cut::TooLarge { what, limit })?;
        to.write_all(piece).await.map_err(broken)?;
        quiet.end();
    }
}

/// How long nobody has said anything.
struct Quiet {
    patience: Duration,
    since: Mutex<Instant>,
}

impl Quiet {
    fn new(patience: Duration) -> Self {
        Self { patience, since: Mutex::new(Instant::now()) }
    }

    fn end(&self) {
        *self.since.lock() = Instant::now();
    }

    /// Comes back when it was too long.
    async fn watch(&self) -> Cut {
        loop {
            let until = *self.since.lock() + self.patience;
            if until <= Instant::now() {
                return Cut::Idle(self.patience);
            }
            tokio::time::sleep_until(until).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_for_its_host_alone_and_an_address_has_none() {
        let host = |text: &str| match format!("network:https:{text}").parse() {
            Ok(Capability::Network { host, .. }) => host,
            other => panic!("{other:?}"),
        };
        for (named, to, is) in [
            (Some("api.example.com"), "api.example.com", true),
            (Some("API.example.com."), "api.example.com", true),
            (Some("evil.example.com"), "api.example.com", false),
            (None, "api.example.com", false),
            (None, "10.0.0.1", true),
            (Some("a.example"), "10.0.0.1", false),
        ] {
            assert_eq!(is_for(named, &host(to)), is, "{named:?} {to}");
        }
    }
}
