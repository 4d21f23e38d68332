//! Whether agents that compute without end keep others waiting: the latency of a small one alone, and beside eight that
//! loop on two threads.

use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use bytes::Bytes;
use tokio::task::JoinSet;

use crate::client::{GrpcClient, Question, Tally, threads};
use crate::figures::{Row, Samples, Target, Unit, rows};
use crate::measure::Plan;
use crate::modules;
use crate::server::Server;

const LOOPS: &str = r#"(module
    (memory (export "memory") 1)
    (func (export "process") (result i32) (loop $again (br $again)) (i32.const 0)))"#;
/// More than they use until they are told to end.
const ENDLESS: &str = "  fuel: 1000000000000\n  timeout_ms: 600000\n";
const LOOPING: usize = 8;
/// From asking for the loops to when all of them run.
const SETTLED: Duration = Duration::from_millis(300);
const P99: Duration = Duration::from_millis(5);

pub(crate) fn fairness(plan: &Plan) -> anyhow::Result<Vec<Row>> {
    let (threads, work, plan) = (threads()?, modules::tiny()?, plan.long());
    // Two threads on any machine, so that each has four loops.
    let server = Server::mentat(&["server.guest_threads=2"])?;
    let expected = work.input.iter().map(|byte| byte.wrapping_add(1)).collect::<Bytes>();
    let small = Question { agent: "bench.tiny".into(), input: work.input.clone(), expected };
    let endless = Question { agent: "bench.loops".into(), input: Bytes::new(), expected: Bytes::new() };
    let names = ["alone: median", "alone: p99", "beside eight loops: median", "beside eight loops: p99"];
    let mut measured = names.map(|name| Samples::new(name, Unit::Nanoseconds));
    threads.block_on(async {
        let client = GrpcClient::connect(&server, 2).await?;
        client.load(&small.agent, &work.module, "").await?;
        client.load(&endless.agent, &wat::parse_str(LOOPS)?, ENDLESS).await?;
        let small: Arc<[Question]> = [small].into();
        for round in 0..=plan.rounds {
            let alone = client.ask_for(plan.slice, 1, &small).await?;
            let beside = beside_loops(&client, &small, &endless, plan.slice).await?;
            let figures = [&alone, &beside].map(|tally| [tally.percentile(50), tally.percentile(99)]);
            // The first round warms it up.
            for (samples, figure) in measured.iter_mut().zip(figures.concat()).filter(|_| round > 0) {
                samples.push(figure);
            }
        }
        anyhow::Ok(())
    })?;
    let [alone, alone_p99, beside, beside_p99] = measured;
    Ok(rows(&[
        alone,
        alone_p99,
        beside.aiming_at(Target::RatioAtMost(3.0)),
        beside_p99.aiming_at(Target::AtMost(crate::figures::nanoseconds(P99))),
    ]))
}

async fn beside_loops(
    client: &GrpcClient,
    small: &Arc<[Question]>,
    endless: &Question,
    time: Duration,
) -> anyhow::Result<Tally> {
    let mut loops = JoinSet::new();
    for _ in 0..LOOPING {
        let (mut channel, endless) = (client.channel(1)?, endless.clone());
        loops.spawn(async move { GrpcClient::ask(&mut channel, &endless).await });
    }
    tokio::time::sleep(SETTLED).await;
    let tally = client.ask_for(time, 1, small).await?;
    tally.ensure_no_errors()?;
    if let Some(ended) = loops.try_join_next() {
        bail!("a loop ended by itself: {:?}", ended??);
    }
    // Who asks no longer ends its execution.
    loops.shutdown().await;
    tokio::time::sleep(SETTLED).await;
    Ok(tally)
}
