//! The way of one execution onto the network: every request, connection and look-up of a name is decided on here, and
//! counted.
//!
//! Invariant: what opens a connection takes a `Permission` for its very endpoint.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::uri::Scheme;
use http::{HeaderMap, Uri};
use mentat_manifest::{Capability, Host, Port, Protocol, escape_untrusted};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::gate::Gate;
use super::network::{Network, NetworkError};
use super::secrets::{Seal, Secrets};
use super::stdio::LogSink;
use crate::model::LogLevel;
use crate::security::denial::Denial;
use crate::security::policy::Permission;

/// Addresses whose names are remembered; a guest has looked them up and may connect to them.
const MAX_NAMED_ADDRESSES: usize = 1024;
/// Names that are remembered of one address; each is decided on when it is connected to.
const MAX_NAMES: usize = 16;
/// Peers that a guest has sent datagrams to and may hear from.
const MAX_PEERS: usize = 1024;
/// Why a further one is refused.
const TOO_MANY_PEERS: &str = "an execution sends datagrams to no more peers than that";
/// Characters of a URL in a message.
const MAX_URL_CHARS: usize = 200;

/// What an execution has of the network.
#[derive(Debug)]
pub(crate) struct Outbound {
    pub(crate) network: Arc<Network>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) logs: LogSink,
    pub(crate) secrets: Secrets,
    connections: Arc<Semaphore>,
    /// Whether it was permitted anything there.
    is_permitted: AtomicBool,
    /// The names under which the guest has looked addresses up.
    names: Mutex<HashMap<IpAddr, Vec<String>>>,
    peers: Mutex<HashSet<SocketAddr>>,
}

/// A name that may be looked up.
#[derive(Debug)]
pub(crate) struct Name(Host);

impl Outbound {
    pub(crate) fn new(network: Arc<Network>, gate: Arc<Gate>, logs: LogSink) -> Self {
        let connections = usize::try_from(network.config().connections).unwrap_or(Semaphore::MAX_PERMITS);
        Self {
            network,
            gate,
            logs,
            secrets: Secrets::default(),
            connections: Arc::new(Semaphore::new(connections.min(Semaphore::MAX_PERMITS))),
            is_permitted: AtomicBool::new(false),
            names: Mutex::default(),
            peers: Mutex::default(),
        }
    }

    /// A place for one more connection; it is free again when the answer is dropped.
    pub(crate) fn open(&self) -> Result<OwnedSemaphorePermit, NetworkError> {
        Arc::clone(&self.connections)
            .try_acquire_owned()
            .map_err(|_| NetworkError::TooMany(self.network.config().connections))
    }

    /// Whether it has connections, as far as it can have any: a socket alone, which anybody can make, is none.
    pub(crate) fn is_open(&self) -> bool {
        if !self.is_permitted.load(Ordering::Relaxed) {
            return false;
        }
        u32::try_from(self.connections.available_permits()).unwrap_or(u32::MAX)
            < self.network.config().connections
    }

    /// Decides on a request to a URL.
    pub(crate) fn decide_request(&self, uri: &Uri) -> Result<Permission, NetworkError> {
        self.decide(&target(uri)?)
    }

    /// The secrets of a request; `None` where there are none to be placed or masked.
    pub(crate) fn seal(
        &self,
        target: &Capability,
        headers: &HeaderMap,
    ) -> Result<Option<Seal>, NetworkError> {
        self.secrets.seal(&self.gate, &self.logs, target, headers)
    }

    /// Decides on a capability, and tells a denial to the guest's log.
    pub(crate) fn decide(&self, capability: &Capability) -> Result<Permission, NetworkError> {
        self.settle(self.gate.decide(capability))
    }

    /// Decides on looking up a name, or an address, which means itself.
    pub(crate) fn decide_name(&self, name: &str) -> Result<Name, NetworkError> {
        let wrong = |error: &dyn std::fmt::Display| NetworkError::Malformed(error.to_string());
        let host = match format!("network:tcp:{}", bracketed(name)).parse() {
            Ok(Capability::Network { host, port: Port::Unsaid, .. }) => host,
            Ok(_) => return Err(wrong(&"this is no name of a host")),
            Err(error) => return Err(wrong(&error)),
        };
        if let Host::Name(_) = &host {
            self.decide_look_up(&host)?;
        }
        Ok(Name(host))
    }

    /// The addresses of a name that the guest may connect to by some protocol; it may then be connected to under the name.
    pub(crate) async fn look_up(&self, name: &Name) -> Result<Vec<IpAddr>, NetworkError> {
        let place = self.open()?;
        let addresses = self.network.addresses(&name.0).await?;
        drop(place);
        let Host::Name(name) = &name.0 else { return Ok(addresses) };
        let mut names = self.names.lock();
        for address in &addresses {
            if names.len() >= MAX_NAMED_ADDRESSES && !names.contains_key(address) {
                break;
            }
            let known = names.entry(*address).or_default();
            if !known.contains(name) && known.len() < MAX_NAMES {
                known.push(name.clone());
            }
        }
        Ok(addresses)
    }

    /// A name may be looked up where it may be connected to: a look-up alone carries what the guest likes to a name server.
    fn decide_look_up(&self, host: &Host) -> Result<(), NetworkError> {
        let ways = self.gate.grant().connections_to(host);
        let plain = Capability::Network { protocol: Protocol::Tcp, host: host.clone(), port: Port::Unsaid };
        self.settle(self.gate.decide_any(&ways, &plain)).map(drop)
    }

    /// Decides on a connection by number: under the names that the guest has looked the address up by, or as itself.
    pub(crate) fn decide_address(&self, protocol: Protocol, address: SocketAddr) -> bool {
        let ip = address.ip().to_canonical();
        let port = Port::Number(address.port());
        let names = self.names.lock().get(&ip).cloned().unwrap_or_default();
        let to = |host| Capability::Network { protocol, host, port };
        let by_name: Vec<Capability> = names.into_iter().map(Host::Name).map(to).collect();
        let by_number = to(numbered(ip));
        self.settle(self.gate.decide_any(&by_name, &by_number)).is_ok()
    }

    /// Decides on a datagram, after which the guest may hear from its peer.
    pub(crate) fn decide_datagram(&self, address: SocketAddr) -> bool {
        let canonical = SocketAddr::new(address.ip().to_canonical(), address.port());
        if self.is_peer(canonical) {
            return true;
        }
        if self.peers.lock().len() >= MAX_PEERS {
            self.refuse(Protocol::Udp, canonical, TOO_MANY_PEERS);
            return false;
        }
        if !self.decide_address(Protocol::Udp, canonical) {
            return false;
        }
        self.peers.lock().insert(canonical);
        true
    }

    /// Whether the guest has sent datagrams to it.
    pub(crate) fn is_peer(&self, address: SocketAddr) -> bool {
        self.peers.lock().contains(&SocketAddr::new(address.ip().to_canonical(), address.port()))
    }

    /// Refuses an address whatever was granted.
    pub(crate) fn refuse(&self, protocol: Protocol, address: SocketAddr, why: &'static str) {
        let asked = Capability::Network {
            protocol,
            host: numbered(address.ip()),
            port: Port::Number(address.port()),
        };
        self.denied(self.gate.refuse(&asked, why));
    }

    /// Takes back what was given, for this reason: the sandbox has found that it is used for something else.
    pub(crate) fn withdraw(&self, capability: &Capability, why: &'static str) {
        self.denied(self.gate.refuse(capability, why));
    }

    fn settle(&self, decided: Result<Permission, Denial>) -> Result<Permission, NetworkError> {
        let permission = decided.map_err(|denial| self.denied(denial))?;
        self.is_permitted.store(true, Ordering::Relaxed);
        Ok(permission)
    }

    fn denied(&self, denial: Denial) -> NetworkError {
        let error = NetworkError::Denied(denial);
        self.logs.log(LogLevel::Warn, error.tell().as_bytes());
        error
    }
}

/// An address as a host.
fn numbered(ip: IpAddr) -> Host {
    let address = ip.to_canonical();
    Host::Network { address, prefix: if address.is_ipv4() { 32 } else { 128 } }
}

/// The capability that a request to a URL takes: of its scheme, its host and its port.
pub(crate) fn target(uri: &Uri) -> Result<Capability, NetworkError> {
    let shown = escape_untrusted(&uri.to_string(), MAX_URL_CHARS);
    let wrong = |what: &str| NetworkError::Malformed(format!("the URL `{shown}` {what}"));
    let scheme = match uri.scheme() {
        Some(scheme) if *scheme == Scheme::HTTPS => "https",
        Some(scheme) if *scheme == Scheme::HTTP => "http",
        _ => return Err(wrong("must begin with `https://` or `http://`")),
    };
    let authority = uri.authority().ok_or_else(|| wrong("names no host"))?.as_str();
    // What stands before an `@` is credentials, and looks to people like the host (RFC 3986, section 7.6).
    if authority.contains('@') {
        return Err(wrong("holds user information (`…@`); send it as a header"));
    }
    let text = format!("network:{scheme}:{authority}");
    let capability = text.parse::<Capability>().map_err(|error| wrong(&format!("is of no host: {error}")))?;
    match &capability {
        Capability::Network {
            host: Host::Name(_) | Host::Network { .. },
            port: Port::Unsaid | Port::Number(_),
            ..
        } => Ok(capability),
        _ => Err(wrong("must name one host and one port")),
    }
}

/// An address of IPv6 as capabilities have it.
fn bracketed(name: &str) -> String {
    match name.parse::<IpAddr>() {
        Ok(IpAddr::V6(_)) => format!("[{name}]"),
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_of_the_host_that_it_is_sent_to_and_of_no_other() {
        for (url, capability) in [
            ("https://Api.Example.com/v1?q=1", Some("network:https:api.example.com")),
            ("https://api.example.com.:443/", Some("network:https:api.example.com:443")),
            ("http://127.0.0.1:8080/", Some("network:http:127.0.0.1:8080")),
            ("http://[::ffff:10.0.0.1]/", Some("network:http:10.0.0.1")),
            ("https://[2001:db8::1]:8443/", Some("network:https:[2001:db8::1]:8443")),
            ("https://xn--bcher-kva.example/", Some("network:https:xn--bcher-kva.example")),
            ("https://api.example.com@evil.com/", None),
            ("https://user:password@api.example.com/", None),
            ("https://api.example.com:99999/", None),
            ("https://2130706433/", None),
            ("https://0x7f.1/", None),
            ("https://0177.0.0.1/", None),
            ("https://127.1/", None),
            ("https://*.example.com/", None),
            ("https://*/", None),
            ("https://10.0.0.0/8", Some("network:https:10.0.0.0")),
            ("ftp://example.com/", None),
            ("/relative", None),
            ("example.com", None),
        ] {
            let found = url.parse::<Uri>().ok().and_then(|uri| target(&uri).ok());
            assert_eq!(found.map(|found| found.to_string()).as_deref(), capability, "{url}");
        }
    }
}
