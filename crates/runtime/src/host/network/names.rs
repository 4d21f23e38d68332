//! What names mean: asked of the system's name servers, or of those that the operator names. Names are taken as complete;
//! the system's search list would make another name of the one that was decided on.

use std::net::{IpAddr, SocketAddr};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use parking_lot::Mutex;

use super::error::NetworkError;

/// Where names are looked up.
#[derive(Debug, Default)]
pub(super) struct Names {
    servers: Vec<SocketAddr>,
    /// Made when the first name is looked up: many processes never do.
    resolver: Mutex<Option<TokioResolver>>,
}

impl Names {
    /// At these servers, or at the system's where there are none.
    pub(super) fn new(servers: Vec<SocketAddr>) -> Self {
        Self { servers, resolver: Mutex::default() }
    }

    /// The addresses of a name, IPv4-mapped ones as the IPv4 that they are.
    pub(super) async fn look_up(&self, name: &str) -> Result<Vec<IpAddr>, NetworkError> {
        let failed = |error: &dyn std::fmt::Display| NetworkError::LookUp {
            name: name.to_owned(),
            message: NetworkError::said(&error.to_string()),
        };
        let resolver = self.resolver().map_err(|error| failed(&error))?;
        match resolver.lookup_ip(format!("{name}.")).await {
            Ok(found) => Ok(found.iter().map(|address| address.to_canonical()).collect()),
            Err(error) if error.is_no_records_found() => Err(NetworkError::NoSuchName(name.to_owned())),
            Err(error) => Err(failed(&error)),
        }
    }

    fn resolver(&self) -> Result<TokioResolver, NetError> {
        let mut resolver = self.resolver.lock();
        if let Some(resolver) = &*resolver {
            return Ok(resolver.clone());
        }
        let builder = if self.servers.is_empty() {
            TokioResolver::builder_tokio()?
        } else {
            let servers = self.servers.iter().map(name_server).collect();
            let config = ResolverConfig::from_parts(None, Vec::new(), servers);
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        };
        Ok(resolver.insert(builder.build()?).clone())
    }
}

fn name_server(address: &SocketAddr) -> NameServerConfig {
    let at_port = |mut connection: ConnectionConfig| {
        connection.port = address.port();
        connection
    };
    let connections = vec![at_port(ConnectionConfig::udp()), at_port(ConnectionConfig::tcp())];
    NameServerConfig::new(address.ip(), true, connections)
}
