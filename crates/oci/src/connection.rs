//! Connections to registries and what they send to: looked up, checked, encrypted, one for each request. What comes back is
//! read a piece at a time, within a bound and against a clock.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, HeaderMap};
use http::{Request, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use mentat_manifest::{Digest, escape_untrusted};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};
use url::{Host, Url};

use crate::client::Patience;
use crate::error::OciError;
use crate::rules::{self, Elsewhere};

/// Bytes of an answer's status line and headers at most.
const MAX_HEAD_BYTES: usize = 64 << 10;
/// Headers of an answer at most.
const MAX_HEADERS: usize = 100;
/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 4;
/// Bytes that are handed to a connection at a time, between which it is known how far it is.
const PIECE_BYTES: usize = 64 << 10;
/// Characters of somebody else's words that are passed on.
const MAX_SAID: usize = 200;

/// Makes connections.
#[derive(Debug)]
pub(crate) struct Connector {
    /// The operator's own roots.
    roots: RootCertStore,
    /// Made at the first encrypted connection: the system's roots take milliseconds to read.
    tls: OnceCell<Arc<ClientConfig>>,
    patience: Patience,
}

/// A connection that nothing has been asked on.
pub(crate) struct Connection {
    sender: http1::SendRequest<Content>,
    /// Keeps it going, and ends with it.
    driver: JoinSet<()>,
    silence: Duration,
    host: String,
}

/// Is told how many bytes were handed to a connection just now.
pub(crate) type OnSent = Arc<dyn Fn(u64) + Send + Sync>;

/// What is sent with a request, and how much of it has been.
pub(crate) struct Content {
    rest: Bytes,
    sent: Arc<AtomicU64>,
    on_sent: Option<OnSent>,
}

/// The answer to a request, of which the head has come.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    body: Incoming,
    silence: Duration,
    host: String,
    _driver: JoinSet<()>,
}

/// How much there may be of an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Size {
    /// No more than this.
    AtMost(u64),
    /// This, as was said before.
    Exactly(u64),
}

impl Connector {
    /// With the roots of a PEM file beside the system's.
    pub(crate) fn new(roots: Option<&Path>, patience: Patience) -> Result<Self, OciError> {
        let mut own = RootCertStore::empty();
        if let Some(path) = roots {
            let wrong = |why: &dyn std::fmt::Display| {
                OciError::Local(format!("roots for registries, `{}`: {why}", path.display()))
            };
            for certificate in CertificateDer::pem_file_iter(path).map_err(|error| wrong(&error))? {
                let certificate = certificate.map_err(|error| wrong(&error))?;
                own.add(certificate).map_err(|error| wrong(&error))?;
            }
            if own.is_empty() {
                return Err(wrong(&"holds no certificate in PEM form"));
            }
        }
        Ok(Self { roots: own, tls: OnceCell::new(), patience })
    }

    /// Connects to the host of a URL, at an address that may be connected to by what is there.
    ///
    /// # Errors
    /// `Unavailable` where nothing answers, `Untrusted` for a certificate or an address that is not to be believed.
    pub(crate) async fn connect(&self, url: &Url, elsewhere: Elsewhere) -> Result<Connection, OciError> {
        let host = rules::name(url);
        let late =
            |_| OciError::Unavailable(format!("{host} did not answer within {:?}", self.patience.connect));
        timeout(self.patience.connect, self.open(url, elsewhere, &host)).await.map_err(late)?
    }

    async fn open(&self, url: &Url, elsewhere: Elsewhere, host: &str) -> Result<Connection, OciError> {
        let stream = self.reach(url, elsewhere, host).await?;
        // Requests are written whole.
        let _ = stream.set_nodelay(true);
        if url.scheme() != "https" {
            return self.shake_hands(stream, host).await;
        }
        let untrusted = |error: &dyn std::fmt::Display| {
            let said = escape_untrusted(&error.to_string(), MAX_SAID);
            OciError::Untrusted(format!(
                "no encrypted connection with {host}: {said}; its roots can be given (`oci.roots`, `--registry-ca`), and a registry \
                 without encryption be named as such (`oci.insecure`, `--plain-http`)"
            ))
        };
        let name = match url.host() {
            Some(Host::Ipv4(address)) => ServerName::from(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => ServerName::from(IpAddr::V6(address)),
            Some(Host::Domain(name)) => {
                ServerName::try_from(name.to_owned()).map_err(|error| untrusted(&error))?
            }
            None => return Err(untrusted(&"it has no host")),
        };
        let config = self.tls.get_or_try_init(|| self.configure()).await?;
        let stream = TlsConnector::from(Arc::clone(config)).connect(name, stream).await;
        self.shake_hands(stream.map_err(|error| untrusted(&error))?, host).await
    }

    async fn shake_hands(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        host: &str,
    ) -> Result<Connection, OciError> {
        let shaken = http1::Builder::new()
            .max_buf_size(MAX_HEAD_BYTES)
            .max_headers(MAX_HEADERS)
            .handshake(TokioIo::new(stream))
            .await;
        let (sender, connection) = shaken.map_err(|error| broken(host, &error))?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // What broke it is told by the request or by the body that waits for it.
            let _ = connection.await;
        });
        Ok(Connection { sender, driver, silence: self.patience.silence, host: host.to_owned() })
    }

    async fn configure(&self) -> Result<Arc<ClientConfig>, OciError> {
        let local = |error: &dyn std::fmt::Display| OciError::Local(format!("preparing encryption: {error}"));
        let mut roots = self.roots.clone();
        let system = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs);
        let system = system.await.map_err(|error| local(&error))?;
        for error in &system.errors {
            tracing::warn!(%error, "reading the system's root certificates");
        }
        roots.add_parsable_certificates(system.certs);
        if roots.is_empty() {
            return Err(local(
                &"this machine has no root certificates, and none were given (`oci.roots`, `--registry-ca`)",
            ));
        }
        let mut config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| local(&error))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// Connects to the first of a host's addresses that answers. The address that is checked is the one that is connected to.
    async fn reach(&self, url: &Url, elsewhere: Elsewhere, host: &str) -> Result<TcpStream, OciError> {
        let port = url.port_or_known_default().unwrap_or(443);
        let addresses: Vec<SocketAddr> = match url.host() {
            Some(Host::Ipv4(address)) => vec![(address, port).into()],
            Some(Host::Ipv6(address)) => vec![(address, port).into()],
            Some(Host::Domain(name)) => {
                let found = tokio::net::lookup_host((name, port)).await;
                let found =
                    found.map_err(|error| OciError::Unavailable(format!("{host} was not found: {error}")))?;
                found.take(MAX_ADDRESSES).collect()
            }
            None => Vec::new(),
        };
        // So that one that is silent leaves time for the next.
        let each = self.patience.connect / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
        let mut failed = OciError::Unavailable(format!("{host} has no address"));
        for address in addresses {
            if !rules::may_connect(elsewhere, address.ip()) {
                failed = OciError::Untrusted(format!(
                    "the registry sends on to {host}, whose address {} is not a public one; if that is its store, name it \
                     (`oci.hosts`, `--registry-host`)",
                    address.ip()
                ));
                continue;
            }
            failed = match timeout(each, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => OciError::Unavailable(format!("{host} cannot be reached: {error}")),
                Err(_) => OciError::Unavailable(format!("{host} did not answer within {each:?}")),
            };
        }
        Err(failed)
    }
}

impl Connection {
    /// Sends a request, and waits for the head of its answer: for as long as some of the request is taken, and then for as
    /// long as silence is borne.
    pub(crate) async fn ask(mut self, request: Request<Content>) -> Result<Answer, OciError> {
        let sent = Arc::clone(&request.body().sent);
        let mut asking = std::pin::pin!(self.sender.send_request(request));
        let response = loop {
            let before = sent.load(Ordering::Relaxed);
            match timeout(self.silence, &mut asking).await {
                Ok(response) => break response.map_err(|error| broken(&self.host, &error))?,
                Err(_) if sent.load(Ordering::Relaxed) != before => {}
                Err(_) => return Err(silent(&self.host, self.silence)),
            }
        };
        let (head, body) = response.into_parts();
        let Self { driver, silence, host, .. } = self;
        Ok(Answer { status: head.status, headers: head.headers, body, silence, host, _driver: driver })
    }
}

impl Answer {
    /// A header's text, where it has one that is text.
    pub(crate) fn header(&self, name: impl http::header::AsHeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Reads all of it, and its digest on the way; `on_read` is told how much each piece has.
    ///
    /// # Errors
    /// `Untrusted` for what is more or less than it should be, before more is kept; `Unavailable` for what breaks off.
    pub(crate) async fn read(
        mut self,
        what: &str,
        size: Size,
        mut on_read: impl FnMut(u64),
    ) -> Result<(Bytes, Digest), OciError> {
        let untrusted = |why: String| OciError::Untrusted(format!("{what}, from {}, {why}", self.host));
        let limit = match size {
            Size::AtMost(limit) | Size::Exactly(limit) => limit,
        };
        if let Some(encoding) = self.headers.get(CONTENT_ENCODING)
            && encoding != "identity"
        {
            return Err(untrusted("is compressed, which was not asked for".to_owned()));
        }
        if let Some(said) = self.body.size_hint().exact() {
            match size {
                Size::AtMost(limit) if said > limit => {
                    return Err(untrusted(format!("is said to have {said} bytes; the limit is {limit}")));
                }
                Size::Exactly(expected) if said != expected => {
                    return Err(untrusted(format!(
                        "is said to have {said} bytes, and was to have {expected}"
                    )));
                }
                Size::AtMost(_) | Size::Exactly(_) => {}
            }
        }
        let (mut bytes, mut read) = (BytesMut::new(), Sha256::new());
        loop {
            let frame = timeout(self.silence, self.body.frame()).await;
            let frame = frame.map_err(|_| silent(&self.host, self.silence))?;
            let Some(frame) = frame else { break };
            let Ok(piece) = frame.map_err(|error| broken(&self.host, &error))?.into_data() else { continue };
            if (bytes.len() as u64).saturating_add(piece.len() as u64) > limit {
                return Err(untrusted(format!("has more than the {limit} bytes that it may have")));
            }
            read.update(&piece);
            bytes.extend_from_slice(&piece);
            on_read(piece.len() as u64);
        }
        if let Size::Exactly(expected) = size
            && bytes.len() as u64 != expected
        {
            return Err(untrusted(format!("ends after {} of {expected} bytes", bytes.len())));
        }
        Ok((bytes.freeze(), Digest::finish(read)))
    }
}

impl Content {
    pub(crate) fn new(bytes: Bytes, on_sent: Option<OnSent>) -> Self {
        Self { rest: bytes, sent: Arc::default(), on_sent }
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let length = self.rest.len().min(PIECE_BYTES);
        let piece = self.rest.split_to(length);
        self.sent.fetch_add(length as u64, Ordering::Relaxed);
        if let Some(on_sent) = &self.on_sent {
            on_sent(length as u64);
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

fn silent(host: &str, silence: Duration) -> OciError {
    OciError::Unavailable(format!("{host} was silent for {silence:?}"))
}

fn broken(host: &str, error: &hyper::Error) -> OciError {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    let said = escape_untrusted(&format!("{error}{cause}"), MAX_SAID);
    let text = format!("the exchange with {host} broke off: {said}");
    if error.is_parse() { OciError::Untrusted(text) } else { OciError::Unavailable(text) }
}
