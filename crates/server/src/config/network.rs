//! How agents reach the network: the section of the configuration, and what the runtime makes of it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use mentat_manifest::{ByteCount, Capability, Host};
use mentat_runtime::NetworkConfig;
use serde::{Deserialize, Serialize};

use super::ConfigError;

/// How agents reach the network, and how much of it one execution may use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkSection {
    /// Connections of one execution at one time.
    pub connections: u32,
    /// Milliseconds until a connection stands.
    pub connect_timeout_ms: u64,
    /// Milliseconds that a host may keep an agent waiting.
    pub response_timeout_ms: u64,
    /// Bytes of one request's body.
    pub request_bytes: ByteCount,
    /// Bytes of one response's body.
    pub response_bytes: ByteCount,
    /// Servers that names are looked up at; the system's where empty.
    pub nameservers: Vec<SocketAddr>,
    /// Names that mean these addresses, whatever they are.
    pub hosts: Vec<HostConfig>,
    /// Networks that looked-up names may lead to though they are not public.
    pub reachable: Vec<String>,
    /// A PEM file of roots beside the system's; empty for none.
    pub roots: PathBuf,
}

/// A name, and the addresses that it means.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostConfig {
    /// The name.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

impl Default for NetworkSection {
    fn default() -> Self {
        let NetworkConfig {
            connections,
            connect_timeout,
            response_timeout,
            request_bytes,
            response_bytes,
            ..
        } = NetworkConfig::default();
        Self {
            connections,
            connect_timeout_ms: super::sections::milliseconds(connect_timeout),
            response_timeout_ms: super::sections::milliseconds(response_timeout),
            request_bytes,
            response_bytes,
            nameservers: Vec::new(),
            hosts: Vec::new(),
            reachable: Vec::new(),
            roots: PathBuf::new(),
        }
    }
}

impl NetworkSection {
    /// What the runtime is to know.
    ///
    /// # Errors
    /// For a name that is none, a name twice or without addresses, and a network that is none.
    pub(super) fn read(&self) -> Result<NetworkConfig, ConfigError> {
        let mut hosts = BTreeMap::new();
        for HostConfig { name, addresses } in &self.hosts {
            let wrong = |what: &str| ConfigError(format!("`network.hosts`: {what}"));
            let Host::Name(known) = host(name).map_err(|error| wrong(&error))? else {
                return Err(wrong(&format!("`{name}` is no name of a host")));
            };
            if addresses.is_empty() {
                return Err(wrong(&format!("`{known}` has no addresses")));
            }
            let addresses = addresses.iter().map(IpAddr::to_canonical).collect();
            if hosts.insert(known, addresses).is_some() {
                return Err(wrong(&format!("`{name}` is given twice")));
            }
        }
        let network = |text: &String| match host(text) {
            Ok(host @ Host::Network { .. }) => Ok(host),
            Ok(_) => Err(format!("`{text}` is no network of addresses, such as `10.1.0.0/16`")),
            Err(error) => Err(error),
        };
        let reachable = self.reachable.iter().map(network).collect::<Result<_, String>>();
        Ok(NetworkConfig {
            connections: self.connections,
            connect_timeout: Duration::from_millis(self.connect_timeout_ms),
            response_timeout: Duration::from_millis(self.response_timeout_ms),
            request_bytes: self.request_bytes,
            response_bytes: self.response_bytes,
            nameservers: self.nameservers.clone(),
            hosts,
            reachable: reachable.map_err(|error| ConfigError(format!("`network.reachable`: {error}")))?,
            roots: (!self.roots.as_os_str().is_empty()).then(|| self.roots.clone()),
        })
    }
}

/// Reads a host as capabilities write it.
fn host(text: &str) -> Result<Host, String> {
    // Addresses of IPv6 stand in brackets there.
    let bracketed = if text.contains(':') { format!("[{text}]") } else { text.to_owned() };
    match format!("network:tcp:{bracketed}").parse() {
        Ok(Capability::Network { host, .. }) => Ok(host),
        Ok(_) => Err(format!("`{text}` is no host")),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(text: &str) -> Result<NetworkConfig, String> {
        toml::from_str::<NetworkSection>(text).unwrap().read().map_err(|error| error.to_string())
    }

    #[test]
    fn hosts_and_networks_are_read_as_capabilities_write_them() {
        let read = section(
            "hosts = [{ name = \"DB.Internal.\", addresses = [\"10.0.0.5\", \"::ffff:10.0.0.6\"] }]\n\
             reachable = [\"10.1.0.0/16\", \"fd00:1::/32\", \"192.168.1.7\"]\n",
        )
        .unwrap();
        let addresses = [IpAddr::from([10, 0, 0, 5]), IpAddr::from([10, 0, 0, 6])];
        assert_eq!(read.hosts["db.internal"], addresses);
        let reachable: Vec<String> = read.reachable.iter().map(ToString::to_string).collect();
        assert_eq!(reachable, ["10.1.0.0/16", "[fd00:1::/32]", "192.168.1.7"]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, says) in [
            ("hosts = [{ name = \"10.0.0.1\", addresses = [] }]", "no name of a host"),
            ("hosts = [{ name = \"a_b\", addresses = [] }]", "neither a name nor an address"),
            ("hosts = [{ name = \"a.b\", addresses = [] }]", "`a.b` has no addresses"),
            ("reachable = [\"example.com\"]", "no network of addresses"),
            ("reachable = [\"10.0.0.0/33\"]", "prefix length"),
        ] {
            let error = section(text).unwrap_err();
            assert!(error.contains(says), "{says} is not in {error}");
        }
    }
}
