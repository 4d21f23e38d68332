//! Ten thousand executions that are alive at the same time, each waiting in a call of the host: what one of them takes.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::client::{GrpcClient, Question, threads};
use crate::figures::{Row, Samples, Target, Unit};
use crate::measure::Plan;
use crate::server::Server;

/// Executions that are alive at one time: as many as there are places as the service ships.
const PARKED: usize = 10_000;
/// Channels that they share: the service takes 250 calls of each.
const CHANNELS: usize = 40;
/// Longest wait for all of them to be alive.
const PATIENCE: Duration = Duration::from_secs(40);
const MOST_BYTES: f64 = 100.0 * 1024.0;
/// Waits for fifty seconds.
const WAITS: &str = r#"(module
    (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (func (export "process") (result i32)
      (i32.store (i32.const 16) (i32.const 1))
      (i64.store (i32.const 24) (i64.const 50000000000))
      (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128))))"#;
const LIMITS: &str = "  timeout_ms: 60000\n";

pub(crate) fn parked(_: &Plan) -> anyhow::Result<Vec<Row>> {
    threads()?.block_on(async {
        let server = Server::mentat(&["limits.ceiling.timeout_ms=60000"])?;
        let client = GrpcClient::connect(&server, CHANNELS).await?;
        client.load("bench.waits", &wat::parse_str(WAITS)?, LIMITS).await?;
        let question = Question { agent: "bench.waits".into(), input: Bytes::new(), expected: Bytes::new() };
        let before = server.resident_bytes()?;
        let mut asked = JoinSet::new();
        asked.spawn(async move { client.ask_at_once(PARKED, &question).await.map(drop) });
        let started = Instant::now();
        while active(&server).await? < PARKED {
            if let Some(ended) = asked.try_join_next() {
                ended??;
                bail!("they did not wait");
            }
            if started.elapsed() > PATIENCE {
                bail!("only {} executions were alive at one time", active(&server).await?);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let mut began = Samples::new("until 10,000 are alive", Unit::Nanoseconds);
        began.push(started.elapsed().as_secs_f64() * 1e9);
        let mut each =
            Samples::new("resident for each of 10,000", Unit::Bytes).aiming_at(Target::AtMost(MOST_BYTES));
        each.push((server.resident_bytes()? - before) / f64::from(u32::try_from(PARKED)?));
        // They would wait on; the server goes with them.
        asked.abort_all();
        Ok(vec![began.row(None), each.row(None)])
    })
}

/// Executions that are alive, by the service's own count.
async fn active(server: &Server) -> anyhow::Result<usize> {
    let mut connection = TcpStream::connect(server.address("http")?).await?;
    connection.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await?;
    let active =
        answer.lines().find_map(|line| line.strip_prefix("wasm_instances_total{status=\"active\"} "));
    Ok(active.context("the metric is missing")?.trim().parse()?)
}
