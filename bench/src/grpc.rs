//! The service by gRPC, beside a tonic server that only echoes, and one that also executes the module by Wasmtime alone.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::client::{GrpcClient, Question, threads};
use crate::figures::{Row, Target};
use crate::measure::{Load, Plan};
use crate::modules;
use crate::server::Server;

/// Calls in flight, and the channels that they share.
const IN_FLIGHT: usize = 64;
const CHANNELS: usize = 4;
/// What takes the least that a configuration allows: nothing turns the audit log off.
const LEAST: [&str; 3] = ["audit.sync=never", "log.level=error", "executions.remembered=0"];

/// A server, and what it is asked.
struct Asked {
    client: GrpcClient,
    questions: Arc<[Question]>,
    _server: Server,
}

impl Asked {
    async fn new(server: Server, question: Question) -> anyhow::Result<Self> {
        let client = GrpcClient::connect(&server, CHANNELS).await?;
        Ok(Self { client, questions: [question].into(), _server: server })
    }

    async fn per_second(&self, time: Duration) -> anyhow::Result<f64> {
        let started = std::time::Instant::now();
        let tally = self.client.ask_for(time, IN_FLIGHT, &self.questions).await?;
        tally.ensure_no_errors()?;
        let calls = u32::try_from(tally.latencies.len())?;
        Ok(f64::from(calls) / started.elapsed().as_secs_f64())
    }
}

pub(crate) fn grpc(plan: &Plan) -> anyhow::Result<Vec<Row>> {
    let (threads, work) = (threads()?, modules::tiny()?);
    let expected = work.input.iter().map(|byte| byte.wrapping_add(1)).collect::<Bytes>();
    let right = Question { agent: "bench.tiny".into(), input: work.input.clone(), expected };
    let same = Question { expected: right.input.clone(), ..right.clone() };
    let (raw, echo, shipped, least) = threads.block_on(async {
        let raw = Asked::new(Server::floor(&["grpc-raw", "--module", "tiny"])?, right.clone()).await?;
        let echo = Asked::new(Server::floor(&["grpc-echo"])?, same).await?;
        let shipped = Asked::new(Server::mentat(&[])?, right.clone()).await?;
        let least = Asked::new(Server::mentat(&LEAST)?, right.clone()).await?;
        for server in [&shipped, &least] {
            server.client.load("bench.tiny", &work.module, "").await?;
        }
        anyhow::Ok((raw, echo, shipped, least))
    })?;
    let per_second = |asked: &Asked, time| threads.block_on(asked.per_second(time));
    let measured = plan.long().measure_loads(vec![
        Load::new("tonic and one execution by wasmtime alone", |time| per_second(&raw, time)),
        Load::new("tonic, echoing", |time| per_second(&echo, time)),
        Load::new("mentat serve as it ships", |time| per_second(&shipped, time))
            .aiming_at(Target::RatioAtLeast(0.92)),
        Load::new("mentat serve, recording as little as it can", |time| per_second(&least, time)),
    ])?;
    let mut rows = crate::figures::rows(&measured);
    if let [.., shipped, least] = measured.as_slice() {
        let recording = shipped.over(least, "as it ships, to recording as little as it can");
        rows.push(recording.aiming_at(Target::AtLeast(0.95)).row(None));
    }
    Ok(rows)
}
