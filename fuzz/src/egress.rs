//! The proxy by which containers reach the network: whatever an agent writes to it, its answers are answers of HTTP, and what
//! goes through a tunnel that is for HTTPS alone begins an encrypted connection.

use std::io::Read;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use mentat_manifest::LimitsRequest;
use mentat_runtime::StandardStreams;
use mentat_runtime::security::policy::{Grant, Rules, UserPowers};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::abi::runtime;

/// Bytes that are looked at; more says nothing new.
const MAX_INPUT_BYTES: usize = 80 << 10;
/// No host that is reached takes its time.
const PATIENCE: Duration = Duration::from_secs(30);
/// The first byte of an encrypted connection: a record of its handshake (RFC 8446, section 5.1).
const HANDSHAKE: u8 = 22;

/// What is made once in a process.
struct Bench {
    executor: tokio::runtime::Runtime,
    grant: Grant,
    port: u16,
    /// What the only host that may be reached has read, by connection.
    reached: Mutex<Receiver<Vec<u8>>>,
}

/// Lets an agent write the bytes to its proxy: as they are, or, where the first is odd, through a tunnel.
///
/// # Panics
/// When something is answered or reached that must not be.
pub fn run(bytes: &[u8]) {
    static BENCH: OnceLock<Bench> = OnceLock::new();
    let bench = BENCH.get_or_init(Bench::new);
    let bytes = bytes.get(..MAX_INPUT_BYTES).unwrap_or(bytes);
    let mut written = Vec::new();
    if bytes.first().is_some_and(|first| first % 2 == 1) {
        let port = bench.port;
        written.extend_from_slice(format!("CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\n").as_bytes());
        written.extend_from_slice(bytes.get(1..).unwrap_or_default());
    } else {
        written.extend_from_slice(bytes);
    }
    let streams = StandardStreams::new(&bench.grant, None);
    let egress = runtime().egress(&bench.grant, &streams);
    let answer = bench.executor.block_on(async {
        let (agent, proxy) = tokio::io::duplex(64 << 10);
        let (mut reading, mut writing) = tokio::io::split(agent);
        let speaking = async move {
            // The proxy may be done with it before.
            let _ = writing.write_all(&written).await;
            let _ = writing.shutdown().await;
        };
        let listening = async {
            let mut answer = Vec::new();
            let _ = reading.read_to_end(&mut answer).await;
            answer
        };
        let all = async { tokio::join!(egress.serve(proxy), speaking, listening).2 };
        tokio::time::timeout(PATIENCE, all).await.expect("a connection that ends")
    });
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."), "no answer of HTTP: {answer:?}");
    for line in streams.finish(true).logs {
        super::check_text(&line.message, 64 << 10);
    }
    let reached = bench.reached.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    for read in reached.try_iter() {
        assert!(
            read.first().is_none_or(|first| *first == HANDSHAKE),
            "went through a tunnel for HTTPS: {read:?}"
        );
    }
}

impl Bench {
    fn new() -> Self {
        let executor = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("its number").port();
        let (sender, reached) = channel();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let mut read = Vec::new();
                let _ = stream.read_to_end(&mut read);
                if sender.send(read).is_err() {
                    return;
                }
            }
        });
        let allow = [format!("network:https:127.0.0.1:{port}").parse().expect("a capability")];
        let powers = UserPowers { allow: allow.into(), ..UserPowers::default() };
        let grant = Rules::default().decide_for_user(None, &LimitsRequest::default(), powers);
        let (executor, grant) =
            (executor.expect("an executor"), grant.expect("the limits are under the ceiling"));
        Self { executor, grant, port, reached: Mutex::new(reached) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The beginning of an encrypted connection that names no host, as `openssl s_client` writes it to an address; cut down to
    /// one cipher (RFC 8446, section 4.1.2).
    fn hello() -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend([0, 0, 2, 0x13, 1, 1, 0]);
        let extensions = [
            // supported_versions, signature_algorithms, supported_groups, key_share.
            &[0, 43, 0, 3, 2, 3, 4][..],
            &[0, 13, 0, 4, 0, 2, 4, 3],
            &[0, 10, 0, 4, 0, 2, 0, 29],
            &[0, 51, 0, 38, 0, 36, 0, 29, 0, 32],
            &[9; 32],
        ]
        .concat();
        body.extend(u16::try_from(extensions.len()).unwrap().to_be_bytes());
        body.extend(extensions);
        let mut message = vec![1, 0];
        message.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
        message.extend(body);
        let mut record = vec![HANDSHAKE, 3, 1];
        record.extend(u16::try_from(message.len()).unwrap().to_be_bytes());
        record.extend(message);
        record
    }

    #[test]
    fn a_proxy_answers_in_http_and_carries_what_it_may() {
        let tunnel = |content: &[u8]| [b"\x01", content].concat();
        let mut seeds: Vec<Vec<u8>> = [
            "GET http://127.0.0.1:1/x HTTP/1.1\r\nhost: elsewhere\r\nconnection: close, x\r\nx: 1\r\n\r\n",
            "POST http://127.0.0.1:1/ HTTP/1.1\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            "CONNECT user@127.0.0.1:1 HTTP/1.1\r\n\r\n",
            "CONNECT [::1]:80 HTTP/1.0\r\ncontent-length: 9999999999999999999999\r\n\r\n",
            "GET https://2130706433/ HTTP/1.1\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "\0\0\0\0",
        ]
        .map(|text| text.as_bytes().to_vec())
        .into();
        seeds.extend([
            tunnel(b"SSH-2.0-OpenSSH_9.2\r\n"),
            tunnel(&hello()),
            tunnel(&hello()[..40]),
            tunnel(b""),
        ]);
        for bytes in crate::variations(&seeds, 60) {
            run(&bytes);
        }
    }
}
