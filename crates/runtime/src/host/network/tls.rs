//! Encryption towards hosts: their certificates are checked against the system's roots and the operator's own, and must
//! be for the name or the address that was asked for (RFC 9525).

use std::path::Path;
use std::sync::Arc;

use mentat_manifest::Host;
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

use super::error::NetworkError;
use crate::error::Error;

/// An encrypted connection.
pub(crate) type TlsStream = tokio_rustls::client::TlsStream<TcpStream>;

/// How connections are encrypted.
#[derive(Debug)]
pub(super) struct Tls {
    /// The operator's own.
    roots: RootCertStore,
    /// Made at the first encrypted connection: the system's roots take milliseconds to read.
    config: OnceCell<Arc<ClientConfig>>,
}

impl Default for Tls {
    fn default() -> Self {
        Self { roots: RootCertStore::empty(), config: OnceCell::new() }
    }
}

impl Tls {
    /// With the roots of a PEM file beside the system's.
    pub(super) fn new(roots: Option<&Path>) -> Result<Self, Error> {
        let mut own = RootCertStore::empty();
        if let Some(path) = roots {
            let wrong = |why: &dyn std::fmt::Display| Error::InvalidRequest {
                message: format!("`network.roots`: `{}`: {why}", path.display()),
            };
            for certificate in CertificateDer::pem_file_iter(path).map_err(|error| wrong(&error))? {
                let certificate = certificate.map_err(|error| wrong(&error))?;
                own.add(certificate).map_err(|error| wrong(&error))?;
            }
            if own.is_empty() {
                return Err(wrong(&"holds no certificate in PEM form"));
            }
        }
        Ok(Self { roots: own, config: OnceCell::new() })
    }

    /// Agrees on encryption with a host.
    pub(super) async fn encrypt(&self, host: &Host, stream: TcpStream) -> Result<TlsStream, NetworkError> {
        let failed = |error: &dyn std::fmt::Display| NetworkError::Tls {
            host: host.to_string(),
            message: NetworkError::said(&error.to_string()),
        };
        let name = match host {
            Host::Network { address, .. } => ServerName::from(*address),
            Host::Any | Host::Name(_) | Host::Suffix(_) => {
                ServerName::try_from(host.to_string()).map_err(|error| failed(&error))?
            }
        };
        let config =
            self.config.get_or_try_init(|| self.configure()).await.map_err(|error| failed(&error))?;
        let connector = TlsConnector::from(Arc::clone(config));
        connector.connect(name, stream).await.map_err(|error| failed(&error))
    }

    async fn configure(&self) -> Result<Arc<ClientConfig>, String> {
        let mut roots = self.roots.clone();
        let system = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs)
            .await
            .map_err(|error| error.to_string())?;
        for error in &system.errors {
            tracing::warn!(%error, "reading the system's root certificates");
        }
        // Some systems have a root or two that no library takes; the others count.
        roots.add_parsable_certificates(system.certs);
        if roots.is_empty() {
            return Err(
                "this machine has no root certificates; the operator names some by `network.roots`".into()
            );
        }
        let mut config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}
