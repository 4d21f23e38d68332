//! A real service of S3 on loopback, which nobody here wrote (`s3s` with its file system), and which can be told to
//! misbehave in front of it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH};
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use mentat_runtime::{BucketConfig, BucketCredentials};
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, crypto};
use wasmtime_wasi_http::io::TokioIo;

/// Who may ask.
const KEY: (&str, &str) = ("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
/// The bucket that is there.
pub const BUCKET: &str = "studio";

/// What becomes of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// No answer ever.
    Stall,
    /// The beginning of the body of what is read, and nothing more ever.
    StallWithin,
    /// An answer of this kind, so many times.
    Status(StatusCode, usize),
    /// The connection is cut in the middle of the body of what is read.
    CutOff,
    /// A bit is another one.
    Flip,
    /// The connection is closed without an answer, once.
    HangUp,
}

/// The service.
pub struct S3 {
    pub folder: tempfile::TempDir,
    address: SocketAddr,
    origin: &'static str,
    pub fault: Arc<Mutex<Fault>>,
    pub requests: Arc<AtomicUsize>,
    pub connections: Arc<AtomicUsize>,
}

type Body = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;
type Answer = Result<Response<Body>, Box<dyn std::error::Error + Send + Sync>>;

impl S3 {
    pub async fn start() -> Self {
        Self::serve(None).await
    }

    /// With a certificate for `localhost`; answers the file of its root as well.
    pub async fn start_encrypted(folder: &Path) -> (Self, PathBuf) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let roots = folder.join("roots.pem");
        std::fs::write(&roots, made.cert.pem()).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![CertificateDer::from(made.cert.der().to_vec())], key)
            .unwrap();
        (Self::serve(Some(TlsAcceptor::from(Arc::new(config)))).await, roots)
    }

    async fn serve(tls: Option<TlsAcceptor>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(BUCKET)).unwrap();
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(folder.path()).unwrap());
        builder.set_auth(SimpleAuth::from_single(KEY.0, KEY.1));
        let service = builder.build();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let fault = Arc::new(Mutex::new(Fault::None));
        let (requests, connections) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let started = Self {
            folder,
            address,
            origin: if tls.is_some() { "https://LocalHost" } else { "http://127.0.0.1" },
            fault: Arc::clone(&fault),
            requests: Arc::clone(&requests),
            connections: Arc::clone(&connections),
        };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                let (service, fault, requests) = (service.clone(), Arc::clone(&fault), Arc::clone(&requests));
                let tls = tls.clone();
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, service, fault, requests).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, service, fault, requests).await;
                            }
                        }
                    }
                });
            }
        });
        started
    }

    pub fn misbehave(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
    }

    /// The bucket, for those who know the key.
    pub fn bucket(&self) -> BucketConfig {
        BucketConfig {
            name: BUCKET.into(),
            endpoint: format!("{}:{}", self.origin, self.address.port()),
            region: "us-east-1".into(),
            prefix: "mentat/".into(),
            credentials: Some(BucketCredentials {
                access_key_id: KEY.0.into(),
                secret_access_key: KEY.1.into(),
                session_token: None,
            }),
        }
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    service: S3Service,
    fault: Arc<Mutex<Fault>>,
    requests: Arc<AtomicUsize>,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        requests.fetch_add(1, Ordering::SeqCst);
        answer(request, service.clone(), Arc::clone(&fault))
    });
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(request: Request<Incoming>, service: S3Service, fault: Arc<Mutex<Fault>>) -> Answer {
    let now = *fault.lock().unwrap();
    let reads = request.method() == Method::GET && request.headers().contains_key(AUTHORIZATION);
    match now {
        Fault::Stall => std::future::pending().await,
        Fault::Status(status, times) if times > 0 => {
            *fault.lock().unwrap() = Fault::Status(status, times - 1);
            let body = Full::new(Bytes::from_static(b"<Error><Code>InternalError</Code></Error>"));
            let mut answer = Response::new(body.map_err(|never| match never {}).boxed_unsync());
            *answer.status_mut() = status;
            return Ok(answer);
        }
        Fault::HangUp => {
            *fault.lock().unwrap() = Fault::None;
            return Err("hung up".into());
        }
        _ => {}
    }
    let answer = service.call(request.map(s3s::Body::from)).await.map_err(|error| format!("{error:?}"))?;
    let (head, body) = answer.into_parts();
    if !reads || !matches!(now, Fault::StallWithin | Fault::CutOff | Fault::Flip) {
        return Ok(Response::from_parts(head, body.map_err(|error| error.to_string().into()).boxed_unsync()));
    }
    let mut content = body.collect().await.map_err(|error| error.to_string())?.to_bytes().to_vec();
    assert!(head.headers.contains_key(CONTENT_LENGTH));
    if now == Fault::Flip {
        if let Some(first) = content.first_mut() {
            *first ^= 1;
        }
        let body = Full::new(Bytes::from(content)).map_err(|never| match never {}).boxed_unsync();
        return Ok(Response::from_parts(head, body));
    }
    content.truncate(content.len() / 2);
    let first = futures::stream::iter([Ok(Frame::data(Bytes::from(content)))]);
    let body = if now == Fault::CutOff {
        let cut = futures::stream::iter([Err("cut off".into())]);
        StreamBody::new(futures::StreamExt::chain(first, cut)).boxed_unsync()
    } else {
        StreamBody::new(futures::StreamExt::chain(first, futures::stream::pending())).boxed_unsync()
    };
    Ok(Response::from_parts(head, body))
}
