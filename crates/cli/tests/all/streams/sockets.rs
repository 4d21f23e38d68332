//! Streams by WebSocket.

use tokio::io::AsyncWriteExt;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn sockets_tell_the_same_as_json_and_chunks_as_they_are_where_that_is_wanted() {
    let server = Server::start();
    server.load("a.numbers", &numbers(1)).await;
    let id = start(&server, "a.numbers", "50").await;
    let path = format!("/ws/streams/{id}");
    let mut json = socket(&server, &path, &[]).await.unwrap();
    let mut all = Vec::new();
    while let Some(message) = message(&mut json).await {
        all.push(message);
    }
    let kinds: Vec<&str> = all.iter().map(|message| message["type"].as_str().unwrap()).collect();
    assert_eq!((kinds[0], kinds[kinds.len() - 1], kinds.len()), ("stream_start", "stream_end", 54));
    let numbers: Vec<u64> = all[1..].iter().map(|message| message["sequence"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..53).collect::<Vec<u64>>());
    let protocol = [("sec-websocket-protocol", "mentat.v1.binary")];
    let mut binary = socket(&server, &format!("{path}?from_sequence=3"), &protocol).await.unwrap();
    let mut chunks = Vec::new();
    while let Some(Ok(message)) = binary.next().await {
        if let Message::Binary(frame) = message {
            let (number, chunk) = frame.split_at(8);
            chunks.push((u64::from_be_bytes(number.try_into().unwrap()), chunk.to_vec()));
        }
    }
    let expected: Vec<_> = (3..=50).map(|number| (number, line(number).into_bytes())).collect();
    assert_eq!(chunks, expected);
    // A page of another site could read along; a plain request is told what this is; a stream has to be there.
    let status = |refused: Result<Socket, SocketError>| match refused {
        Err(SocketError::Http(response)) => response.status().as_u16(),
        other => panic!("{other:?}"),
    };
    assert_eq!(status(socket(&server, &path, &[("origin", "https://evil.example")]).await), 403);
    assert_eq!(status(socket(&server, "/ws/streams/01890a5d-ac96-774b-bcce-b302099a8000", &[]).await), 404);
    assert!(socket(&server, &path, &[("origin", server.http.as_str())]).await.is_ok());
    let plain = ureq::get(format!("{}{path}", server.http)).call().unwrap_err();
    assert!(matches!(plain, ureq::Error::StatusCode(426)), "{plain}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_is_closed_ends_the_execution_where_it_said_so_and_one_that_asks_for_it_too() {
    let server = Server::start();
    server.load_as(&manifest_with("a.loop", "1.0.0", "  fuel: 1000000000000\n"), LOOP).await.unwrap();
    let state = async |id: &str| {
        let request = v1::GetExecutionRequest { execution_id: id.to_owned() };
        server.client().await.get_execution(request).await.unwrap().into_inner().state()
    };
    for (query, says, ends) in [
        ("?cancel_on_disconnect=true", None, true),
        ("", Some(r#"{"type": "cancel"}"#), true),
        ("", Some("hello"), false),
        ("", None, false),
    ] {
        let id = start(&server, "a.loop", "").await;
        let mut socket = socket(&server, &format!("/ws/streams/{id}{query}"), &[]).await.unwrap();
        assert_eq!(message(&mut socket).await.unwrap()["type"], "stream_start");
        match says {
            Some(text) => {
                socket.send(Message::text(text)).await.unwrap();
                let end = message(&mut socket).await;
                let is_cancelled = end.is_some_and(|end| end["data"]["reason"] == "CANCELLED");
                assert_eq!(is_cancelled, ends, "{text}");
            }
            // As a machine does that is switched off: without goodbye.
            None => drop(socket),
        }
        if ends {
            eventually("the end", async || state(&id).await == v1::ExecutionState::Failed).await;
        } else {
            tokio::time::sleep(Duration::from_millis(200)).await;
            assert_eq!(state(&id).await, v1::ExecutionState::Running);
            let request = v1::CancelExecutionRequest { execution_id: id };
            server.client().await.cancel_execution(request).await.unwrap();
        }
    }
    eventually("free places", async || server.metric("wasm_instances_total{status=\"active\"}") == 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_does_not_read_is_heard_all_the_same() {
    let server = Server::with(&["streams.block_ms=60000"]);
    server
        .load_as(&manifest_with("a.numbers", "1.0.0", "  fuel: 1000000000000\n"), &numbers(0))
        .await
        .unwrap();
    let id = start(&server, "a.numbers", "99999999").await;
    let mut stalled = socket(&server, &format!("/ws/streams/{id}"), &[]).await.unwrap();
    // Until nothing more fits between the two.
    tokio::time::sleep(Duration::from_millis(300)).await;
    stalled.send(Message::text(r#"{"type": "cancel"}"#)).await.unwrap();
    eventually("the end", async || {
        let request = v1::GetExecutionRequest { execution_id: id.clone() };
        let execution = server.client().await.get_execution(request).await.unwrap().into_inner();
        execution.error_reason == "CANCELLED"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_sends_what_cannot_be_taken_is_told_why_it_is_closed() {
    let server = Server::start();
    server.load("a.numbers", &numbers(100)).await;
    let id = start(&server, "a.numbers", "600").await;
    let path = format!("/ws/streams/{id}");
    let large = vec![0x81, 0xfe, 0x20, 0x00, 0, 0, 0, 0];
    // Text of one byte that no text has; a kind of frame that there is none of; one that is not masked.
    let (not_text, unknown, bare) =
        (vec![0x81, 0x81, 0, 0, 0, 0, 0xff], vec![0x83, 0x80, 0, 0, 0, 0], vec![0x81, 0]);
    for (frame, code) in [(large, 1009), (not_text, 1007), (unknown, 1002), (bare, 1002)] {
        let mut socket = socket(&server, &path, &[]).await.unwrap();
        assert_eq!(message(&mut socket).await.unwrap()["type"], "stream_start");
        let MaybeTlsStream::Plain(connection) = socket.get_mut() else { panic!("there is no TLS here") };
        connection.write_all(&frame).await.unwrap();
        let closed = loop {
            match tokio::time::timeout(PATIENCE, socket.next()).await.unwrap() {
                Some(Ok(Message::Close(closed))) => break closed.unwrap(),
                Some(Ok(_)) => {}
                other => panic!("{frame:x?}: {other:?}"),
            }
        };
        assert_eq!(u16::from(closed.code), code, "{frame:x?}: {closed}");
        assert!(!closed.reason.is_empty());
    }
}

/// Writes forty chunks of a mebibyte.
const LARGE_CHUNKS: &str = r#"(module
  (import "mentat" "start_stream" (func $start (param i32 i32) (result i32)))
  (import "mentat" "write_stream" (func $write (param i32 i32 i32) (result i32)))
  (memory (export "memory") 17)
  (data (i32.const 0) "chunks")
  (func (export "process") (result i32) (local $stream i32) (local $left i32)
    (local.set $stream (call $start (i32.const 0) (i32.const 6)))
    (local.set $left (i32.const 40))
    (loop $next
      (drop (call $write (local.get $stream) (i32.const 0) (i32.const 0x100000)))
      (br_if $next (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
    (i32.const 0)))"#;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_on_its_way_to_a_reader_that_stalls_is_counted_until_it_leaves() {
    let server = Server::with(&["streams.block_ms=60000"]);
    server.load("a.chunks", LARGE_CHUNKS).await;
    let id = start(&server, "a.chunks", "").await;
    let in_flight = || server.metric("server_in_flight_bytes");
    let stalled = socket(&server, &format!("/ws/streams/{id}"), &[]).await.unwrap();
    // As soon as no more fits between the two.
    eventually("what is held", async || in_flight() >= f64::from(1 << 20)).await;
    drop(stalled);
    eventually("room", async || in_flight() < f64::from(1 << 20)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_input_of_an_execution_that_nobody_waits_for_is_counted_until_it_ends() {
    let server = Server::start();
    let wasm = "  memory: { maximum: 32 }\n  fuel: 1000000000000\n";
    server.load_as(&manifest_with("a.loop", "1.0.0", wasm), LOOP).await.unwrap();
    let id = start(&server, "a.loop", &"x".repeat(2 << 20)).await;
    let in_flight = || server.metric("server_in_flight_bytes");
    assert!(in_flight() >= f64::from(2 << 20), "{}", in_flight());
    let request = v1::CancelExecutionRequest { execution_id: id };
    server.client().await.cancel_execution(request).await.unwrap();
    eventually("room", async || in_flight() < f64::from(1 << 20)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_goodbye_is_answered() {
    let server = Server::start();
    server.load("a.numbers", &numbers(100)).await;
    let id = start(&server, "a.numbers", "600").await;
    let mut socket = socket(&server, &format!("/ws/streams/{id}"), &[]).await.unwrap();
    assert_eq!(message(&mut socket).await.unwrap()["type"], "stream_start");
    socket.close(None).await.unwrap();
    let answered = loop {
        match tokio::time::timeout(PATIENCE, socket.next()).await.unwrap() {
            Some(Ok(Message::Close(_))) => break true,
            Some(Ok(_)) => {}
            Some(Err(_)) | None => break false,
        }
    };
    assert!(answered, "it was cut off without a word");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_that_says_something_after_the_end_still_gets_all_of_it() {
    let server = Server::start();
    server.load("a.numbers", &numbers(0)).await;
    let id = start(&server, "a.numbers", "9000").await;
    let finished = async || {
        let request = v1::GetExecutionRequest { execution_id: id.clone() };
        let execution = server.client().await.get_execution(request).await.unwrap();
        execution.into_inner().state() == v1::ExecutionState::Finished
    };
    eventually("the end", finished).await;
    let mut socket = socket(&server, &format!("/ws/streams/{id}"), &[]).await.unwrap();
    assert_eq!(message(&mut socket).await.unwrap()["type"], "stream_start");
    // The server has sent the rest by then, and its goodbye.
    tokio::time::sleep(Duration::from_millis(500)).await;
    socket.send(Message::Ping(b"are you there".as_slice().into())).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut last = 0;
    let mut kinds = Vec::new();
    while let Some(message) = message(&mut socket).await {
        last = message["sequence"].as_u64().unwrap();
        kinds.push(message["type"].as_str().unwrap().to_owned());
    }
    assert_eq!((last, kinds.last().unwrap().as_str()), (9002, "stream_end"));
}
