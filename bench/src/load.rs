//! The service under load: for long, all at once, with many agents, with large inputs. Nothing is compared here; a wrong
//! answer or an error fails the group.

use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;

use crate::client::{GrpcClient, Question, Tally, threads};
use crate::figures::{Row, Samples, Unit};
use crate::measure::Plan;
use crate::modules;
use crate::server::Server;

/// Calls in flight, and the channels that they share.
const IN_FLIGHT: usize = 64;
const CHANNELS: usize = 4;
/// Calls that come at once, on so many channels that all of them reach the service: it takes 250 of each.
const BURST: usize = 10_000;
const BURST_CHANNELS: usize = 40;
/// Agents that are asked in rotation, each with a module of its own.
const AGENTS: u32 = 1000;
/// Bytes of a large input, and how many are on their way at the same time.
const LARGE_BYTES: usize = 64 << 20;
const LARGE_IN_FLIGHT: usize = 4;
/// Large inputs take longer than others.
const LARGE_SLICE: Duration = Duration::from_secs(3);
/// Large inputs, and memory for them.
const LARGE: &str = r#"(module
    (import "mentat" "read_input" (func $read (param i32 i32) (result i32)))
    (import "mentat" "write_output" (func $write (param i32 i32) (result i32)))
    (memory (export "memory") 1024)
    (func (export "process") (result i32)
      (call $write (i32.const 0) (call $read (i32.const 0) (i32.const 67108864)))))"#;
const LARGE_LIMITS: &str = "  memory: { maximum: 128 }\n  max_output: 128MB\n";

/// What came of one kind of load, slice by slice.
struct Report {
    name: &'static str,
    per_second: Samples,
    median: Samples,
    p99: Samples,
    all: Tally,
}

pub(crate) fn load(plan: &Plan) -> anyhow::Result<Vec<Row>> {
    let (threads, plan) = (threads()?, plan.long());
    threads.block_on(async {
        let mut rows = sustained(&plan).await?;
        rows.extend(burst(&plan).await?);
        rows.extend(rotation(&plan).await?);
        rows.extend(large(&plan).await?);
        anyhow::Ok(rows)
    })
}

async fn sustained(plan: &Plan) -> anyhow::Result<Vec<Row>> {
    let server = Server::mentat(&[])?;
    let client = GrpcClient::connect(&server, CHANNELS).await?;
    let questions: Arc<[Question]> = [tiny(&client).await?].into();
    let mut report = Report::new("64 in flight");
    for _ in 0..plan.rounds {
        let started = Instant::now();
        let tally = client.ask_for(plan.slice * 2, IN_FLIGHT, &questions).await?;
        report.add(tally, started.elapsed())?;
    }
    report.rows(&server)
}

async fn burst(plan: &Plan) -> anyhow::Result<Vec<Row>> {
    let server = Server::mentat(&[])?;
    let client = GrpcClient::connect(&server, BURST_CHANNELS).await?;
    let question = tiny(&client).await?;
    let mut report = Report::new("10,000 at once");
    for _ in 0..plan.slow().rounds {
        let started = Instant::now();
        let tally = client.ask_at_once(BURST, &question).await?;
        report.add(tally, started.elapsed())?;
    }
    report.rows(&server)
}

async fn rotation(plan: &Plan) -> anyhow::Result<Vec<Row>> {
    let server = Server::mentat(&[])?;
    let client = GrpcClient::connect(&server, CHANNELS).await?;
    let mut loads =
        Samples::new("1,000 agents: loaded, each compiled in a process of its own", Unit::PerSecond);
    let started = Instant::now();
    let mut questions = Vec::new();
    for number in 0..AGENTS {
        let (agent, input) = (format!("bench.agent-{number}"), Bytes::from_static(&[7; 1024]));
        client.load(&agent, &numbered(number)?, "").await?;
        let expected = input.iter().map(|byte| byte.wrapping_add(1)).chain(number.to_le_bytes()).collect();
        questions.push(Question { agent, input, expected });
    }
    loads.push(f64::from(AGENTS) / started.elapsed().as_secs_f64());
    let questions: Arc<[Question]> = questions.into();
    let mut report = Report::new("1,000 agents in rotation");
    for _ in 0..plan.rounds {
        let started = Instant::now();
        let tally = client.ask_for(plan.slice * 2, IN_FLIGHT, &questions).await?;
        report.add(tally, started.elapsed())?;
    }
    let mut rows = vec![loads.row(None)];
    rows.extend(report.rows(&server)?);
    Ok(rows)
}

async fn large(plan: &Plan) -> anyhow::Result<Vec<Row>> {
    let server = Server::mentat(&[])?;
    let client = GrpcClient::connect(&server, CHANNELS).await?;
    client.load("bench.large", &wat::parse_str(LARGE)?, LARGE_LIMITS).await?;
    let input: Bytes =
        (0..LARGE_BYTES).map(|at| at.to_le_bytes().iter().fold(0, |one, two| one ^ two)).collect();
    let question = Question { agent: "bench.large".into(), expected: input.clone(), input };
    let questions: Arc<[Question]> = [question].into();
    let mut report = Report::new("64 MiB in and out, 4 in flight");
    for _ in 0..plan.slow().rounds {
        let started = Instant::now();
        let tally = client.ask_for(LARGE_SLICE, LARGE_IN_FLIGHT, &questions).await?;
        report.add(tally, started.elapsed())?;
    }
    report.rows(&server)
}

/// Loads the tiny module.
async fn tiny(client: &GrpcClient) -> anyhow::Result<Question> {
    let work = modules::tiny()?;
    client.load("bench.tiny", &work.module, "").await?;
    let expected = work.input.iter().map(|byte| byte.wrapping_add(1)).collect();
    Ok(Question { agent: "bench.tiny".into(), input: work.input, expected })
}

/// The tiny module, with a number that it writes at the end of its output.
fn numbered(number: u32) -> anyhow::Result<Vec<u8>> {
    let end = "(call $write (i32.const 0) (local.get $length))";
    let mut numbered = "(i32.store (local.get $length) (i32.const ".to_owned();
    write!(numbered, "{number}))\n(call $write (i32.const 0) (i32.add (local.get $length) (i32.const 4)))")?;
    let (before, after) = modules::TINY.split_once(end).context("the tiny module has another end")?;
    Ok(wat::parse_str(format!("{before}{numbered}{after}"))?)
}

impl Report {
    fn new(name: &'static str) -> Self {
        let samples = |what: &str, unit| Samples::new(format!("{name}: {what}"), unit);
        Self {
            name,
            per_second: samples("executions", Unit::PerSecond),
            median: samples("latency, median", Unit::Nanoseconds),
            p99: samples("latency, p99", Unit::Nanoseconds),
            all: Tally::default(),
        }
    }

    /// Takes what one slice came to.
    fn add(&mut self, tally: Tally, time: Duration) -> anyhow::Result<()> {
        let answered = u32::try_from(tally.latencies.len())?;
        self.per_second.push(f64::from(answered) / time.as_secs_f64());
        self.median.push(tally.percentile(50));
        self.p99.push(tally.percentile(99));
        self.all.add(tally);
        Ok(())
    }

    /// The rows, with what the server took; none where a call failed.
    fn rows(self, server: &Server) -> anyhow::Result<Vec<Row>> {
        let Self { name, per_second, median, p99, all } = self;
        all.ensure_no_errors().with_context(|| format!("{name}, {} were answered", all.latencies.len()))?;
        let mut peak = Samples::new(format!("{name}: resident at most"), Unit::Bytes);
        peak.push(server.peak_resident_bytes()?);
        Ok([per_second, median, p99, peak].iter().map(|samples| samples.row(None)).collect())
    }
}
