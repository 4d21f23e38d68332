//! Real servers on loopback: of HTTP, with and without encryption, that tell what they were asked and misbehave by the
//! path; and of names, whose answers change from question to question.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use hickory_resolver::proto::op::{Message, MessageType, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA};
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use http::{HeaderMap, Request, Response};
use http_body_util::channel::Channel;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UdpSocket};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, crypto};
use wasmtime_wasi_http::io::TokioIo;

/// A server of HTTP; it ends with the test's runtime.
pub struct HttpServer {
    pub port: u16,
    pub connections: Arc<AtomicUsize>,
    /// What it was asked, as text.
    pub requests: Arc<Mutex<Vec<String>>>,
}

type Answer = Response<BoxBody<Bytes, Infallible>>;

impl HttpServer {
    /// Without encryption, at every IPv4 address of this machine.
    pub async fn start() -> Self {
        Self::serve(None).await
    }

    /// With a certificate for these names; answers the file of its root as well.
    pub async fn start_encrypted(names: &[&str], folder: &std::path::Path) -> (Self, PathBuf) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
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
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(AtomicUsize::new(0));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let server = Self { port, connections: Arc::clone(&connections), requests: Arc::clone(&requests) };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                let (tls, requests) = (tls.clone(), Arc::clone(&requests));
                let local = stream.local_addr().unwrap();
                tokio::spawn(async move {
                    match tls {
                        None => connection(stream, local, requests).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                connection(stream, local, requests).await;
                            }
                        }
                    }
                });
            }
        });
        server
    }

    pub fn count(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub fn last_request(&self) -> String {
        self.requests.lock().unwrap().last().cloned().unwrap_or_default()
    }
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    local: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
) {
    let service = service_fn(move |request| answer(request, local, Arc::clone(&requests)));
    // A guest that goes away is what some of the tests are about.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

fn full(bytes: impl Into<Bytes>) -> BoxBody<Bytes, Infallible> {
    Full::new(bytes.into()).boxed()
}

async fn answer(
    request: Request<Incoming>,
    local: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
) -> Result<Answer, Infallible> {
    let (head, body) = request.into_parts();
    let path = head.uri.to_string();
    if path == "/early" {
        return Ok(Response::builder().status(413).body(full("too much")).unwrap());
    }
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let headers = tell(&head.headers);
    let told = format!("{} {path}\n{headers}\n{}", head.method, String::from_utf8_lossy(&body));
    requests.lock().unwrap().push(told.clone());
    let response = Response::builder();
    Ok(match path.split('?').next().unwrap_or_default() {
        "/told" => response.body(full(told)),
        "/body" => response
            .header("x-said", head.headers.get("authorization").cloned().unwrap_or("none".parse().unwrap()))
            .body(full(body)),
        "/local" => response.body(full(local.ip().to_string())),
        "/redirect" => {
            response.status(302).header("location", "http://169.254.169.254/latest").body(full(""))
        }
        "/large" => response.body(full(vec![b'x'; path.split('=').nth(1).unwrap().parse().unwrap()])),
        "/headers" => {
            let mut response = response;
            for number in 0..1000 {
                response = response.header(format!("x-{number}"), "y".repeat(100));
            }
            response.body(full(""))
        }
        "/gzip" => response.header("content-encoding", "gzip").body(full(body)),
        "/bytes" => response.body(full(vec![0xff, 0xfe])),
        "/slow" => {
            tokio::time::sleep(Duration::from_secs(20)).await;
            response.body(full("late"))
        }
        // The beginning, and then nothing.
        "/stall" | "/pieces" => {
            let (mut sender, body) = Channel::new(1);
            let stalls = path == "/stall";
            tokio::spawn(async move {
                for piece in ["one ", "two ", "three"] {
                    if sender.send_data(Bytes::from(piece)).await.is_err() {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                if stalls {
                    tokio::time::sleep(Duration::from_secs(20)).await;
                }
            });
            response.body(body.boxed())
        }
        other => response.status(404).body(full(format!("nothing at {other}"))),
    }
    .unwrap())
}

fn tell(headers: &HeaderMap) -> String {
    let mut told: Vec<String> =
        headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap_or("?"))).collect();
    told.sort();
    told.join("\n")
}

/// A server of names: each has a list of answers, of which each question takes the next, and the last for ever.
pub async fn start_names(answers: &[(&str, &[&[&str]])]) -> SocketAddr {
    let parse = |addresses: &&[&str]| -> Vec<IpAddr> {
        addresses.iter().map(|address| address.parse().unwrap()).collect()
    };
    let table: HashMap<String, Vec<Vec<IpAddr>>> = answers
        .iter()
        .map(|(name, answers)| (format!("{name}."), answers.iter().map(parse).collect()))
        .collect();
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut asked: HashMap<String, usize> = HashMap::new();
        let mut buffer = [0; 1500];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let question = Message::from_vec(&buffer[..length]).unwrap();
            let mut reply = Message::response(question.metadata.id, question.metadata.op_code);
            let query = question.queries[0].clone();
            let name = query.name().to_lowercase().to_string();
            match table.get(&name) {
                None => reply.metadata.response_code = ResponseCode::NXDomain,
                Some(answers) => {
                    let turn = asked.entry(name).or_default();
                    let addresses = &answers[(*turn).min(answers.len() - 1)];
                    // A and AAAA are asked for together; the answer changes with the first of them.
                    if query.query_type() == RecordType::A {
                        *turn += 1;
                    }
                    for address in addresses {
                        let data = match (address, query.query_type()) {
                            (IpAddr::V4(v4), RecordType::A) => RData::A(A(*v4)),
                            (IpAddr::V6(v6), RecordType::AAAA) => RData::AAAA(AAAA(*v6)),
                            _ => continue,
                        };
                        reply.add_answer(Record::from_rdata(query.name().clone(), 0, data));
                    }
                }
            }
            reply.metadata.message_type = MessageType::Response;
            reply.add_query(query);
            socket.send_to(&reply.to_vec().unwrap(), from).await.unwrap();
        }
    });
    address
}
