//! `mentat bench runtimes`: one agent as a module and in containers, side by side.
//!
//! Invariant: all kinds are asked in the same way, by the same server, one kind after another, and have to answer alike.

mod memory;
mod server;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mentat_manifest::{AgentId, Instances, Manifest, RuntimeKind, escape_untrusted};
use mentat_runtime::model::ExecutionId;
use mentat_runtime::security::authority::Narrowing;
use mentat_runtime::security::policy::Rules;
use serde::Serialize;

use self::memory::Watch;
use self::server::PrivateServer;
use crate::args::{BenchRuntimesArguments, BenchVerb};
use crate::client::{Client, ExecutedReport, ExecutionWish};
use crate::files;
use crate::output::{self, Failure};
use crate::source::{AgentSource, ManifestFile};
use crate::values::AgentReference;

/// What density is told for.
const GIBIBYTE: u64 = 1 << 30;

/// What was measured.
#[derive(Debug, Serialize)]
struct Comparison {
    agent: String,
    version: String,
    input_bytes: usize,
    rounds: u32,
    parallel: u32,
    processors: usize,
    /// In the order in which they were measured.
    runtimes: Vec<Figures>,
}

/// Of one kind. Times are in microseconds.
#[derive(Debug, Serialize)]
struct Figures {
    /// `wasm`, `container`, or `kept container`.
    kind: &'static str,
    /// From being handed over to being ready: a module is compiled, an image is looked up.
    ready_us: u64,
    /// The first answer after that.
    first_us: u64,
    /// The middle one of the starts, as the server tells them: until the program's first instruction.
    start_us: u64,
    /// One answer after another: the middle one, and the slowest.
    answer_us: u64,
    slowest_us: u64,
    /// Several at a time.
    per_second: f64,
    /// What one takes of memory while several are executed; `None` where the system does not tell.
    memory_bytes: Option<u64>,
    /// How many there is room for in 1 GiB by that.
    in_a_gibibyte: Option<u64>,
}

/// One of the figures.
type Figure = fn(&Figures) -> u64;

/// An agent of one kind.
struct Subject {
    kind: &'static str,
    manifest: ManifestFile,
    module: Bytes,
}

pub(crate) fn run(verb: &BenchVerb) -> Result<ExitCode, Failure> {
    let BenchVerb::Runtimes(arguments) = verb;
    let input = files::read_input(arguments.input.input.as_ref(), Rules::default().max_input)?;
    let comparison = super::threads()?.block_on(async {
        tokio::select! {
            measured = measure(arguments, input) => measured,
            () = super::interrupted() => Err(mentat_runtime::error::Error::Cancelled.into()),
        }
    })?;
    if arguments.json.json {
        output::write_json(&comparison)?;
    } else {
        output::write_stdout(comparison.table().as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn measure(arguments: &BenchRuntimesArguments, input: Bytes) -> Result<Comparison, Failure> {
    let agent = AgentSource::open(&arguments.agent)?;
    let Some(file) = agent.manifest.filter(|file| file.manifest.image.is_some()) else {
        return Err(Failure::invalid(format!(
            "`{}` has no manifest with an `image` besides its module; what is compared is one agent that is both",
            arguments.agent.display()
        )));
    };
    let server = PrivateServer::start(&arguments.socket, &arguments.settings, arguments.parallel)?;
    let mut runtimes = Vec::new();
    let mut expected = None;
    for subject in subjects(&file, &agent.module)? {
        runtimes.push(subject.measure(&server, arguments, &input, &mut expected).await?);
    }
    Ok(Comparison {
        agent: file.manifest.id.to_string(),
        version: file.manifest.version.to_string(),
        input_bytes: input.len(),
        rounds: arguments.rounds,
        parallel: arguments.parallel,
        processors: std::thread::available_parallelism().map_or(1, usize::from),
        runtimes,
    })
}

/// The agent as each kind, by an id of its own. Signatures are left out: they are over what was changed.
fn subjects(file: &ManifestFile, module: &Bytes) -> Result<Vec<Subject>, Failure> {
    let of = |kind, id: &str, change: &dyn Fn(&mut Manifest)| -> Result<Subject, Failure> {
        let mut manifest = file.manifest.clone();
        let id = format!("{}-{id}", manifest.id);
        manifest.id = id.parse::<AgentId>().map_err(|error| Failure::invalid(error.to_string()))?;
        manifest.attestation = None;
        change(&mut manifest);
        // JSON is YAML.
        let text = serde_json::to_string(&manifest)
            .map_err(|error| Failure::system("writing a manifest", &error.into()))?;
        let is_module = manifest.runtime_kind() == RuntimeKind::Wasm;
        Ok(Subject {
            kind,
            manifest: ManifestFile::parse(file.path.clone(), text)?,
            module: if is_module { module.clone() } else { Bytes::new() },
        })
    };
    let container = |manifest: &mut Manifest| {
        manifest.runtime = Some("container".into());
        manifest.module = None;
    };
    let reuse = |manifest: &Manifest| {
        manifest.wasm.as_ref().and_then(|wasm| wasm.instances) == Some(Instances::Reuse)
    };
    let mut subjects = vec![
        of("wasm", "wasm", &|manifest| manifest.image = None)?,
        of("container", "container", &|manifest| {
            container(manifest);
            if let Some(wasm) = &mut manifest.wasm {
                wasm.instances = None;
            }
        })?,
    ];
    if reuse(&file.manifest) {
        subjects.push(of("kept container", "kept", &container)?);
    }
    Ok(subjects)
}

impl Subject {
    async fn measure(
        self,
        server: &PrivateServer,
        arguments: &BenchRuntimesArguments,
        input: &Bytes,
        expected: &mut Option<(Bytes, i32)>,
    ) -> Result<Figures, Failure> {
        let mut client = server.client().await?;
        let agent = AgentReference { id: self.manifest.manifest.id.clone(), version: None };
        let since = Instant::now();
        client.load(&self.manifest, self.module, String::new(), false).await?;
        let ready = since.elapsed();
        let since = Instant::now();
        let first = execute(&mut client, &agent, input).await?;
        let first_took = since.elapsed();
        let came = (first.output, first.exit_code);
        let known = expected.get_or_insert_with(|| came.clone());
        if *known != came {
            return Err(Failure::invalid(format!(
                "the {} answers with {} bytes and exit code {}, the module with {} bytes and {}; what is compared has to be the \
                 same program",
                self.kind,
                came.0.len(),
                came.1,
                known.0.len(),
                known.1
            )));
        }
        let (mut answers, mut starts) = (Vec::new(), Vec::new());
        for _ in 0..arguments.rounds {
            let since = Instant::now();
            let report = execute(&mut client, &agent, input).await?;
            answers.push(since.elapsed());
            starts.push(Duration::from_micros(report.usage.instantiation_us));
        }
        let watch = Watch::begin(server.id());
        let (took, guest_memory) = at_a_time(server, arguments, &agent, input).await?;
        let memory = watch.end(self.kind == "wasm", arguments.parallel).map(|bytes| bytes.max(guest_memory));
        let executions = f64::from(arguments.rounds) * f64::from(arguments.parallel);
        answers.sort_unstable();
        starts.sort_unstable();
        let middle =
            |times: &[Duration]| microseconds(times.get(times.len() / 2).copied().unwrap_or_default());
        Ok(Figures {
            kind: self.kind,
            ready_us: microseconds(ready),
            first_us: microseconds(first_took),
            start_us: middle(&starts),
            answer_us: middle(&answers),
            slowest_us: microseconds(answers.last().copied().unwrap_or_default()),
            per_second: executions / took.as_secs_f64().max(1e-6),
            memory_bytes: memory,
            in_a_gibibyte: memory.map(|bytes| GIBIBYTE / bytes.max(1)),
        })
    }
}

/// Executes several at a time, as many rounds of each; answers how long that took, and the most that a guest had of memory.
async fn at_a_time(
    server: &PrivateServer,
    arguments: &BenchRuntimesArguments,
    agent: &AgentReference,
    input: &Bytes,
) -> Result<(Duration, u64), Failure> {
    let mut clients = Vec::new();
    for _ in 0..arguments.parallel {
        clients.push(server.client().await?);
    }
    let since = Instant::now();
    let mut workers = tokio::task::JoinSet::new();
    for mut client in clients {
        let (agent, input, rounds) =
            (AgentReference { id: agent.id.clone(), version: None }, input.clone(), arguments.rounds);
        workers.spawn(async move {
            let mut memory = 0;
            for _ in 0..rounds {
                memory = memory.max(execute(&mut client, &agent, &input).await?.usage.peak_memory_bytes);
            }
            Ok::<u64, Failure>(memory)
        });
    }
    let mut memory = 0;
    while let Some(worker) = workers.join_next().await {
        let worker = worker.map_err(|error| Failure::system("measuring", &std::io::Error::other(error)))?;
        memory = memory.max(worker?);
    }
    Ok((since.elapsed(), memory))
}

async fn execute(
    client: &mut Client,
    agent: &AgentReference,
    input: &Bytes,
) -> Result<ExecutedReport, Failure> {
    let wish =
        ExecutionWish { execution_id: ExecutionId::new(), narrowing: Narrowing::default(), receipt: false };
    client.execute(agent, input.clone(), &wish, |_| true).await
}

fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl Comparison {
    fn table(&self) -> String {
        let mut text = format!(
            "{} {}: {} bytes of input, {} rounds, {} at a time, {} processors\n",
            escape_untrusted(&self.agent, 128),
            escape_untrusted(&self.version, 64),
            self.input_bytes,
            self.rounds,
            self.parallel,
            self.processors
        );
        let mut row = |title: &str, cell: &dyn Fn(&Figures) -> String| {
            text.push_str(&format!("{title:<18}"));
            for figures in &self.runtimes {
                text.push_str(&format!("{:>24}", cell(figures)));
            }
            text.push('\n');
        };
        row("", &|figures| figures.kind.to_owned());
        let times: [(&str, Figure); 5] = [
            ("ready after", |figures| figures.ready_us),
            ("first answer", |figures| figures.first_us),
            ("start", |figures| figures.start_us),
            ("answer", |figures| figures.answer_us),
            ("slowest answer", |figures| figures.slowest_us),
        ];
        for (title, of) in times {
            row(title, &|figures| {
                self.beside(of(figures), of, &|value| format!("{:.3} ms", value / 1_000.0))
            });
        }
        row("a second", &|figures| {
            let first = self.runtimes.first().map_or(0.0, |first| first.per_second);
            format!("{:.1}{}", figures.per_second, ratio(figures.per_second, first))
        });
        row("memory of one", &|figures| match figures.memory_bytes {
            None => "not told".into(),
            Some(bytes) => self.beside(bytes, |figures| figures.memory_bytes.unwrap_or_default(), &|value| {
                format!("{:.2} MiB", value / f64::from(1 << 20))
            }),
        });
        row("in 1 GiB", &|figures| {
            figures.in_a_gibibyte.map_or_else(|| "not told".into(), |count| count.to_string())
        });
        text
    }

    /// A value, and how many times that of the first kind it is.
    fn beside(&self, value: u64, of: Figure, show: &dyn Fn(f64) -> String) -> String {
        let number = |value: u64| u32::try_from(value).map_or(f64::from(u32::MAX), f64::from);
        let first = self.runtimes.first().map_or(0.0, |first| number(of(first)));
        format!("{}{}", show(number(value)), ratio(number(value), first))
    }
}

/// How many times the first it is; nothing for the first itself.
fn ratio(value: f64, first: f64) -> String {
    if first <= 0.0 || (value - first).abs() < f64::EPSILON {
        return String::new();
    }
    let times = value / first;
    if times >= 10.0 { format!(" ({times:.0} x)") } else { format!(" ({times:.2} x)") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(kind: &'static str, times: u64, memory_bytes: Option<u64>) -> Figures {
        Figures {
            kind,
            ready_us: times,
            first_us: times,
            start_us: times,
            answer_us: times,
            slowest_us: times,
            per_second: 1_000_000.0 / f64::from(u32::try_from(times).unwrap()),
            memory_bytes,
            in_a_gibibyte: memory_bytes.map(|bytes| GIBIBYTE / bytes),
        }
    }

    #[test]
    fn figures_stand_side_by_side_with_what_they_are_of_the_first() {
        let comparison = Comparison {
            agent: "a.b".into(),
            version: "1.0.0".into(),
            input_bytes: 3,
            rounds: 5,
            parallel: 2,
            processors: 2,
            runtimes: vec![figures("wasm", 500, Some(1 << 20)), figures("container", 200_000, None)],
        };
        let table = comparison.table();
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines[0], "a.b 1.0.0: 3 bytes of input, 5 rounds, 2 at a time, 2 processors");
        assert!(
            lines[4].starts_with("start") && lines[4].ends_with("0.500 ms      200.000 ms (400 x)"),
            "{table}"
        );
        assert!(lines[7].ends_with("2000.0            5.0 (0.00 x)"), "{table}");
        assert!(lines[8].ends_with("1.00 MiB                not told"), "{table}");
        assert!(lines[9].contains("1024"), "{table}");
    }
}
