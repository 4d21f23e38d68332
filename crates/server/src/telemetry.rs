//! What the service tells its operator: metrics in Prometheus' text form, and logs. Knows what
//! happened, not who asked.
//!
//! Invariant: a metric's labels take a bounded number of values, whatever clients send.

mod attestation;
mod containers;
mod media;
mod pulls;
mod rollout;
mod samples;
mod streams;

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::io::IsTerminal;
use std::sync::atomic::Ordering;

use mentat_manifest::{AgentId, ByteCount, CapabilityKind};
use mentat_runtime::error::{Error, Reason};
use mentat_runtime::model::Outcome;
use mentat_runtime::security::attestation::Verification;
use mentat_runtime::security::audit::Decisions;
use mentat_runtime::{CodeOrigin, MediaCounts};
use parking_lot::RwLock;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tracing_subscriber::EnvFilter;

use self::attestation::AttestationMetrics;
pub use self::containers::ContainerLevels;
use self::containers::ContainerMetrics;
use self::media::MediaMetrics;
use self::pulls::PullMetrics;
use self::rollout::RolloutMetrics;
use self::samples::{Sample, Samples};
pub use self::streams::StreamLevels;
use self::streams::StreamMetrics;
use crate::config::{LogConfig, LogFormat};
use crate::signatures::StandingCounts;

/// Agents that have a label of their own; the rest are counted as `other`.
const MAX_AGENT_LABELS: usize = 1000;

/// Every metric: its name as scraped, what it means, and its labels.
pub const METRICS: &[(&str, &str, &str)] = &[
    ("wasm_instances_total", "Places for executions that are taken (active) and free (idle)", "status"),
    (
        "wasm_instantiation_duration_seconds",
        "From having a place to the first instruction of the entry point",
        "",
    ),
    (
        "wasm_execution_duration_seconds",
        "From the first instruction of the entry point to its end",
        "agent_id, outcome",
    ),
    ("wasm_fuel_consumed", "Fuel consumed by all executions", ""),
    ("wasm_warm_instances", "Instances that wait for the next execution of their agent", ""),
    (
        "wasm_memory_usage_bytes",
        "Linear memory that all executions have now (used), and may have (limit)",
        "kind",
    ),
    ("wasm_memory_peak_bytes", "Largest sum of linear memories of one execution", "agent_id"),
    ("wasm_compile_duration_seconds", "Compiling a module and linking it", ""),
    ("wasm_module_cache_hits", "Loads whose compiled code was in memory or on disk", ""),
    ("wasm_module_cache_misses", "Loads whose code had to be compiled", ""),
    (
        "wasm_module_cache_evictions",
        "Agents that left memory, and artifacts that left the disk, for others",
        "place",
    ),
    ("capability_requests", "Decisions on capabilities that executions asked for", "kind, result"),
    (
        "attestation_verification_duration_seconds",
        "Verifying the signature of an agent; `valid`, or the code of what is wrong",
        "result",
    ),
    (
        "attestation_agents",
        "Agents in memory, by how far their signers are trusted; `refused` are all that are stored and may not run",
        "trust",
    ),
    (
        "attestation_unenforced",
        "Loads of unsigned agents that are refused from `attestation.enforce_from` on",
        "",
    ),
    ("admission_rejected", "Executions and compiles refused for want of a place", "reason"),
    (
        "media_objects",
        "Objects that executions opened (read) and stored, that have expired, or were damaged",
        "what",
    ),
    ("media_bytes", "Bytes that executions read from the media store, and stored there", "what"),
    ("media_failures", "Requests that the media store failed, or did not answer in time", ""),
    ("oci_pulls", "Agents that were pulled from registries, or were to be", "result"),
    (
        "server_in_flight_bytes",
        "Bytes of requests that are being worked on and of replies that are not yet sent",
        "",
    ),
    ("container_executions_total", "Places for containers, taken (active) and free (idle)", "status"),
    ("container_start_duration_seconds", "From admission to the start of an execution's container", ""),
    ("container_execution_duration_seconds", "From the start of a container to its end", "agent_id, outcome"),
    ("container_engine_up", "1 where the container engine answers", ""),
    ("container_swept", "Containers that were left and swept away", ""),
    ("container_warm", "Containers that wait for the next execution of their agent", ""),
    ("container_reused", "Executions that a container served which had waited", ""),
    (
        "container_recycled",
        "Containers that had waited and were removed: used up, idle, displaced, or unwell",
        "",
    ),
    ("container_busy", "Of those, the ones that computed while they waited", ""),
    (
        "rollout_executions",
        "Executions of agents that have both a module and an image, by what executed them and why: `listed`, `percent`, or `engine_away`",
        "runtime, reason",
    ),
    ("stream_events", "Events of executions and of streams from elsewhere", ""),
    ("stream_events_dropped", "Events that went to make room for later ones", ""),
    ("stream_buffered_bytes", "Bytes of events that are kept for their readers", ""),
    ("stream_sockets", "WebSockets that follow streams", ""),
    ("stream_published", "Open streams of agents elsewhere", ""),
];

/// The service's metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    instances: Family<InstanceLabels, Gauge>,
    instantiation: Histogram,
    execution: Family<ExecutionLabels, Histogram>,
    fuel: Counter,
    warm: Gauge,
    memory: Family<MemoryLabels, Gauge>,
    memory_peak: Family<AgentLabels, Gauge>,
    compile: Histogram,
    cache_hits: Counter,
    cache_misses: Counter,
    evictions: Family<PlaceLabels, Counter>,
    capabilities: Family<CapabilityLabels, Counter>,
    rejected: Family<RejectionLabels, Counter>,
    attestation: AttestationMetrics,
    media: MediaMetrics,
    pulls: PullMetrics,
    containers: ContainerMetrics,
    rollout: RolloutMetrics,
    in_flight: Gauge,
    streams: StreamMetrics,
    agents: RwLock<HashSet<AgentId>>,
    /// Executions that came to an end and are not in the metrics yet.
    samples: Samples,
}

/// What rises and falls, read when the metrics are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Levels {
    /// Places for executions that are taken.
    pub active: u32,
    /// Places in all.
    pub places: u32,
    /// Instances that wait for their agent's next execution.
    pub warm: usize,
    /// Bytes on their way.
    pub in_flight_bytes: u64,
    /// What is kept of streams, and who follows them.
    pub streams: StreamLevels,
    /// Bytes of linear memory that all executions have.
    pub memory_used: ByteCount,
    /// Bytes that they may have.
    pub memory_limit: ByteCount,
    /// Agents that left memory for others, so far.
    pub memory_evictions: u64,
    /// Artifacts that left the disk for others, so far.
    pub disk_evictions: u64,
    /// What happened to objects of the media store, so far.
    pub media: MediaCounts,
    /// How the agents in memory stand by their signatures.
    pub standings: StandingCounts,
    /// What there is of containers.
    pub containers: ContainerLevels,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InstanceLabels {
    status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MemoryLabels {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PlaceLabels {
    place: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AgentLabels {
    agent_id: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ExecutionLabels {
    agent_id: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CapabilityLabels {
    kind: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RejectionLabels {
    reason: &'static str,
}

impl Metrics {
    /// Metrics at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            instances: Family::default(),
            instantiation: Histogram::new(micro_buckets()),
            execution: Family::new_with_constructor(|| Histogram::new(micro_buckets())),
            fuel: Counter::default(),
            warm: Gauge::default(),
            memory: Family::default(),
            memory_peak: Family::default(),
            compile: Histogram::new([0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0]),
            cache_hits: Counter::default(),
            cache_misses: Counter::default(),
            evictions: Family::default(),
            capabilities: Family::default(),
            rejected: Family::default(),
            attestation: AttestationMetrics::default(),
            media: MediaMetrics::default(),
            pulls: PullMetrics::default(),
            containers: ContainerMetrics::default(),
            rollout: RolloutMetrics::default(),
            in_flight: Gauge::default(),
            streams: StreamMetrics::default(),
            agents: RwLock::default(),
            samples: Samples::default(),
        };
        for (name, help, _) in METRICS {
            metrics.register(name, help);
        }
        metrics
    }

    fn register(&mut self, name: &'static str, help: &'static str) {
        let registry = &mut self.registry;
        match name {
            "wasm_instances_total" => registry.register(name, help, self.instances.clone()),
            "wasm_instantiation_duration_seconds" => {
                registry.register(name, help, self.instantiation.clone());
            }
            "wasm_execution_duration_seconds" => registry.register(name, help, self.execution.clone()),
            "wasm_fuel_consumed" => registry.register(name, help, self.fuel.clone()),
            "wasm_warm_instances" => registry.register(name, help, self.warm.clone()),
            "wasm_memory_usage_bytes" => registry.register(name, help, self.memory.clone()),
            "wasm_memory_peak_bytes" => registry.register(name, help, self.memory_peak.clone()),
            "wasm_compile_duration_seconds" => registry.register(name, help, self.compile.clone()),
            "wasm_module_cache_hits" => registry.register(name, help, self.cache_hits.clone()),
            "wasm_module_cache_misses" => registry.register(name, help, self.cache_misses.clone()),
            "wasm_module_cache_evictions" => registry.register(name, help, self.evictions.clone()),
            "server_in_flight_bytes" => registry.register(name, help, self.in_flight.clone()),
            "stream_events" => registry.register(name, help, self.streams.events.clone()),
            "stream_events_dropped" => registry.register(name, help, self.streams.dropped.clone()),
            "stream_buffered_bytes" => registry.register(name, help, self.streams.bytes.clone()),
            "stream_sockets" => registry.register(name, help, self.streams.sockets.clone()),
            "stream_published" => registry.register(name, help, self.streams.published.clone()),
            "capability_requests" => registry.register(name, help, self.capabilities.clone()),
            "attestation_verification_duration_seconds" => {
                registry.register(name, help, self.attestation.verification.clone());
            }
            "attestation_agents" => registry.register(name, help, self.attestation.agents.clone()),
            "attestation_unenforced" => registry.register(name, help, self.attestation.unenforced.clone()),
            "media_objects" => registry.register(name, help, self.media.objects.clone()),
            "media_bytes" => registry.register(name, help, self.media.bytes.clone()),
            "media_failures" => registry.register(name, help, self.media.failures.clone()),
            "oci_pulls" => registry.register(name, help, self.pulls.clone()),
            "container_executions_total" => registry.register(name, help, self.containers.places.clone()),
            "container_start_duration_seconds" => {
                registry.register(name, help, self.containers.start.clone());
            }
            "container_execution_duration_seconds" => {
                registry.register(name, help, self.containers.execution.clone());
            }
            "container_engine_up" => registry.register(name, help, self.containers.engine_up.clone()),
            "container_swept" => registry.register(name, help, self.containers.swept.clone()),
            "container_warm" => registry.register(name, help, self.containers.warm.clone()),
            "container_reused" => registry.register(name, help, self.containers.reused.clone()),
            "container_recycled" => registry.register(name, help, self.containers.recycled.clone()),
            "container_busy" => registry.register(name, help, self.containers.busy.clone()),
            "rollout_executions" => registry.register(name, help, self.rollout.clone()),
            "admission_rejected" => registry.register(name, help, self.rejected.clone()),
            // The table is ours; the test below holds every row of it to the registry.
            _ => {}
        }
    }

    /// Counts a module that was made ready.
    pub fn module_loaded(&self, origin: CodeOrigin) {
        match origin {
            CodeOrigin::Memory | CodeOrigin::Disk => {
                self.cache_hits.inc();
            }
            CodeOrigin::Compiled(took) => {
                self.cache_misses.inc();
                self.compile.observe(took.as_secs_f64());
            }
        }
    }

    /// Counts a load that was refused for want of a place to compile.
    pub fn compile_rejected(&self) {
        self.rejected.get_or_create(&RejectionLabels { reason: "compile_queue" }).inc();
    }

    /// Counts a signature that was verified.
    pub fn attestation_verified(&self, verification: &Verification) {
        self.attestation.verified(verification.result, verification.took);
    }

    /// Counts a load that is refused from a date on.
    pub fn attestation_unenforced(&self) {
        self.attestation.unenforced.inc();
    }

    /// Whether an execution was refused for want of a place, which is counted then.
    fn is_rejected(&self, outcome: &Outcome) -> bool {
        let is_rejected = matches!(outcome.result, Err(Error::Overloaded { .. }));
        if is_rejected {
            self.rejected.get_or_create(&RejectionLabels { reason: "overloaded" }).inc();
        }
        is_rejected
    }

    /// Counts an execution in a container that came to an end.
    pub fn container_executed(&self, agent: &AgentId, outcome: &Outcome) {
        if self.is_rejected(outcome) {
            return;
        }
        let labels = ExecutionLabels { agent_id: self.agent_label(agent), outcome: outcome_label(outcome) };
        let usage = &outcome.usage;
        self.containers.start.observe(usage.instantiation.as_secs_f64());
        self.containers.execution.get_or_create_owned(&labels).observe(usage.execution.as_secs_f64());
    }

    /// Counts an execution of a module that came to an end.
    pub fn executed(&self, agent: &AgentId, outcome: &Outcome) {
        if self.is_rejected(outcome) {
            return;
        }
        let usage = &outcome.usage;
        let full = self.samples.add(Sample {
            agent: agent.clone(),
            outcome: outcome_label(outcome),
            instantiation: usage.instantiation,
            execution: usage.execution,
            fuel: usage.fuel.map_or(0, |fuel| fuel.0),
            peak_memory: usage.peak_memory,
        });
        if let Some(samples) = full {
            self.count(samples);
        }
    }

    /// Counts executions, those of an agent that ended alike together.
    fn count(&self, mut samples: Vec<Sample>) {
        let key = |sample: &Sample| (sample.agent.clone(), sample.outcome);
        samples.sort_unstable_by_key(key);
        for alike in samples.chunk_by(|one, next| key(one) == key(next)) {
            let Some(Sample { agent, outcome, .. }) = alike.first() else { continue };
            let agent_id = self.agent_label(agent);
            let peak = alike.iter().map(|sample| sample.peak_memory.0).max().unwrap_or_default();
            let peaks = self.memory_peak.get_or_create_owned(&AgentLabels { agent_id: agent_id.clone() });
            peaks.inner().fetch_max(i64::try_from(peak).unwrap_or(i64::MAX), Ordering::Relaxed);
            self.fuel.inc_by(alike.iter().fold(0, |sum, sample| sum.wrapping_add(sample.fuel)));
            let execution = self.execution.get_or_create_owned(&ExecutionLabels { agent_id, outcome });
            for sample in alike {
                self.instantiation.observe(sample.instantiation.as_secs_f64());
                execution.observe(sample.execution.as_secs_f64());
            }
        }
    }

    /// Counts what an execution was given and refused.
    pub fn decided(&self, decisions: &BTreeMap<CapabilityKind, Decisions>) {
        for (kind, decisions) in decisions {
            for (result, count) in [("granted", decisions.granted), ("denied", decisions.denied)] {
                let labels = CapabilityLabels { kind: kind.as_str(), result };
                self.capabilities.get_or_create(&labels).inc_by(count);
            }
        }
    }

    /// The metrics in OpenMetrics text form, with what stands at a level now.
    ///
    /// # Errors
    /// Never in practice: writing to a string does not fail.
    pub fn render(&self, levels: &Levels) -> Result<String, fmt::Error> {
        self.count(self.samples.take());
        let place = |status| self.instances.get_or_create_owned(&InstanceLabels { status });
        place("active").set(i64::from(levels.active));
        place("idle").set(i64::from(levels.places.saturating_sub(levels.active)));
        self.warm.set(i64::try_from(levels.warm).unwrap_or(i64::MAX));
        let memory = |kind| self.memory.get_or_create_owned(&MemoryLabels { kind });
        let bytes = |count: ByteCount| i64::try_from(count.0).unwrap_or(i64::MAX);
        memory("used").set(bytes(levels.memory_used));
        memory("limit").set(bytes(levels.memory_limit));
        let evictions = |place| self.evictions.get_or_create_owned(&PlaceLabels { place });
        evictions("memory").inner().store(levels.memory_evictions, Ordering::Relaxed);
        evictions("disk").inner().store(levels.disk_evictions, Ordering::Relaxed);
        self.in_flight.set(i64::try_from(levels.in_flight_bytes).unwrap_or(i64::MAX));
        self.streams.set(&levels.streams);
        self.media.set(&levels.media);
        self.attestation.set(&levels.standings);
        self.containers.set(&levels.containers);
        let mut rendered = String::new();
        text::encode(&mut rendered, &self.registry)?;
        Ok(rendered)
    }

    fn agent_label(&self, agent: &AgentId) -> String {
        if self.agents.read().contains(agent) {
            return agent.to_string();
        }
        let mut agents = self.agents.write();
        if agents.len() >= MAX_AGENT_LABELS && !agents.contains(agent) {
            return "other".into();
        }
        agents.insert(agent.clone());
        agent.to_string()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn micro_buckets() -> impl Iterator<Item = f64> {
    // From ten microseconds to ten minutes, by powers of about three.
    [1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 600.0].into_iter()
}

fn outcome_label(outcome: &Outcome) -> &'static str {
    let reason = match &outcome.result {
        Ok(answer) if answer.exit_code == 0 => return "ok",
        Ok(_) => return "exit_nonzero",
        Err(error) => error.reason(),
    };
    match reason {
        Reason::InvalidManifest => "invalid_manifest",
        Reason::InvalidModule => "invalid_module",
        Reason::InvalidRequest => "invalid_request",
        Reason::AgentNotFound => "agent_not_found",
        Reason::StreamNotFound => "stream_not_found",
        Reason::ExecutionNotFound => "execution_not_found",
        Reason::AttestationRejected => "attestation_rejected",
        Reason::Unauthenticated => "unauthenticated",
        Reason::SecurityViolation => "security_violation",
        Reason::PolicyDenied => "policy_denied",
        Reason::FuelExhausted => "fuel_exhausted",
        Reason::MemoryLimit => "memory_limit",
        Reason::OutputTooLarge => "output_too_large",
        Reason::StackOverflow => "stack_overflow",
        Reason::Timeout => "timeout",
        Reason::Trap => "trap",
        Reason::Overloaded => "overloaded",
        Reason::Unavailable => "unavailable",
        Reason::RateLimited => "rate_limited",
        Reason::Cancelled => "cancelled",
        Reason::Internal => "internal",
    }
}

/// Sends the process's logs to stderr: JSON where that is no terminal, unless the configuration says
/// otherwise. The first call counts.
pub fn init_logging(config: &LogConfig) {
    // Wasmtime's WASI warns of calls that guests make; a guest could fill the log with them.
    let quiet = "wasmtime_wasi=error,wasmtime_wasi_http=error";
    let filter = EnvFilter::try_new(format!("{quiet},{}", config.level))
        .unwrap_or_else(|_| EnvFilter::new(format!("{quiet},info")));
    let json = match config.format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !std::io::stderr().is_terminal(),
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Fails only where a logger is set already, as in tests.
    let _ = if json { builder.json().try_init() } else { builder.try_init() };
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod page {
    use super::METRICS;

    #[test]
    fn the_metrics_page_is_up_to_date() {
        let mut page = String::from(
            "# Metrics\n\n`GET /metrics` answers these, in OpenMetrics text form. Counters carry `_total` behind \
             their name, histograms `_bucket`, `_sum` and `_count`.\n\n| metric | meaning | labels |\n|---|---|---|\n",
        );
        for (name, help, labels) in METRICS {
            page.push_str(&format!("| `{name}` | {help} | {labels} |\n"));
        }
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            std::fs::write(path, &page).unwrap();
        }
        assert_eq!(
            std::fs::read_to_string(path).unwrap_or_default(),
            page,
            "run the tests with UPDATE_EXPECT=1"
        );
    }
}
