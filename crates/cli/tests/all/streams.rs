//! What executions say, by every way out: gRPC, server-sent events, WebSockets and the command line. Whoever is cut off goes on
//! behind the last event that it saw; whoever is slow is told what it missed; whoever goes away may end the execution.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use futures::{SinkExt, StreamExt};
use jsonschema::Validator;
use mentat_proto::v1;
use mentat_proto::v1::execute_agent_event::Event;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use tonic::Code;
use tonic_types::StatusExt;

use crate::guests::{ECHO, EXIT_3, LOOP, manifest_with, numbers};
use crate::program::{agent_folder, mentat, run, text};
use crate::server::{Server, eventually, execute};

mod browsers;
mod command_line;
mod published;
mod reports;
mod sockets;

type Socket = WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>;

/// Longest wait for a message; the machine may be busy with other tests.
const PATIENCE: Duration = Duration::from_secs(30);

fn line(number: u64) -> String {
    format!("{number:08}\n")
}

/// Begins an execution that goes on by itself; answers its id.
async fn start(server: &Server, agent: &str, input: &str) -> String {
    let request = v1::ExecuteAgentRequest { detach: true, ..execute(agent, input.to_owned()) };
    let started = server.client().await.execute_agent(request).await.unwrap().into_inner();
    assert_eq!((started.output.len(), started.version.as_str()), (0, "1.0.0"));
    started.execution_id
}

async fn follow(
    server: &Server,
    stream_id: &str,
    from_sequence: u64,
) -> Result<tonic::Streaming<v1::ExecuteAgentEvent>, tonic::Status> {
    let request = v1::StreamEventsRequest { stream_id: stream_id.to_owned(), from_sequence };
    server.client().await.stream_events(request).await.map(tonic::Response::into_inner)
}

/// The number of an event, and what it says of a stream.
fn said(event: v1::ExecuteAgentEvent) -> (u64, String) {
    let said = match event.event.unwrap() {
        Event::Log(line) => format!("log {}", line.message),
        Event::StreamStart(start) => format!("start {}", start.stream),
        Event::StreamData(data) => String::from_utf8(data.chunk.to_vec()).unwrap(),
        Event::StreamEnd(end) => format!("end {} {} whole={}", end.stream, end.total_chunks, end.whole),
        Event::Response(response) => format!("output {}", String::from_utf8_lossy(&response.output)),
        other => format!("{other:?}"),
    };
    (event.sequence, said)
}

/// What an execution of `numbers` says in all.
fn everything(count: u64) -> Vec<String> {
    let mut all = vec!["start numbers".to_owned()];
    all.extend((1..=count).map(line));
    all.push(format!("end numbers {count} whole=true"));
    all.push(format!("output {}", line(count)));
    all
}

async fn socket(server: &Server, path: &str, headers: &[(&str, &str)]) -> Result<Socket, SocketError> {
    let mut request = format!("{}{path}", server.http.replace("http:", "ws:")).into_client_request()?;
    for (name, value) in headers {
        let name: http::HeaderName = name.parse().unwrap();
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    Ok(tokio_tungstenite::connect_async(request).await?.0)
}

/// Holds a message to the document that clients are written by; of an execution also its `data`, which is what they like
/// where agents elsewhere publish.
fn check(message: &Value, of_an_execution: bool) {
    static VALIDATORS: OnceLock<[Validator; 2]> = OnceLock::new();
    let [execution, any] = VALIDATORS.get_or_init(|| {
        let text = include_str!("../../../../schemas/asyncapi.yaml");
        let document: Value = serde_saphyr::from_str(text).unwrap();
        let any = json!({ "$ref": "#/components/schemas/Message", "components": document["components"] });
        let mut execution = any.clone();
        let kinds = &mut execution["components"]["schemas"]["Data"]["properties"]["data"]["anyOf"];
        let published = kinds.as_array_mut().unwrap().pop().unwrap();
        assert_eq!(published["$ref"], "#/components/schemas/Published");
        [execution, any]
            .map(|schema| jsonschema::options().should_validate_formats(true).build(&schema).unwrap())
    });
    let validator = if of_an_execution { execution } else { any };
    let wrong: Vec<String> = validator.iter_errors(message).map(|error| error.to_string()).collect();
    assert!(wrong.is_empty(), "{message}: {wrong:?}");
}

/// The next message, as JSON; `None` when the socket is closed.
async fn message(socket: &mut Socket) -> Option<Value> {
    loop {
        match tokio::time::timeout(PATIENCE, socket.next()).await.expect("there is a message")? {
            Ok(Message::Text(text)) => {
                let message = serde_json::from_str(&text).unwrap();
                check(&message, true);
                return Some(message);
            }
            Ok(Message::Close(_)) | Err(_) => return None,
            Ok(_) => {}
        }
    }
}

/// A stream of server-sent events: `(event, id, data)`.
struct Events(BufReader<TcpStream>);

impl Events {
    fn open(server: &Server, path: &str, last: Option<&str>) -> (u16, Self) {
        let stream = TcpStream::connect(server.http.strip_prefix("http://").unwrap()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let last = last.map(|last| format!("last-event-id: {last}\r\n")).unwrap_or_default();
        // Without chunks of HTTP's own between the events.
        let request = format!("GET {path} HTTP/1.0\r\nhost: localhost\r\n{last}\r\n");
        (&stream).write_all(request.as_bytes()).unwrap();
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(reader.read_line(&mut head).unwrap() > 0, "{head}");
        }
        (head.split(' ').nth(1).unwrap().parse().unwrap(), Self(reader))
    }
}

impl Iterator for Events {
    type Item = (String, Option<u64>, Value);

    fn next(&mut self) -> Option<Self::Item> {
        let (mut kind, mut id, mut data) = (String::new(), None, String::new());
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            match line.trim_end().split_once(": ") {
                Some(("event", value)) => kind = value.into(),
                Some(("id", value)) => id = value.parse().ok(),
                Some(("data", value)) => data = value.into(),
                Some(other) => panic!("{other:?}"),
                None if data.is_empty() => {}
                None => {
                    let message = serde_json::from_str(&data).unwrap();
                    check(&message, true);
                    return Some((kind, id, message));
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_tells_everything_in_order_and_so_does_a_follower_of_it() {
    let server = Server::start();
    server.load("a.numbers", &numbers(5)).await;
    let id = "01890a5d-ac96-774b-bcce-b302099a8057";
    let request = v1::ExecuteAgentRequest { execution_id: id.into(), ..execute("a.numbers", "40") };
    let mut told = server.client().await.execute_agent_stream(request).await.unwrap().into_inner();
    let (first, said_first) = said(told.next().await.unwrap().unwrap());
    assert_eq!((first, said_first.as_str()), (0, "start numbers"));
    let follower: Vec<_> =
        follow(&server, id, 0).await.unwrap().map(|event| said(event.unwrap())).collect().await;
    let rest: Vec<_> = told.map(|event| said(event.unwrap())).collect().await;
    assert_eq!(follower[1..], rest[..]);
    let late: Vec<_> =
        follow(&server, id, 0).await.unwrap().map(|event| said(event.unwrap())).collect().await;
    assert_eq!(late, follower);
    let (numbers, texts): (Vec<u64>, Vec<String>) = follower.into_iter().unzip();
    assert_eq!(texts, everything(40));
    assert_eq!(numbers, (0..43).collect::<Vec<u64>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_is_cut_off_a_hundred_times_misses_nothing_and_is_told_nothing_twice() {
    let server = Server::start();
    server.load("a.numbers", &numbers(3)).await;
    let id = start(&server, "a.numbers", "400").await;
    let (mut next, mut texts) = (0, Vec::new());
    for cut in 0.. {
        let mut events = follow(&server, &id, next).await.unwrap();
        // Now and then the connection is gone before anything came.
        let read = if cut < 100 { cut % 5 } else { usize::MAX };
        for _ in 0..read {
            let Some(event) = events.next().await else { break };
            let (sequence, text) = said(event.unwrap());
            assert_eq!(sequence, next);
            next += 1;
            texts.push(text);
        }
        if cut >= 100 {
            break;
        }
    }
    assert_eq!(texts, everything(400));
}

#[tokio::test(flavor = "multi_thread")]
async fn executions_that_fail_or_say_nothing_end_their_streams_with_their_outcome() {
    let server = Server::with(&["executions.remembered=10"]);
    server.load("a.echo", ECHO).await;
    server.load("a.exit", EXIT_3).await;
    server.load_as(&manifest_with("a.loop", "1.0.0", "  fuel: 1000000\n"), LOOP).await.unwrap();
    let mut client = server.client().await;
    let echoed = client.execute_agent(execute("a.echo", "hi")).await.unwrap().into_inner().execution_id;
    let mut events = follow(&server, &echoed, 0).await.unwrap();
    let Some(Event::Response(end)) = events.next().await.unwrap().unwrap().event else { panic!("no end") };
    assert!(end.output_left_out && end.output.is_empty(), "nobody said that it would be read");
    // It logged something, so that it is kept.
    let exited = client.execute_agent(execute("a.exit", "")).await.unwrap().into_inner().execution_id;
    let events: Vec<_> = follow(&server, &exited, 0).await.unwrap().collect().await;
    let Some(Event::Response(end)) = &events[1].as_ref().unwrap().event else { panic!("no end") };
    assert_eq!((events.len(), end.exit_code, end.output_left_out), (2, 3, false));
    let failed = start(&server, "a.loop", "").await;
    let ended = follow(&server, &failed, 0).await.unwrap().next().await.unwrap().unwrap_err();
    let details = ended.get_error_details();
    let info = details.error_info().unwrap();
    assert_eq!((ended.code(), info.reason.as_str()), (Code::ResourceExhausted, "FUEL_EXHAUSTED"));
    assert_eq!(
        (info.metadata["execution_id"].as_str(), info.metadata["limit_fuel"].as_str()),
        (failed.as_str(), "1000000")
    );
    for (unknown, reason) in
        [("01890a5d-ac96-774b-bcce-b302099a8000", "STREAM_NOT_FOUND"), ("x", "INVALID_REQUEST")]
    {
        let refused = follow(&server, unknown, 0).await.unwrap_err();
        assert_eq!(refused.get_error_details().error_info().unwrap().reason, reason);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_is_forgotten_after_its_time_and_its_room_is_free_again() {
    let server = Server::with(&["streams.retention_ms=0"]);
    server.load("a.numbers", &numbers(0)).await;
    let id = start(&server, "a.numbers", "10").await;
    eventually("forgetting", async || {
        let events: Vec<_> = follow(&server, &id, 0).await.unwrap().collect().await;
        let gone = Event::Missed(v1::Missed { first: 0, last: 11 });
        events.len() == 2 && events[0].as_ref().unwrap().event == Some(gone)
    })
    .await;
    // How it ended is remembered for longer.
    let end = follow(&server, &id, 12).await.unwrap().next().await.unwrap().unwrap();
    let (sequence, Some(Event::Response(end))) = (end.sequence, end.event) else { panic!("no end") };
    assert!(end.output_left_out && sequence == 12);
    assert!(
        follow(&server, &id, 13).await.unwrap().next().await.is_none(),
        "who has seen the end is told nothing"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn browsers_get_events_and_go_on_behind_the_last_one_that_they_saw() {
    let server = Server::with(&["streams.heartbeat_ms=50"]);
    server.load("a.numbers", &numbers(0)).await;
    server.load_as(&manifest_with("a.loop", "1.0.0", "  fuel: 1000000000000\n"), LOOP).await.unwrap();
    let id = start(&server, "a.numbers", "20").await;
    let path = format!("/api/v1/streams/{id}/sse");
    let (status, events) = Events::open(&server, &path, None);
    assert_eq!(status, 200);
    let all: Vec<_> = events.filter(|(kind, ..)| kind != "heartbeat").collect();
    let (kind, sequence, start) = &all[0];
    assert_eq!((kind.as_str(), *sequence, &start["type"]), ("stream_start", None, &json!("stream_start")));
    assert_eq!((&start["agent_id"], &start["stream_id"]), (&json!("a.numbers"), &json!(id)));
    let numbers: Vec<u64> = all[1..].iter().map(|(_, number, _)| number.unwrap()).collect();
    assert_eq!(numbers, (0..23).collect::<Vec<u64>>());
    let chunk = &all[3].2;
    assert_eq!(chunk["data"], json!({ "kind": "chunk", "stream": "numbers", "index": 1, "text": line(2) }));
    assert!(chunk["timestamp"].as_str().unwrap().ends_with('Z') && chunk["sequence"] == 2);
    let (kind, _, end) = all.last().unwrap();
    assert_eq!((kind.as_str(), &end["data"]["total_chunks"]), ("stream_end", &json!(20)));
    assert_eq!(end["data"]["output"], line(20));
    // Cut off behind the event 20, and come back.
    let (_, rest) = Events::open(&server, &path, Some("20"));
    let rest: Vec<_> = rest.filter_map(|(_, number, _)| number).collect();
    assert_eq!(rest, [21, 22]);
    assert_eq!(Events::open(&server, &path, Some("22")).0, 204, "there is nothing more, so do not come back");
    assert_eq!(Events::open(&server, &path, Some("x")).0, 400);
    let (status, mut events) = Events::open(&server, &path, Some(""));
    assert_eq!((status, events.next().unwrap().0.as_str()), (200, "stream_start"), "nothing was seen");
    assert_eq!(
        Events::open(&server, "/api/v1/streams/01890a5d-ac96-774b-bcce-b302099a8000/sse", None).0,
        404
    );
    // As a client that expects CloudEvents has it.
    let (_, cloud) = Events::open(&server, &format!("{path}?format=cloudevents&from_sequence=22"), None);
    let (_, _, end) = cloud.last().unwrap();
    assert_eq!((&end["specversion"], &end["id"]), (&json!("1.0"), &json!("22")));
    assert_eq!(end["source"], json!(format!("/v1/executions/{id}")));
    assert_eq!((&end["type"], &end["subject"]), (&json!("mentat.runtime.stream_end"), &json!("a.numbers")));
    // Of one that says nothing for a while, at least that.
    let looping = self::start(&server, "a.loop", "").await;
    let (_, mut events) = Events::open(&server, &format!("/api/v1/streams/{looping}/sse"), None);
    assert_eq!(events.next().unwrap().0, "stream_start");
    assert_eq!(events.next().unwrap().0, "heartbeat");
    let cancel = v1::CancelExecutionRequest { execution_id: looping };
    server.client().await.cancel_execution(cancel).await.unwrap();
    let (kind, _, end) = events.find(|(kind, ..)| kind != "heartbeat").unwrap();
    assert_eq!((kind.as_str(), &end["data"]["reason"]), ("stream_error", &json!("CANCELLED")));
    assert!(events.next().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stalls_costs_its_execution_no_more_than_is_configured_and_is_told_what_it_missed() {
    let server = Server::with(&["streams.buffer=64KB", "streams.block_ms=300"]);
    server.load("a.numbers", &numbers(0)).await;
    let id = start(&server, "a.numbers", "20000").await;
    let mut stalled = socket(&server, &format!("/ws/streams/{id}"), &[]).await.unwrap();
    let began = Instant::now();
    // One that reads beside it is told all there is from where it is, and when it ends.
    let mut last = 0;
    let mut events = follow(&server, &id, 0).await.unwrap();
    while let Some(event) = events.next().await {
        let event = event.unwrap();
        last = last.max(event.sequence);
    }
    assert_eq!(last, 20_002);
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    let (mut next, mut missed) = (0, 0);
    while let Some(message) = message(&mut stalled).await {
        let data = &message["data"];
        if message["type"] == "stream_missed" {
            assert_eq!(data["first"].as_u64(), Some(next));
            let last = data["last"].as_u64().unwrap();
            missed += last + 1 - next;
            next = last + 1;
        } else if let Some(sequence) = message["sequence"].as_u64() {
            assert_eq!(sequence, next, "nothing is left out without a word");
            next += 1;
        }
    }
    assert_eq!(next, 20_003);
    assert!(missed > 0, "more was written than any buffer holds");
}

#[tokio::test(flavor = "multi_thread")]
async fn executions_that_the_end_of_the_server_cuts_off_are_on_record() {
    let server = Server::with(&["server.shutdown_grace_ms=100"]);
    server.load_as(&manifest_with("a.loop", "1.0.0", "  fuel: 1000000000000\n"), LOOP).await.unwrap();
    let id = start(&server, "a.loop", "").await;
    let (_, mut events) = Events::open(&server, &format!("/api/v1/streams/{id}/sse"), None);
    assert_eq!(events.next().unwrap().0, "stream_start");
    let (stopped, data) = server.stop_keeping_its_data();
    assert_eq!(stopped, Some(0));
    let log = data.path().join("audit");
    let found = run(&["audit", "query", log.to_str().unwrap(), "--execution", &id]);
    assert!(text(&found.stdout).contains("CANCELLED"), "{} {}", text(&found.stdout), text(&found.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_belong_to_their_tenants() {
    let key = |name: &str| {
        let digest = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(name));
        format!(r#"{{ name = "{name}", tenant = "{name}", sha256 = "{digest}" }}"#)
    };
    let keys = format!("auth.api_keys=[{}, {}]", key("one"), key("two"));
    let server = Server::with(&[&keys]);
    let with_key = |path: &str, key: &str| {
        ureq::get(format!("{}{path}", server.http)).header("authorization", format!("Bearer {key}"))
    };
    let manifest = crate::guests::manifest("a.numbers", "1.0.0");
    let module = base64_of(&crate::guests::assemble(&numbers(0)));
    let post = |path: &str, body: Value| {
        let request = ureq::post(format!("{}{path}", server.http)).header("authorization", "Bearer one");
        let mut response = request.send_json(body).unwrap();
        (response.status().as_u16(), response.body_mut().read_json::<Value>().unwrap())
    };
    post("/v1/agents", json!({ "manifest": manifest, "module_base64": module }));
    let (status, started) = post("/v1/agents/a.numbers/execute", json!({ "input": "3", "detach": true }));
    assert_eq!((status, &started["stream_id"]), (202, &started["execution_id"]));
    let path = format!("/api/v1/streams/{}/sse", started["stream_id"].as_str().unwrap());
    let told = with_key(&path, "one").call().unwrap().body_mut().read_to_string().unwrap();
    assert!(told.contains("event: stream_end"), "{told}");
    assert!(matches!(with_key(&path, "two").call(), Err(ureq::Error::StatusCode(404))));
    assert!(matches!(ureq::get(format!("{}{path}", server.http)).call(), Err(ureq::Error::StatusCode(401))));
}

fn base64_of(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
