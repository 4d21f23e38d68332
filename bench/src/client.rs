//! Clients of what is measured. Each keeps so many calls in flight, the next as soon as one is answered, and checks every
//! answer. The same ones ask the service and its floors.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail, ensure};
use bytes::Bytes;
use mentat_proto::v1::wasm_runtime_client::WasmRuntimeClient;
use mentat_proto::v1::{ExecuteAgentRequest, LoadAgentRequest};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};
use tonic_types::StatusExt;

use crate::server::Server;

/// Bytes of a message at most; the largest inputs have 64 MiB.
const MAX_MESSAGE_BYTES: usize = 256 << 20;
/// Bytes of a reply's header at most.
const MAX_HEADER_BYTES: usize = 16 << 10;

/// What is asked, and what must come.
#[derive(Clone)]
pub(crate) struct Question {
    pub(crate) agent: String,
    pub(crate) input: Bytes,
    pub(crate) expected: Bytes,
}

/// What came of many calls.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) latencies: Vec<Duration>,
    /// How many were refused or failed, by reason.
    pub(crate) errors: BTreeMap<String, u32>,
}

/// Channels to a gRPC door.
#[derive(Clone)]
pub(crate) struct GrpcClient {
    channels: Vec<WasmRuntimeClient<Channel>>,
}

/// Connections to an HTTP door, opened for each run.
pub(crate) struct HttpClient {
    address: String,
    connections: usize,
    request: Arc<[u8]>,
    expected: Bytes,
}

/// Threads for a client.
pub(crate) fn threads() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

impl Tally {
    pub(crate) fn add(&mut self, other: Self) {
        self.latencies.extend(other.latencies);
        for (reason, count) in other.errors {
            *self.errors.entry(reason).or_default() += count;
        }
    }

    /// The latency that this part of the calls stayed within, in nanoseconds.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        let latency = sorted.get(sorted.len() * percent / 100);
        latency.map_or(f64::NAN, |latency| crate::figures::nanoseconds(*latency))
    }

    pub(crate) fn ensure_no_errors(&self) -> anyhow::Result<()> {
        ensure!(self.errors.is_empty(), "calls failed: {:?}", self.errors);
        Ok(())
    }
}

impl GrpcClient {
    pub(crate) async fn connect(server: &Server, channels: usize) -> anyhow::Result<Self> {
        let endpoint =
            Endpoint::from_shared(format!("http://{}", server.address("grpc")?))?.tcp_nodelay(true);
        let mut connected = Vec::new();
        for _ in 0..channels {
            let client = WasmRuntimeClient::new(endpoint.connect().await?);
            let client = client.max_decoding_message_size(MAX_MESSAGE_BYTES);
            connected.push(client.max_encoding_message_size(MAX_MESSAGE_BYTES));
        }
        Ok(Self { channels: connected })
    }

    /// Loads an agent; `wasm` are lines of its manifest's part of that name.
    pub(crate) async fn load(&self, id: &str, module: &[u8], wasm: &str) -> anyhow::Result<()> {
        let head = format!("id: {id}\nversion: 1.0.0\nruntime: wasm\nmodule: agent.wasm\n");
        let manifest = if wasm.is_empty() { head } else { format!("{head}wasm:\n{wasm}") };
        let request =
            LoadAgentRequest { manifest, wasm_bytes: module.to_vec().into(), ..LoadAgentRequest::default() };
        self.channel(0)?.load_agent(request).await.with_context(|| format!("loading `{id}`"))?;
        Ok(())
    }

    /// Asks once, and answers how long that took, or why it failed.
    ///
    /// # Errors
    /// A wrong answer, which nothing excuses.
    pub(crate) async fn ask(
        client: &mut WasmRuntimeClient<Channel>,
        question: &Question,
    ) -> anyhow::Result<Result<Duration, String>> {
        let request = ExecuteAgentRequest {
            agent_id: question.agent.clone(),
            input: question.input.clone(),
            ..ExecuteAgentRequest::default()
        };
        let started = Instant::now();
        match client.execute_agent(request).await {
            Ok(response) => {
                let latency = started.elapsed();
                let response = response.into_inner();
                let is_right = response.exit_code == 0 && response.output == question.expected;
                ensure!(is_right, "`{}` answered something wrong", question.agent);
                Ok(Ok(latency))
            }
            Err(status) => {
                let reason = status.get_details_error_info().map(|info| info.reason);
                Ok(Err(reason.unwrap_or_else(|| format!("{:?}: {}", status.code(), status.message()))))
            }
        }
    }

    /// Asks for so long, with so many calls in flight, each question in its turn.
    pub(crate) async fn ask_for(
        &self,
        time: Duration,
        in_flight: usize,
        questions: &Arc<[Question]>,
    ) -> anyhow::Result<Tally> {
        let mut tasks = JoinSet::new();
        for number in 0..in_flight {
            let (mut client, questions) = (self.channel(number)?, Arc::clone(questions));
            tasks.spawn(async move {
                let (mut tally, started) = (Tally::default(), Instant::now());
                let turns = questions.iter().cycle().skip(number * questions.len() / in_flight);
                for question in turns {
                    if started.elapsed() >= time {
                        break;
                    }
                    tally.note(Self::ask(&mut client, question).await?);
                }
                anyhow::Ok(tally)
            });
        }
        gather(tasks).await
    }

    /// Asks so often at once.
    pub(crate) async fn ask_at_once(&self, calls: usize, question: &Question) -> anyhow::Result<Tally> {
        let mut tasks = JoinSet::new();
        for number in 0..calls {
            let (mut client, question) = (self.channel(number)?, question.clone());
            tasks.spawn(async move {
                let mut tally = Tally::default();
                tally.note(Self::ask(&mut client, &question).await?);
                anyhow::Ok(tally)
            });
        }
        gather(tasks).await
    }

    /// The channel for a task of this number.
    pub(crate) fn channel(&self, number: usize) -> anyhow::Result<WasmRuntimeClient<Channel>> {
        let turn = number.checked_rem(self.channels.len()).context("there are no channels")?;
        self.channels.get(turn).cloned().context("there is no such channel")
    }
}

impl Tally {
    fn note(&mut self, asked: Result<Duration, String>) {
        match asked {
            Ok(latency) => self.latencies.push(latency),
            Err(reason) => *self.errors.entry(reason).or_default() += 1,
        }
    }
}

async fn gather(mut tasks: JoinSet<anyhow::Result<Tally>>) -> anyhow::Result<Tally> {
    let mut all = Tally::default();
    while let Some(tally) = tasks.join_next().await {
        all.add(tally??);
    }
    Ok(all)
}

impl HttpClient {
    /// One that posts the question's input as a raw body.
    pub(crate) fn new(server: &Server, connections: usize, question: &Question) -> anyhow::Result<Self> {
        let Question { agent, input, expected } = question;
        let address = server.address("http")?.to_owned();
        let head = format!(
            "POST /v1/agents/{agent}/execute HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/octet-stream\r\n\
             content-length: {}\r\n\r\n",
            input.len()
        );
        let request = [head.as_bytes(), input].concat().into();
        Ok(Self { address, connections, request, expected: expected.clone() })
    }

    /// Asks so often, one time after the other.
    pub(crate) async fn ask_times(&self, times: u32) -> anyhow::Result<()> {
        let (mut stream, mut reply) = (TcpStream::connect(&self.address).await?, Vec::new());
        stream.set_nodelay(true)?;
        for _ in 0..times {
            stream.write_all(&self.request).await?;
            ensure!(read_reply(&mut stream, &mut reply).await? == &*self.expected, "a wrong answer");
        }
        Ok(())
    }

    /// Asks for so long, and answers how often in a second; connecting does not count.
    pub(crate) async fn ask_for(&self, time: Duration) -> anyhow::Result<f64> {
        let mut streams = Vec::new();
        for _ in 0..self.connections {
            let stream = TcpStream::connect(&self.address).await?;
            stream.set_nodelay(true)?;
            streams.push(stream);
        }
        let (mut tasks, started) = (JoinSet::new(), Instant::now());
        for mut stream in streams {
            let (request, expected) = (Arc::clone(&self.request), self.expected.clone());
            tasks.spawn(async move {
                let (mut requests, mut reply) = (0u32, Vec::new());
                while started.elapsed() < time {
                    stream.write_all(&request).await?;
                    let body = read_reply(&mut stream, &mut reply).await?;
                    ensure!(body == &*expected, "a wrong answer");
                    requests += 1;
                }
                anyhow::Ok(requests)
            });
        }
        let mut requests = 0;
        while let Some(done) = tasks.join_next().await {
            requests += done??;
        }
        Ok(f64::from(requests) / started.elapsed().as_secs_f64())
    }
}

/// Reads one reply, and answers its body.
async fn read_reply<'a>(stream: &mut TcpStream, reply: &'a mut Vec<u8>) -> anyhow::Result<&'a [u8]> {
    reply.clear();
    let end = loop {
        if let Some(end) = reply.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            break end;
        }
        ensure!(reply.len() < MAX_HEADER_BYTES, "the reply's header has no end");
        ensure!(stream.read_buf(reply).await? > 0, "the server closed the connection");
    };
    let head = std::str::from_utf8(reply.get(..end).unwrap_or_default())?;
    if !head.starts_with("HTTP/1.1 200") {
        bail!("the server answered `{head}`");
    }
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    let length = lines.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length: usize = length.context("the reply does not say how long it is")?.1.trim().parse()?;
    let whole = end + 4 + length;
    while reply.len() < whole {
        ensure!(stream.read_buf(reply).await? > 0, "the server closed the connection");
    }
    reply.get(end + 4..whole).ok_or_else(|| anyhow!("the reply is too short"))
}
