//! The service by HTTP, raw body in and out, beside a hyper server that executes the module by Wasmtime alone.

use bytes::Bytes;

use crate::client::{GrpcClient, HttpClient, Question, threads};
use crate::figures::{Row, Target, rows};
use crate::measure::{Load, Plan};
use crate::modules;
use crate::raw::{Raw, Settings};
use crate::server::Server;

/// Connections that are kept, each with one request at a time.
const CONNECTIONS: usize = 32;

pub(crate) fn http(plan: &Plan) -> anyhow::Result<Vec<Row>> {
    let (threads, mut all) = (threads()?, Vec::new());
    let mentat = Server::mentat(&[])?;
    for work in [modules::tiny()?, modules::text()?] {
        let raw = Raw::new(&work.module, Settings::best(1))?;
        let expected = Bytes::from(threads.block_on(raw.output(work.input.clone()))?);
        let agent = format!("bench.{}", work.name.replace(' ', "-"));
        threads.block_on(async {
            GrpcClient::connect(&mentat, 1).await?.load(&agent, &work.module, "").await
        })?;
        let question = Question { agent, input: work.input.clone(), expected };
        let floor = Server::floor(&["http-raw", "--module", work.name])?;
        let alone = HttpClient::new(&floor, CONNECTIONS, &question)?;
        let ours = HttpClient::new(&mentat, CONNECTIONS, &question)?;
        let name = work.name;
        let measured = plan.long().measure_loads(vec![
            Load::new(format!("{name}: hyper and one execution by wasmtime alone"), |time| {
                threads.block_on(alone.ask_for(time))
            }),
            Load::new(format!("{name}: mentat serve as it ships"), |time| {
                threads.block_on(ours.ask_for(time))
            })
            .aiming_at(Target::RatioAtLeast(0.85)),
        ])?;
        all.extend(rows(&measured));
    }
    Ok(all)
}
