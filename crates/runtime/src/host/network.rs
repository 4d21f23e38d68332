//! The network of the process: what names mean, which addresses may be reached, how a connection is made and encrypted.
//! Shared by all executions; knows nothing of guests, and of HTTP nothing.
//!
//! Invariant: a connection goes to an address that was checked, of a name that was looked up once, and only for a
//! `Permission`. A name that is permitted and leads to this machine or to its neighbours (169.254.169.254 and the like) is
//! how a guest would reach what only the operator may.

mod error;
mod names;
mod tls;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use mentat_manifest::{ByteCount, Capability, Host, Protocol, is_public};
use tokio::net::TcpStream;
use tokio::time::Instant;

pub(crate) use self::error::NetworkError;
use self::names::Names;
use self::tls::Tls;
pub(crate) use self::tls::TlsStream;
use crate::error::Error;
use crate::security::offers::{Extension, Offers};
use crate::security::policy::Permission;

/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 16;

/// The port of a service that nobody runs (RFC 863): any would do.
const DISCARD_PORT: u16 = 9;

/// How the network is reached, and how much of it one execution may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkConfig {
    /// Connections and sockets of one execution at one time, look-ups of names among them.
    pub connections: u32,
    /// Time until a connection stands, its name looked up and its encryption agreed on.
    pub connect_timeout: Duration,
    /// Time that a host may keep an agent waiting, for the beginning of a response and between any two parts of it.
    pub response_timeout: Duration,
    /// Bytes of one request's body.
    pub request_bytes: ByteCount,
    /// Bytes of one response's body.
    pub response_bytes: ByteCount,
    /// Servers that names are looked up at; those of the system where empty.
    pub nameservers: Vec<SocketAddr>,
    /// Names in lower-case ASCII that mean these addresses, whatever they are, and are not looked up.
    pub hosts: BTreeMap<String, Vec<IpAddr>>,
    /// Networks that looked-up names may lead to though they are no public ones; each a [`Host::Network`].
    pub reachable: Vec<Host>,
    /// A PEM file of roots that servers' certificates are checked against, beside the system's.
    pub roots: Option<PathBuf>,
}

/// The network, as all executions reach it.
#[derive(Debug, Default)]
pub(crate) struct Network {
    config: NetworkConfig,
    names: Names,
    tls: Tls,
}

/// One place that a permission is for: a host and a port, neither a pattern. Only a permission makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    protocol: Protocol,
    host: Host,
    port: u16,
    named_by: NamedBy,
}

/// Who says that a host may be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NamedBy {
    /// The agent: what its name leads to is checked.
    Agent,
    /// The operator, in the configuration: the name may lead where it likes.
    Operator,
}

impl Default for NetworkConfig {
    fn default() -> Self {
        Self {
            // What a browser opens to one host is six; a thousand executions share the system's descriptors.
            connections: 32,
            connect_timeout: Duration::from_secs(10),
            // A model may think for a while before its first word.
            response_timeout: Duration::from_secs(120),
            request_bytes: ByteCount(256 << 20),
            response_bytes: ByteCount(256 << 20),
            nameservers: Vec::new(),
            hosts: BTreeMap::new(),
            reachable: Vec::new(),
            roots: None,
        }
    }
}

impl Network {
    /// # Errors
    /// `INVALID_REQUEST` for a file of roots that cannot be read.
    pub(crate) fn new(config: NetworkConfig) -> Result<Self, Error> {
        let tls = Tls::new(config.roots.as_deref())?;
        Ok(Self { names: Names::new(config.nameservers.clone()), tls, config })
    }

    pub(crate) fn config(&self) -> &NetworkConfig {
        &self.config
    }

    /// The addresses that an agent may connect to for a host. One that is asked for by number was decided on as such; a name
    /// is what the operator says it is, or what is looked up, as far as strangers may be reached there.
    pub(crate) async fn addresses(&self, host: &Host) -> Result<Vec<IpAddr>, NetworkError> {
        self.addresses_named_by(NamedBy::Agent, host).await
    }

    async fn addresses_named_by(&self, named_by: NamedBy, host: &Host) -> Result<Vec<IpAddr>, NetworkError> {
        let name = match host {
            Host::Name(name) => name,
            Host::Network { address, .. } if is_one(host) => return Ok(vec![*address]),
            Host::Any | Host::Suffix(_) | Host::Network { .. } => {
                return Err(NetworkError::Malformed(format!("`{host}` is more than one host")));
            }
        };
        if let Some(addresses) = self.config.hosts.get(name) {
            return Ok(addresses.clone());
        }
        let found = self.names.look_up(name).await?;
        let (mut open, closed): (Vec<IpAddr>, Vec<IpAddr>) = found
            .into_iter()
            .partition(|address| named_by == NamedBy::Operator || self.may_lead_to(*address));
        open.truncate(MAX_ADDRESSES);
        if open.is_empty() && !closed.is_empty() {
            // The operator may know; a guest that asks for names must not learn what they mean inside.
            tracing::debug!(%name, addresses = ?closed, "a name leads to no public address");
            return Err(NetworkError::Prohibited(name.clone()));
        }
        Ok(open)
    }

    /// Connects to one of the addresses of an endpoint.
    pub(crate) async fn connect(
        &self,
        endpoint: &Endpoint,
        timeout: Duration,
    ) -> Result<TcpStream, NetworkError> {
        let until = Instant::now() + timeout;
        let too_slow = || NetworkError::Timeout { what: "connecting", host: endpoint.host.to_string() };
        let asking = self.addresses_named_by(endpoint.named_by, &endpoint.host);
        let addresses = tokio::time::timeout_at(until, asking).await.map_err(|_| too_slow())??;
        let mut failed = NetworkError::NoSuchName(endpoint.host.to_string());
        for (left, address) in (1..=addresses.len()).rev().zip(&addresses) {
            // One that does not answer leaves time for the others.
            let share =
                until.saturating_duration_since(Instant::now()) / u32::try_from(left).unwrap_or(u32::MAX);
            let connecting = TcpStream::connect(SocketAddr::new(*address, endpoint.port));
            match tokio::time::timeout(share, connecting).await {
                Ok(Ok(stream)) => {
                    // Requests are small and wait for their answers; a refusal costs speed alone.
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Ok(Err(source)) => {
                    failed = NetworkError::Unreachable { host: endpoint.host.to_string(), source };
                }
                Err(_) => failed = too_slow(),
            }
        }
        Err(failed)
    }

    /// Agrees on encryption with the host of an endpoint, whose certificate must be for its name.
    pub(crate) async fn encrypt(
        &self,
        endpoint: &Endpoint,
        stream: TcpStream,
        timeout: Duration,
    ) -> Result<TlsStream, NetworkError> {
        let too_slow =
            |_| NetworkError::Timeout { what: "agreeing on encryption", host: endpoint.host.to_string() };
        tokio::time::timeout(timeout, self.tls.encrypt(&endpoint.host, stream)).await.map_err(too_slow)?
    }

    fn may_lead_to(&self, address: IpAddr) -> bool {
        let prefix = if address.is_ipv4() { 32 } else { 128 };
        let host = Host::Network { address, prefix };
        (is_public(address) && !is_own(address))
            || self.config.reachable.iter().any(|network| network.covers(&host))
    }
}

impl Endpoint {
    /// The endpoint that a network permission is for.
    pub(crate) fn of(permission: &Permission) -> Result<Self, NetworkError> {
        Self::named_by(NamedBy::Agent, permission.capability())
    }

    /// The endpoint of an extension, for who may call it.
    pub(crate) fn of_extension(permission: &Permission, offers: &Offers) -> Result<Self, NetworkError> {
        let capability = permission.capability();
        let extension = match capability {
            Capability::Extension(name) => offers.extensions.get(name),
            _ => None,
        };
        match extension {
            Some(extension) => Self::named_by(NamedBy::Operator, extension.endpoint()),
            None => Err(NetworkError::Malformed(format!("`{capability}` is no extension of the operator's"))),
        }
    }

    /// The endpoint of a service that the runtime itself needs, by its URL.
    pub(crate) fn of_service(url: &str) -> Result<Self, NetworkError> {
        let service = Extension::new(url).map_err(|error| NetworkError::Malformed(error.to_string()))?;
        Self::named_by(NamedBy::Operator, service.endpoint())
    }

    fn named_by(named_by: NamedBy, capability: &Capability) -> Result<Self, NetworkError> {
        let wrong = || NetworkError::Malformed(format!("`{capability}` is not for one host and one port"));
        let Capability::Network { protocol, host, port } = capability else { return Err(wrong()) };
        let is_single = matches!(host, Host::Name(_)) || is_one(host);
        match port.number(*protocol) {
            Some(port) if is_single && *protocol != Protocol::Any => {
                Ok(Self { protocol: *protocol, host: host.clone(), port, named_by })
            }
            _ => Err(wrong()),
        }
    }

    /// Whom it is for, for people.
    pub(crate) fn host(&self) -> String {
        self.host.to_string()
    }

    /// Whether connections are encrypted.
    pub(crate) fn is_encrypted(&self) -> bool {
        self.protocol == Protocol::Https
    }

    /// Host and port as URLs and `Host` headers have them (RFC 9110, section 7.2): without a port that goes without saying.
    pub(crate) fn authority(&self) -> String {
        let usual = match self.protocol {
            Protocol::Http => Some(80),
            Protocol::Https => Some(443),
            Protocol::Tcp | Protocol::Udp | Protocol::Any => None,
        };
        if usual == Some(self.port) { self.host.to_string() } else { format!("{}:{}", self.host, self.port) }
    }
}

/// Whether an address is this machine's, which reaches itself by it past every firewall: what is sent there is sent from
/// there. Nothing is sent to find out.
fn is_own(address: IpAddr) -> bool {
    let unspecified: IpAddr =
        if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let from = UdpSocket::bind((unspecified, 0)).and_then(|socket| {
        socket.connect((address, DISCARD_PORT))?;
        socket.local_addr()
    });
    from.is_ok_and(|from| from.ip() == address)
}

/// Whether a network is one address.
fn is_one(host: &Host) -> bool {
    match host {
        Host::Network { address, prefix } => *prefix == if address.is_ipv4() { 32 } else { 128 },
        Host::Any | Host::Name(_) | Host::Suffix(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network() -> Network {
        let network = |text: &str| match format!("network:tcp:{text}").parse() {
            Ok(Capability::Network { host, .. }) => host,
            other => panic!("{other:?}"),
        };
        let config = NetworkConfig {
            hosts: BTreeMap::from([("db.internal".into(), vec![IpAddr::from([10, 0, 0, 5])])]),
            reachable: vec![network("10.1.0.0/16"), network("[fd00:1::/32]")],
            ..NetworkConfig::default()
        };
        Network::new(config).unwrap()
    }

    #[test]
    fn looked_up_names_lead_to_public_addresses_and_to_those_that_the_operator_names() {
        let network = network();
        for (address, open) in [
            ("93.184.216.34", true),
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("fd00:1::5", true),
            ("10.2.0.1", false),
            ("127.0.0.1", false),
            ("0.0.0.0", false),
            ("169.254.169.254", false),
            ("fd00:ec2::254", false),
            ("::ffff:169.254.169.254", false),
            ("64:ff9b::a9fe:a9fe", false),
            ("224.0.0.1", false),
        ] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(network.may_lead_to(address.to_canonical()), open, "{address}");
        }
    }

    #[tokio::test]
    async fn what_the_operator_or_the_capability_names_is_not_looked_up() {
        let network = network();
        let host = |capability: &str| match capability.parse() {
            Ok(Capability::Network { host, .. }) => host,
            other => panic!("{other:?}"),
        };
        let own = network.addresses(&host("network:tcp:db.internal")).await.unwrap();
        assert_eq!(own, [IpAddr::from([10, 0, 0, 5])]);
        let number = network.addresses(&host("network:tcp:[::ffff:127.0.0.1]")).await.unwrap();
        assert_eq!(number, [IpAddr::from([127, 0, 0, 1])]);
        for several in ["network:tcp:*", "network:tcp:*.example.com", "network:tcp:10.0.0.0/8"] {
            let refused = network.addresses(&host(several)).await;
            assert!(matches!(refused, Err(NetworkError::Malformed(_))), "{several}");
        }
    }

    #[test]
    fn an_endpoint_is_one_host_and_one_port() {
        for (capability, authority) in [
            ("network:https:Example.COM.", Some("example.com")),
            ("network:http:example.com:8080", Some("example.com:8080")),
            ("network:https:[2001:db8::1]", Some("[2001:db8::1]")),
            ("network:tcp:10.0.0.1:5432", Some("10.0.0.1:5432")),
            ("network:tcp:example.com", None),
            ("network:*:example.com:443", None),
            ("network:https:*.example.com", None),
            ("network:https:10.0.0.0/8", None),
            ("env:KEY", None),
        ] {
            let endpoint = Endpoint::named_by(NamedBy::Agent, &capability.parse().unwrap()).ok();
            assert_eq!(endpoint.map(|endpoint| endpoint.authority()).as_deref(), authority, "{capability}");
        }
    }
}
