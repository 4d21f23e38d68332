//! Encryption of the doors, and who a client's certificate says it is. Certificates and keys are read once, at start.

use std::path::Path;
use std::sync::Arc;

use mentat_runtime::error::Error;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, ServerConnection};

use super::Protocol;
use crate::config::TlsConfig;

/// A client whose certificate was checked against the operator's roots, known by the certificate's subject
/// alternative names.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    names: Arc<[String]>,
}

impl Peer {
    /// The client at the other end, where it showed a certificate.
    pub(super) fn of(connection: &ServerConnection) -> Option<Self> {
        let certificate = connection.peer_certificates()?.first()?;
        let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
        let names = certificate.valid_dns_names().chain(certificate.valid_uri_names());
        Some(Self { names: names.map(str::to_owned).collect() })
    }

    /// Whether the certificate has this name.
    pub(crate) fn has_name(&self, name: &str) -> bool {
        // The case of a host's name says nothing (RFC 4343); that of a URI's path does (RFC 3986).
        self.names
            .iter()
            .any(|known| known == name || (!known.contains(':') && known.eq_ignore_ascii_case(name)))
    }

    #[cfg(test)]
    pub(crate) fn with_names(names: &[&str]) -> Self {
        Self { names: names.iter().map(|name| (*name).to_owned()).collect() }
    }
}

/// What encrypts a door's connections; `None` where no certificate is configured.
///
/// # Errors
/// `INVALID_REQUEST` that names the key and the file.
pub(crate) fn acceptor(config: &TlsConfig, protocol: Protocol) -> Result<Option<TlsAcceptor>, Error> {
    if !config.is_given() {
        return Ok(None);
    }
    let chain = certificates("tls.certificate", &config.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&config.key)
        .map_err(|error| wrong("tls.key", &config.key, &error.to_string()))?;
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::internal("choosing the versions of TLS", error))?;
    let builder = if config.client_ca.as_os_str().is_empty() {
        builder.with_no_client_auth()
    } else {
        let mut roots = RootCertStore::empty();
        for root in certificates("tls.client_ca", &config.client_ca)? {
            roots.add(root).map_err(|error| wrong("tls.client_ca", &config.client_ca, &error.to_string()))?;
        }
        // Who shows none gets a refusal that says so, from behind the door; health checks need none.
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .allow_unauthenticated()
            .build()
            .map_err(|error| wrong("tls.client_ca", &config.client_ca, &error.to_string()))?;
        builder.with_client_cert_verifier(verifier)
    };
    let mut server = builder
        .with_single_cert(chain, key)
        .map_err(|error| wrong("tls.certificate", &config.certificate, &error.to_string()))?;
    server.alpn_protocols = match protocol {
        Protocol::Http2 => vec![b"h2".to_vec()],
        Protocol::Any => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
    };
    Ok(Some(TlsAcceptor::from(Arc::new(server))))
}

fn certificates(key: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(certificates) if certificates.is_empty() => Err(wrong(key, path, "there is no certificate in it")),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(wrong(key, path, &error.to_string())),
    }
}

fn wrong(key: &str, path: &Path, problem: &str) -> Error {
    Error::InvalidRequest {
        message: format!("`{key}`: `{}` cannot be used: {problem}; give a PEM file", path.display()),
    }
}
