//! Whether those who want much keep others waiting: the latency of a small agent alone, beside agents that loop on two
//! threads, and beside clients that load one module after another which nobody has seen before.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::bail;
use bytes::Bytes;
use tokio::task::JoinSet;

use crate::client::{GrpcClient, Question, Tally, threads};
use crate::figures::{Row, Samples, Target, Unit, nanoseconds, rows};
use crate::measure::Plan;
use crate::modules;
use crate::server::Server;

const LOOPS: &str = r#"(module
    (memory (export "memory") 1)
    (func (export "process") (result i32) (loop $again (br $again)) (i32.const 0)))"#;
/// More than they use until they are told to end.
const ENDLESS: &str = "  fuel: 1000000000000\n  timeout_ms: 600000\n";
/// From asking for a crowd to when all of it runs, and from its end to when all is quiet.
const SETTLED: Duration = Duration::from_millis(300);
const P99: Duration = Duration::from_millis(5);
/// Clients that load at the same time.
const LOADING: usize = 8;
/// Channels of all calls: the service takes 250 of one.
const CHANNELS: usize = 6;

/// Who is there besides the small agent.
#[derive(Clone, Copy)]
enum Crowd {
    Nobody,
    /// So many that loop.
    Loops(usize),
    /// Clients that load modules, each to be compiled.
    Loads,
}

/// What a crowd works with.
struct Stage {
    client: GrpcClient,
    small: Arc<[Question]>,
    endless: Question,
    /// A module of some size.
    module: Arc<[u8]>,
    /// Makes each module another one.
    number: Arc<AtomicU32>,
}

pub(crate) fn fairness(plan: &Plan) -> anyhow::Result<Vec<Row>> {
    let (threads, work, plan) = (threads()?, modules::tiny()?, plan.long());
    // Two threads on any machine, so that each has half of the loops.
    let server = Server::mentat(&["server.guest_threads=2"])?;
    let expected = work.input.iter().map(|byte| byte.wrapping_add(1)).collect::<Bytes>();
    let small = Question { agent: "bench.tiny".into(), input: work.input.clone(), expected };
    let endless = Question { agent: "bench.loops".into(), input: Bytes::new(), expected: Bytes::new() };
    let crowds = [
        (Crowd::Nobody, "alone"),
        (Crowd::Loops(8), "beside eight loops"),
        (Crowd::Loops(1000), "beside a thousand loops"),
        (Crowd::Loads, "beside a storm of compiles"),
    ];
    let mut measured = crowds.map(|(_, name)| {
        ["median", "p99"].map(|what| Samples::new(format!("{name}: {what}"), Unit::Nanoseconds))
    });
    threads.block_on(async {
        let client = GrpcClient::connect(&server, CHANNELS).await?;
        client.load(&small.agent, &work.module, "").await?;
        client.load(&endless.agent, &wat::parse_str(LOOPS)?, ENDLESS).await?;
        let (small, module) = ([small].into(), modules::go()?.module.into());
        let stage = Stage { client, small, endless, module, number: Arc::default() };
        for round in 0..=plan.rounds {
            for ((crowd, _), [median, p99]) in crowds.iter().zip(&mut measured) {
                let tally = stage.ask_beside(*crowd, plan.slice).await?;
                // The first round warms it up.
                if round > 0 {
                    median.push(tally.percentile(50));
                    p99.push(tally.percentile(99));
                }
            }
        }
        anyhow::Ok(())
    })?;
    let [alone, crowded @ ..] = measured;
    let crowded = crowded.map(|[median, p99]| {
        [median.aiming_at(Target::RatioAtMost(3.0)), p99.aiming_at(Target::AtMost(nanoseconds(P99)))]
    });
    let all: Vec<Samples> = alone.into_iter().chain(crowded.into_iter().flatten()).collect();
    Ok(rows(&all))
}

impl Stage {
    async fn ask_beside(&self, crowd: Crowd, time: Duration) -> anyhow::Result<Tally> {
        let mut members = JoinSet::new();
        match crowd {
            Crowd::Nobody => {}
            Crowd::Loops(count) => {
                for number in 0..count {
                    let (mut channel, endless) = (self.client.channel(number + 1)?, self.endless.clone());
                    members.spawn(async move {
                        let ended = GrpcClient::ask(&mut channel, &endless).await;
                        bail!("a loop ended by itself: {ended:?}")
                    });
                }
            }
            Crowd::Loads => {
                for _ in 0..LOADING {
                    members.spawn(self.load_again_and_again());
                }
            }
        }
        tokio::time::sleep(SETTLED).await;
        let tally = self.client.ask_for(time, 1, &self.small).await?;
        tally.ensure_no_errors()?;
        if let Some(ended) = members.try_join_next() {
            ended??;
        }
        // Who asks no longer ends its execution, or its compile.
        members.shutdown().await;
        tokio::time::sleep(SETTLED).await;
        Ok(tally)
    }

    /// Loads one agent after another, each with a module of its own.
    fn load_again_and_again(&self) -> impl Future<Output = anyhow::Result<()>> + Send + 'static {
        let (client, module, number) = (self.client.clone(), self.module.clone(), self.number.clone());
        async move {
            loop {
                let number = number.fetch_add(1, Ordering::Relaxed);
                // A custom section that holds the number.
                let [a, b, c, d] = number.to_le_bytes();
                let module = [&module[..], &[0, 6, 1, b'n', a, b, c, d]].concat();
                client.load(&format!("bench.new-{number}"), &module, "").await?;
            }
        }
    }
}
