//! The way to a server: its address, how the connection is encrypted, and who calls.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use mentat_manifest::ByteCount;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status};

use super::innermost;
use crate::args::ServerArguments;
use crate::environment;
use crate::files;
use crate::output::Failure;

/// A server that takes longer to accept a connection counts as away.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of a file with an API key at most.
const MAX_KEY_FILE: ByteCount = ByteCount(4 << 10);
/// Bytes of a file with certificates at most; a system's roots are some 200 KB.
const MAX_CERTIFICATE_FILE: ByteCount = ByteCount(4 << 20);

/// A server that answers.
pub(super) struct Connection {
    pub(super) channel: Channel,
    pub(super) credential: Credential,
    pub(super) address: String,
}

/// Adds the API key to each call.
#[derive(Clone)]
pub(super) struct Credential(Option<MetadataValue<Ascii>>);

/// Opens a connection.
///
/// # Errors
/// `UNAVAILABLE` when no server answers; `INVALID_REQUEST` for an address that is none, or a key or certificate
/// that cannot be read.
pub(super) async fn open(arguments: &ServerArguments) -> Result<Connection, Failure> {
    let address = with_scheme(&arguments.server)?;
    let credential = Credential::read(arguments)?;
    let endpoint = Endpoint::from_shared(address.clone()).map_err(|_| {
        Failure::invalid(format!("`{address}` is no server's address; write it as `http://HOST:PORT`"))
    })?;
    let mut endpoint = endpoint.connect_timeout(CONNECT_TIMEOUT).http2_adaptive_window(true);
    if address.starts_with("https://") {
        endpoint = endpoint
            .tls_config(encryption(arguments)?)
            .map_err(|error| Failure::invalid(format!("TLS cannot be set up: {}", innermost(&error))))?;
    } else if arguments.ca.is_some() || arguments.client_cert.is_some() {
        return Err(Failure::invalid(format!(
            "--ca and --client-cert are for encrypted connections, and `{address}` is not; write it as \
             `https://HOST:PORT`"
        )));
    }
    let channel = endpoint.connect().await.map_err(|error| {
        Failure::unavailable(format!(
            "no server answers at `{address}` ({}); start one with `mentat serve`, or name another with \
             --server or MENTAT_SERVER",
            innermost(&error)
        ))
    })?;
    Ok(Connection { channel, credential, address })
}

fn encryption(arguments: &ServerArguments) -> Result<ClientTlsConfig, Failure> {
    let read = |path: &Path, what| files::read(path, what, MAX_CERTIFICATE_FILE);
    let mut tls = match &arguments.ca {
        None => ClientTlsConfig::new().with_native_roots(),
        Some(path) => {
            ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(path, "certificate file")?))
        }
    };
    if let (Some(certificate), Some(key)) = (&arguments.client_cert, &arguments.client_key) {
        let certificate: Bytes = read(certificate, "certificate file")?;
        tls = tls.identity(Identity::from_pem(certificate, read(key, "key file")?));
    }
    Ok(tls)
}

impl Credential {
    /// From the file that was named, or `MENTAT_API_KEY`. The key is never part of a message.
    fn read(arguments: &ServerArguments) -> Result<Self, Failure> {
        let key = match &arguments.api_key_file {
            None => environment::api_key(),
            Some(path) => {
                let bytes = files::read(path, "API key file", MAX_KEY_FILE)?;
                let text = String::from_utf8_lossy(&bytes);
                let line = text.lines().next().unwrap_or_default().trim();
                if line.is_empty() {
                    let message = format!("the first line of API key file `{}` is empty", path.display());
                    return Err(Failure::invalid(message));
                }
                Some(line.to_owned())
            }
        };
        let Some(key) = key else { return Ok(Self(None)) };
        let mut value: MetadataValue<Ascii> = format!("Bearer {key}")
            .parse()
            .map_err(|_| Failure::invalid("the API key has characters that no header can carry"))?;
        value.set_sensitive(true);
        Ok(Self(Some(value)))
    }
}

impl Interceptor for Credential {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

fn with_scheme(address: &str) -> Result<String, Failure> {
    match address.split_once("://") {
        None => Ok(format!("http://{address}")),
        Some(("http" | "https", _)) => Ok(address.to_owned()),
        Some((scheme, _)) => Err(Failure::invalid(format!(
            "`{address}` has the scheme `{scheme}`; write it as `http://HOST:PORT`, or `https://HOST:PORT` where the \
             server has a certificate"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_be_given_without_its_scheme() {
        assert_eq!(with_scheme("127.0.0.1:1").unwrap(), "http://127.0.0.1:1");
        assert_eq!(with_scheme("http://a:1").unwrap(), "http://a:1");
        assert_eq!(with_scheme("https://a:1").unwrap(), "https://a:1");
        assert!(with_scheme("ftp://a:1").is_err());
    }
}
