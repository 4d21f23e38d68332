//! Ten thousand executions that are alive at the same time, and a hundred thousand where the system allows it, each waiting in a call of the host: what one of them takes.

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

/// Executions that share a channel; the service takes 250 calls of each.
const BY_CHANNEL: usize = 250;
const MOST_BYTES: f64 = 100.0 * 1024.0;
/// Mappings of this process that the system must allow for a hundred thousand: five for each, and room.
const MAPPINGS: u64 = 1_000_000;
const MAPPINGS_ALLOWED: &str = "/proc/sys/vm/max_map_count";

/// So many executions, and a server for them.
struct Parking {
    count: usize,
    /// How the count is said.
    said: &'static str,
    settings: &'static [&'static str],
    /// Longest wait for all of them to be alive.
    patience: Duration,
}

/// As many as there are places as the service ships.
const TEN_THOUSAND: Parking =
    Parking { count: 10_000, said: "10,000", settings: &[CEILING], patience: Duration::from_secs(40) };
/// As docs/performance.md says.
const HUNDRED_THOUSAND: Parking = Parking {
    count: 100_000,
    said: "100,000",
    settings: &[
        CEILING,
        "limits.ceiling.memory=64MB",
        "engine.max_memory=64MB",
        "engine.memory_reservation=64MB",
        "engine.max_executions=100000",
    ],
    patience: Duration::from_secs(120),
};
const CEILING: &str = "limits.ceiling.timeout_ms=200000";
/// Waits for a hundred and fifty seconds.
const WAITS: &str = r#"(module
    (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (func (export "process") (result i32)
      (i32.store (i32.const 16) (i32.const 1))
      (i64.store (i32.const 24) (i64.const 150000000000))
      (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128))))"#;
const LIMITS: &str = "  timeout_ms: 200000\n";

#[allow(clippy::print_stderr, reason = "a developer's tool talks to the terminal")]
pub(crate) fn parked(_: &Plan) -> anyhow::Result<Vec<Row>> {
    let mut rows = threads()?.block_on(TEN_THOUSAND.park())?;
    let allowed: u64 = std::fs::read_to_string(MAPPINGS_ALLOWED)?.trim().parse()?;
    if allowed < MAPPINGS {
        eprintln!(
            "100,000 are not measured: they need `sysctl vm.max_map_count={MAPPINGS}`, and it is {allowed}"
        );
        return Ok(rows);
    }
    rows.extend(threads()?.block_on(HUNDRED_THOUSAND.park())?);
    Ok(rows)
}

impl Parking {
    async fn park(self) -> anyhow::Result<Vec<Row>> {
        let Self { count, said, settings, patience } = self;
        let server = Server::mentat(settings)?;
        let client = GrpcClient::connect(&server, count / BY_CHANNEL).await?;
        client.load("bench.waits", &wat::parse_str(WAITS)?, LIMITS).await?;
        let question = Question { agent: "bench.waits".into(), input: Bytes::new(), expected: Bytes::new() };
        let before = server.resident_bytes()?;
        let mut asked = JoinSet::new();
        asked.spawn(async move { client.ask_at_once(count, &question).await.map(drop) });
        let started = Instant::now();
        while active(&server).await? < count {
            if let Some(ended) = asked.try_join_next() {
                ended??;
                bail!("they did not wait");
            }
            if started.elapsed() > patience {
                bail!("only {} executions were alive at one time", active(&server).await?);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let mut began = Samples::new(format!("until {said} are alive"), Unit::Nanoseconds);
        began.push(started.elapsed().as_secs_f64() * 1e9);
        let mut each = Samples::new(format!("resident for each of {said}"), Unit::Bytes)
            .aiming_at(Target::AtMost(MOST_BYTES));
        each.push((server.resident_bytes()? - before) / f64::from(u32::try_from(count)?));
        // They would wait on; the server goes with them.
        asked.abort_all();
        Ok(vec![began.row(None), each.row(None)])
    }
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
