//! Connections that are of no use: silent ones, half a request, replies that nobody reads, more bytes than the server
//! holds. Each is ended or refused, and the server goes on.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use mentat_proto::v1::LoadAgentStreamRequest;
use mentat_proto::v1::wasm_runtime_client::WasmRuntimeClient;
use serde_json::Value;
use tonic::Code;
use tonic_types::StatusExt;

use crate::guests::{ECHO, LOOP, manifest_with};
use crate::server::{Server, eventually, execute};

/// Longest wait for a server to act; the machine may be busy with other tests.
const PATIENCE: Duration = Duration::from_secs(30);

fn connect(url: &str) -> TcpStream {
    let stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Reads until the other end closes.
fn read_to_close(mut stream: TcpStream) -> Vec<u8> {
    let mut read = Vec::new();
    match stream.read_to_end(&mut read) {
        Ok(_) => read,
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => read,
        Err(error) => panic!("the connection was not closed: {error}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_ask_for_nothing_are_closed_and_make_room_for_others() {
    let server = Server::with(&["server.header_timeout_ms=300", "server.max_connections=4"]);
    for (url, said) in [
        (&server.http, &b""[..]),
        (&server.http, b"GET / HTTP/1.1\r\nhost: loc"),
        (&server.http, b"PRI * HTTP/2.0\r\n"),
        (&server.grpc, b""),
        (&server.grpc, b"PRI * HTTP/2.0\r\n"),
        // The whole of the greeting, and nothing after it.
        (&server.grpc, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"),
    ] {
        // Twice as many as there is room for.
        let streams: Vec<TcpStream> = (0..8)
            .map(|_| {
                let mut stream = connect(url);
                stream.write_all(said).unwrap();
                stream
            })
            .collect();
        for stream in streams {
            read_to_close(stream);
        }
    }
    server.load("a.echo", ECHO).await;
    let answer = server.client().await.execute_agent(execute("a.echo", "x")).await.unwrap().into_inner();
    assert_eq!(answer.output, "x");
    assert_eq!(ureq::get(format!("{}/healthz", server.http)).call().unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_bytes_than_the_server_holds_are_refused_until_there_is_room_again() {
    let server = Server::with(&["server.max_in_flight=8MB"]);
    let wasm = "  memory: { maximum: 32 }\n  fuel: 10000000000\n";
    server.load_as(&manifest_with("a.echo", "1.0.0", wasm), ECHO).await.unwrap();
    let half = vec![b'x'; 6 << 20];
    let mut unfinished = connect(&server.http);
    let head =
        "POST /v1/agents/a.echo/execute HTTP/1.1\r\nhost: localhost\r\ncontent-length: 7000000\r\n\r\n";
    unfinished.write_all(head.as_bytes()).unwrap();
    unfinished.write_all(&half).unwrap();
    let url = format!("{}/v1/agents/a.echo/execute", server.http);
    let post = || {
        let request = ureq::post(&url).config().http_status_as_error(false).build();
        request.content_type("application/octet-stream").send(&half[..])
    };
    eventually("the first half", async || server.metric("server_in_flight_bytes") >= half.len() as f64).await;
    let mut refused = None;
    eventually("the refusal", async || {
        // It can come before the body is sent, and the connection is closed then.
        refused = post().ok();
        refused.is_some()
    })
    .await;
    let mut refused = refused.unwrap();
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after"));
    let refused = refused.body_mut().read_json::<Value>().unwrap();
    assert_eq!(refused["error"]["reason"], "OVERLOADED");
    let status = server.client().await.execute_agent(execute("a.echo", half.clone())).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert_eq!(status.get_error_details().error_info().unwrap().reason, "OVERLOADED");
    drop(unfinished);
    eventually("room", async || post().is_ok_and(|response| response.status() == 200)).await;
}

/// Answers with 32 MiB that nobody had to send.
const GENEROUS: &str = r#"(module
  (import "mentat" "write_output" (func $write (param i32 i32) (result i32)))
  (memory (export "memory") 512)
  (func (export "process") (result i32)
    (memory.fill (i32.const 0) (i32.const 120) (i32.const 33554432))
    (call $write (i32.const 0) (i32.const 33554432))))"#;

/// A server with room for one such answer and no more, that does not wait for long.
async fn server_with_little_room() -> Server {
    let server = Server::with(&["server.max_in_flight=40MB", "server.idle_timeout_ms=500"]);
    let wasm = "  memory: { maximum: 100 }\n  fuel: 10000000000\n";
    server.load_as(&manifest_with("a.generous", "1.0.0", wasm), GENEROUS).await.unwrap();
    server.load_as(&manifest_with("a.echo", "1.0.0", wasm), ECHO).await.unwrap();
    server
}

async fn there_comes_to_be_room(server: &Server) {
    eventually("the answer", async || server.metric("server_in_flight_bytes") >= f64::from(32 << 20)).await;
    eventually("room", async || server.metric("server_in_flight_bytes") < f64::from(1 << 20)).await;
    let large = vec![b'x'; 16 << 20];
    server.client().await.execute_agent(execute("a.echo", large)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_that_nobody_reads_is_given_up() {
    let server = server_with_little_room().await;
    let mut unread = connect(&server.http);
    let head = "POST /v1/agents/a.generous/execute HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n";
    unread.write_all(head.as_bytes()).unwrap();
    let mut first = [0; 12];
    unread.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    there_comes_to_be_room(&server).await;
    let read = read_to_close(unread);
    assert!(read.len() < 32 << 20, "the whole reply came: {} bytes", read.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_for_which_a_grpc_client_makes_no_room_is_given_up() {
    let server = server_with_little_room().await;
    let endpoint = tonic::transport::Endpoint::from_shared(server.grpc.clone()).unwrap();
    for window in [0, 1 << 16] {
        // The window that stays at that: nobody reads what fills it.
        let channel = endpoint.clone().initial_stream_window_size(window).connect().await.unwrap();
        let mut client = WasmRuntimeClient::new(channel);
        let unread = tokio::spawn(async move {
            let answer = client.execute_agent_stream(execute("a.generous", "")).await;
            std::future::pending::<()>().await;
            drop(answer);
        });
        there_comes_to_be_room(&server).await;
        unread.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_silent_for_long_is_not_given_up() {
    let server = Server::with(&["server.header_timeout_ms=400", "server.idle_timeout_ms=400"]);
    let limits = "  timeout_ms: 2500\n  fuel: 1000000000000\n";
    server.load_as(&manifest_with("a.long", "1.0.0", limits), LOOP).await.unwrap();
    let mut client = server.client().await;
    let mut events = client.execute_agent_stream(execute("a.long", "")).await.unwrap().into_inner();
    let status = events.message().await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    let status = client.execute_agent(execute("a.long", "")).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_stops_coming_is_not_waited_for_over_grpc() {
    let server = Server::with(&["server.idle_timeout_ms=300"]);
    let mut client = server.client().await;
    let status =
        client.load_agent_stream(tokio_stream::pending::<LoadAgentStreamRequest>()).await.unwrap_err();
    assert!(status.message().contains("no more of the body came for 300 ms"), "{status:?}");
    assert_eq!(status.get_error_details().error_info().unwrap().reason, "INVALID_REQUEST");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_is_refused_before_anything_is_read() {
    let key = r#"auth.api_keys=[{ name = "ci", sha256 = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b" }]"#;
    let server = Server::with(&[key]);
    let status = server
        .client()
        .await
        .load_agent_stream(tokio_stream::pending::<LoadAgentStreamRequest>())
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
    let mut connection = connect(&server.http);
    let head = "POST /v1/agents HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\n";
    connection.write_all(head.as_bytes()).unwrap();
    let mut answer = [0; 12];
    connection.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 401");
    // Metrics name agents; health does not.
    let code = |path: &str| {
        let request = ureq::get(format!("{}{path}", server.http));
        request.config().http_status_as_error(false).build().call().unwrap().status().as_u16()
    };
    assert_eq!((code("/metrics"), code("/healthz")), (401, 200));
    let metrics = ureq::get(format!("{}/metrics", server.http)).header("authorization", "Bearer secret");
    assert_eq!(metrics.call().unwrap().status(), 200);
}
