//! Large inputs and outputs pass; larger ones are refused before they are read.

use std::io::{Read, Write};

use bytes::Bytes;
use mentat_proto::v1::load_agent_stream_request::Part;
use mentat_proto::v1::{LoadAgentHeader, LoadAgentStreamRequest};
use tonic::Code;
use tonic_types::StatusExt;

use crate::guests::{ECHO, assemble, manifest, manifest_with};
use crate::server::{Server, execute};

const LARGE: usize = 64 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_megabytes_go_in_and_out() {
    let server = Server::start();
    let wasm = "  memory: { maximum: 256 }\n  fuel: 10000000000\n  timeout_ms: 60000\n";
    server.load_as(&manifest_with("a.echo", "1.0.0", wasm), ECHO).await.unwrap();
    let input = Bytes::from(vec![b'x'; LARGE]);
    let answer =
        server.client().await.execute_agent(execute("a.echo", input.clone())).await.unwrap().into_inner();
    assert!(answer.output == input, "the output is not the input");
    let url = format!("{}/v1/agents/a.echo/execute", server.http);
    let mut response = ureq::post(&url).content_type("application/octet-stream").send(&input[..]).unwrap();
    let output = response.body_mut().with_config().limit(1 << 30).read_to_vec().unwrap();
    assert!(output == input, "the output over HTTP is not the input");
    assert_eq!(response.headers()["mentat-exit-code"], "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn over_the_limit_is_refused_before_it_is_read() {
    let server = Server::with(&["server.max_message=1MB", "compile.max_module=1MB", "limits.max_input=64KB"]);
    server.load("a.echo", ECHO).await;
    let mut client = server.client().await;
    let status = client.execute_agent(execute("a.echo", vec![0; 2 << 20])).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
    let status = client.execute_agent(execute("a.echo", vec![0; 128 << 10])).await.unwrap_err();
    assert!(status.message().contains("the limit is 64KB"), "{status:?}");

    // Declared but never sent: the answer must come all the same.
    let header = LoadAgentHeader {
        manifest: manifest("a.big", "1.0.0"),
        total_bytes: 10 << 30,
        ..LoadAgentHeader::default()
    };
    let first = LoadAgentStreamRequest { part: Some(Part::Header(header)) };
    let parts = tokio_stream::StreamExt::chain(tokio_stream::once(first), tokio_stream::pending());
    let status = client.load_agent_stream(parts).await.unwrap_err();
    assert!(status.message().contains("10737418240 bytes"), "{status:?}");

    let address = server.http.strip_prefix("http://").unwrap();
    let mut connection = std::net::TcpStream::connect(address).unwrap();
    let request =
        "POST /v1/agents/a.echo/execute HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99999999999\r\n\r\n";
    connection.write_all(request.as_bytes()).unwrap();
    connection.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    let mut answer = [0; 12];
    connection.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_streamed_load_holds_to_its_header() {
    let server = Server::start();
    let mut client = server.client().await;
    let module = assemble(ECHO);
    let parts = |total: usize, pieces: Vec<Vec<u8>>| {
        let header = LoadAgentHeader {
            manifest: manifest("a.echo", "1.0.0"),
            total_bytes: total as u64,
            ..LoadAgentHeader::default()
        };
        let mut parts = vec![LoadAgentStreamRequest { part: Some(Part::Header(header)) }];
        parts.extend(
            pieces.into_iter().map(|piece| LoadAgentStreamRequest { part: Some(Part::Chunk(piece.into())) }),
        );
        tokio_stream::iter(parts)
    };
    for (total, pieces, says) in [
        (module.len() + 1, vec![module.clone()], "the header said"),
        (module.len() - 1, vec![module.clone()], "more bytes came"),
    ] {
        let status = client.load_agent_stream(parts(total, pieces)).await.unwrap_err();
        assert!(status.message().contains(says), "{status:?}");
        assert_eq!(status.get_error_details().error_info().unwrap().reason, "INVALID_REQUEST");
    }
    let halves = module.chunks(module.len() / 2).map(<[u8]>::to_vec).collect();
    client.load_agent_stream(parts(module.len(), halves)).await.unwrap();
    assert_eq!(client.execute_agent(execute("a.echo", "x")).await.unwrap().into_inner().output, "x");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_stops_sending_is_not_waited_for() {
    let server = Server::with(&["server.idle_timeout_ms=300"]);
    let header = LoadAgentHeader {
        manifest: manifest("a.slow", "1.0.0"),
        total_bytes: 1000,
        ..LoadAgentHeader::default()
    };
    let first = LoadAgentStreamRequest { part: Some(Part::Header(header)) };
    let parts = tokio_stream::StreamExt::chain(tokio_stream::once(first), tokio_stream::pending());
    let status = server.client().await.load_agent_stream(parts).await.unwrap_err();
    assert!(status.message().contains("no more of the body came"), "{status:?}");

    let address = server.http.strip_prefix("http://").unwrap();
    let mut connection = std::net::TcpStream::connect(address).unwrap();
    let request =
        "POST /v1/agents/a.echo/execute HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\nhalf";
    connection.write_all(request.as_bytes()).unwrap();
    connection.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    let mut answer = [0; 12];
    connection.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 408");
}
