//! What executions say, on its way to readers: how much of it comes through in a second, how long a chunk takes from
//! `write_stream` to a WebSocket, and what readers take who wait.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use mentat_proto::v1::execute_agent_event::Event;
use mentat_proto::v1::{CancelExecutionRequest, ExecuteAgentRequest};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::client::{GrpcClient, threads};
use crate::figures::{Row, Samples, Unit, nanoseconds, rows};
use crate::measure::Plan;
use crate::server::Server;

/// Bytes of a chunk.
const CHUNK_BYTES: usize = 64;
/// Chunks of one stream that is written as fast as it can be, and of each of many.
const CHUNKS: u32 = 50_000;
const CHUNKS_OF_MANY: u32 = 100;
/// Streams at the same time, and the channels that their calls share.
const MANY: usize = 1_000;
const CHANNELS: usize = 8;
/// Chunks whose time is taken, and the milliseconds between them.
const TIMED: u32 = 2_000;
const PAUSE_MS: u32 = 1;
/// Readers who wait.
const SUBSCRIBERS: usize = 5_000;
/// Milliseconds before the first chunk, so that its reader is there.
const FIRST_MS: u32 = 100;
/// Bytes before the chunk in a binary frame: the number of the event.
const FRAME_HEAD: usize = 8;

/// Waits, then writes chunks of 64 bytes that begin with the time, as many as the first four bytes of its input say, with
/// as many milliseconds between them as the second four say, and before them as the third.
const WRITES: &str = r#"(module
  (import "mentat" "read_input" (func $read (param i32 i32) (result i32)))
  (import "mentat" "start_stream" (func $start (param i32 i32) (result i32)))
  (import "mentat" "write_stream" (func $write (param i32 i32 i32) (result i32)))
  (import "mentat" "end_stream" (func $end (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get" (func $time (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "s")
  (func $pause (param $milliseconds i32)
    (i32.store (i32.const 320) (i32.const 1))
    (i64.store (i32.const 328) (i64.mul (i64.extend_i32_u (local.get $milliseconds)) (i64.const 1000000)))
    (drop (call $poll (i32.const 304) (i32.const 408) (i32.const 1) (i32.const 500))))
  (func (export "process") (result i32) (local $stream i32) (local $left i32)
    (drop (call $read (i32.const 16) (i32.const 12)))
    (local.set $left (i32.load (i32.const 16)))
    (call $pause (i32.load (i32.const 24)))
    (local.set $stream (call $start (i32.const 0) (i32.const 1)))
    (loop $next
      (drop (call $time (i32.const 0) (i64.const 1) (i32.const 600)))
      (if (call $write (local.get $stream) (i32.const 600) (i32.const 64)) (then (return (i32.const 1))))
      (if (i32.load (i32.const 20)) (then (call $pause (i32.load (i32.const 20)))))
      (local.set $left (i32.sub (local.get $left) (i32.const 1)))
      (br_if $next (local.get $left)))
    (call $end (local.get $stream))))"#;
const LIMITS: &str = "  timeout_ms: 200000\n  fuel: 1000000000000\n";
const AGENT: &str = "bench.writes";

const PROTOCOL: &str = "sec-websocket-protocol";

type Socket = WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>;

pub(crate) fn streams(plan: &Plan) -> anyhow::Result<Vec<Row>> {
    // A socket on either side for each reader.
    let most = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: most.maximum, maximum: most.maximum })?;
    let settings = ["limits.ceiling.timeout_ms=200000", "server.max_connections=20000"];
    let server = Server::mentat(&settings)?;
    threads()?.block_on(async {
        let client = GrpcClient::connect(&server, CHANNELS).await?;
        client.load(AGENT, &wat::parse_str(WRITES)?, LIMITS).await?;
        let mut all = flood(plan, &server, &client).await?;
        all.extend(latency(&server, &client).await?);
        all.push(waiting(&server, &client).await?);
        Ok(all)
    })
}

/// As fast as it goes: a bare WebSocket server, one stream by WebSocket, one by gRPC, a thousand by gRPC.
async fn flood(plan: &Plan, server: &Server, client: &GrpcClient) -> anyhow::Result<Vec<Row>> {
    let bare = Server::floor(&["web-socket"])?;
    let mut samples = [
        "chunks of one stream: a bare WebSocket server",
        "chunks of one stream, by WebSocket",
        "chunks of one stream, by gRPC",
        "chunks of 1,000 streams at once, by gRPC",
    ]
    .map(|name| Samples::new(name, Unit::PerSecond));
    for _ in 0..plan.slow().rounds {
        let [floor, socket, one, many] = &mut samples;
        let mut reader = connect(&bare, "/", true).await?;
        reader.send(Message::text(CHUNKS.to_string())).await?;
        floor.push(rate(CHUNKS, count_frames(&mut reader, CHUNKS).await.context("the bare server")?));
        let id = start(client, [CHUNKS, 0, FIRST_MS]).await?;
        let mut reader = connect(server, &format!("/ws/streams/{id}"), true).await?;
        socket.push(rate(CHUNKS, count_frames(&mut reader, CHUNKS).await?));
        let began = Instant::now();
        count_events(client, 0, CHUNKS).await?;
        one.push(rate(CHUNKS, began.elapsed()));
        let began = Instant::now();
        let mut calls = JoinSet::new();
        for number in 0..MANY {
            let client = client.clone();
            calls.spawn(async move { count_events(&client, number, CHUNKS_OF_MANY).await });
        }
        while let Some(call) = calls.join_next().await {
            call??;
        }
        many.push(rate(CHUNKS_OF_MANY * u32::try_from(MANY)?, began.elapsed()));
    }
    Ok(rows(&samples))
}

/// From the guest's clock before `write_stream` to the reader's when it has the chunk.
async fn latency(server: &Server, client: &GrpcClient) -> anyhow::Result<Vec<Row>> {
    let id = start(client, [TIMED, PAUSE_MS, FIRST_MS]).await?;
    let mut reader = connect(server, &format!("/ws/streams/{id}"), true).await?;
    let mut took = Vec::new();
    while let Some(frame) = frame(&mut reader).await? {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let written = frame.get(FRAME_HEAD..FRAME_HEAD + 8).context("a chunk without its time")?;
        let written = Duration::from_nanos(u64::from_le_bytes(written.try_into()?));
        took.push(nanoseconds(now.saturating_sub(written)));
    }
    ensure!(took.len() == usize::try_from(TIMED)?, "{} of {TIMED} chunks came", took.len());
    took.sort_unstable_by(f64::total_cmp);
    let at = |percent: usize| took.get(took.len() * percent / 100).copied().unwrap_or(f64::NAN);
    let row = |name: &str, value: f64| {
        let mut samples = Samples::new(name, Unit::Nanoseconds);
        samples.push(value);
        samples.row(None)
    };
    Ok(vec![
        row("from write_stream to a WebSocket: median", at(50)),
        row("from write_stream to a WebSocket: p99", at(99)),
    ])
}

/// What the service takes for readers of a stream on which nothing happens.
async fn waiting(server: &Server, client: &GrpcClient) -> anyhow::Result<Row> {
    let id = start(client, [1, 0, 150_000]).await?;
    let before = server.resident_bytes()?;
    let mut readers = Vec::new();
    for _ in 0..SUBSCRIBERS {
        let mut reader = connect(server, &format!("/ws/streams/{id}"), false).await?;
        // That there is such a stream.
        reader.next().await.context("no first message")??;
        readers.push(reader);
    }
    let mut each = Samples::new("resident for each of 5,000 readers who wait", Unit::Bytes);
    each.push((server.resident_bytes()? - before) / f64::from(u32::try_from(SUBSCRIBERS)?));
    client.channel(0)?.cancel_execution(CancelExecutionRequest { execution_id: id }).await?;
    Ok(each.row(None))
}

fn request([chunks, pause_ms, first_ms]: [u32; 3]) -> ExecuteAgentRequest {
    let input: Vec<u8> = [chunks, pause_ms, first_ms].into_iter().flat_map(u32::to_le_bytes).collect();
    ExecuteAgentRequest { agent_id: AGENT.into(), input: input.into(), ..ExecuteAgentRequest::default() }
}

/// Begins an execution that goes on by itself.
async fn start(client: &GrpcClient, what: [u32; 3]) -> anyhow::Result<String> {
    let request = ExecuteAgentRequest { detach: true, ..request(what) };
    Ok(client.channel(0)?.execute_agent(request).await?.into_inner().execution_id)
}

async fn count_events(client: &GrpcClient, channel: usize, chunks: u32) -> anyhow::Result<()> {
    let call = client.channel(channel)?.execute_agent_stream(request([chunks, 0, 0])).await;
    let (mut events, mut seen) = (call?.into_inner(), 0);
    while let Some(event) = events.message().await? {
        match event.event {
            Some(Event::StreamData(data)) => {
                ensure!(data.chunk.len() == CHUNK_BYTES, "a chunk of {} bytes", data.chunk.len());
                seen += 1;
            }
            Some(Event::Missed(missed)) => bail!("{missed:?}"),
            _ => {}
        }
    }
    ensure!(seen == chunks, "{seen} of {chunks} chunks came");
    Ok(())
}

async fn connect(server: &Server, path: &str, binary: bool) -> anyhow::Result<Socket> {
    let mut request = format!("ws://{}{path}", server.address("http")?).into_client_request()?;
    if binary {
        request.headers_mut().insert(PROTOCOL, "mentat.v1.binary".parse()?);
    }
    Ok(tokio_tungstenite::connect_async(request).await?.0)
}

/// The next chunk; `None` at the end.
async fn frame(reader: &mut Socket) -> anyhow::Result<Option<Bytes>> {
    while let Some(message) = reader.next().await {
        match message? {
            Message::Binary(frame) => return Ok(Some(frame)),
            Message::Text(text) => ensure!(!text.contains(r#""kind":"missed""#), "{text}"),
            Message::Close(_) => break,
            _ => {}
        }
    }
    Ok(None)
}

/// Time from the first chunk to the last.
async fn count_frames(reader: &mut Socket, chunks: u32) -> anyhow::Result<Duration> {
    frame(reader).await?.context("no chunk")?;
    let began = Instant::now();
    for seen in 1..chunks {
        frame(reader).await?.with_context(|| format!("{seen} of {chunks} chunks came"))?;
    }
    Ok(began.elapsed())
}

fn rate(count: u32, time: Duration) -> f64 {
    f64::from(count) / time.as_secs_f64()
}

/// A server that sends as many chunks as it is asked for, and knows of nothing else.
pub(crate) async fn serve_bare(listener: TcpListener) -> anyhow::Result<()> {
    let frame = Bytes::from(vec![7; FRAME_HEAD + CHUNK_BYTES]);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let frame = frame.clone();
        tokio::runtime::Handle::current().spawn(async move {
            // A reader that goes away has what it wanted.
            let _ = answer(stream, frame).await;
        });
    }
}

#[allow(clippy::result_large_err, reason = "the form that the library's callback has")]
async fn answer(stream: tokio::net::TcpStream, frame: Bytes) -> anyhow::Result<()> {
    use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
    let agree = |request: &Request, mut response: Response| {
        if let Some(protocol) = request.headers().get(PROTOCOL) {
            response.headers_mut().insert(PROTOCOL, protocol.clone());
        }
        Ok(response)
    };
    let mut socket = tokio_tungstenite::accept_hdr_async(stream, agree).await?;
    let asked = socket.next().await.context("nobody asked")??;
    let count: u32 = asked.to_text()?.parse()?;
    for _ in 0..count {
        socket.send(Message::Binary(frame.clone())).await?;
    }
    socket.close(None).await?;
    Ok(())
}
