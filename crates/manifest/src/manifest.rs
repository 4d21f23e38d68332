//! The contract of an agent: the types of `manifest.yaml`. Reading and checking it is `parse`'s work.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::agent_id::{AgentId, AgentVersion};
use crate::capability::Capability;
use crate::limits::{LimitsRequest, Metering};
use crate::pins::{MediaPins, Pin};
use crate::units::{ByteCount, Fuel};

/// The module's name where the manifest gives none.
const DEFAULT_MODULE: &str = "agent.wasm";
/// What `wasm.memory` counts in: MB of 2^20 bytes.
const MEGABYTE: u64 = 1 << 20;

/// The YAML contract of an agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("patternProperties" = { "^x-": {} }))]
pub struct Manifest {
    /// Identifies the agent.
    pub id: AgentId,
    /// SemVer 2.0.
    pub version: AgentVersion,
    /// What the agent does, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// `wasm`, `container`, or a language runtime of MentatLab such as `python3.12` (a container).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// The module's file, beside the manifest; `agent.wasm` where left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    /// The container image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// What the agent reads.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<Pin>,
    /// What the agent writes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<Pin>,
    /// Whether the agent serves many requests over a long life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub long_running: Option<bool>,
    /// The agent's own page in MentatLab.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ui: Option<BTreeMap<String, serde_json::Value>>,
    /// What the agent needs of a machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// What the agent can do, in MentatLab's words; informative.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<DeclaredCapabilities>,
    /// Environment: `NAME=VALUE` entries, or a map.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<Environment>,
    /// How the agent reports events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<Events>,
    /// How the module is executed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wasm: Option<Wasm>,
    /// Who signed the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attestation: Option<Attestation>,
    /// Anything the author likes to note.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<BTreeMap<String, serde_json::Value>>,
    /// The powers that it asks for, parsed.
    #[serde(skip)]
    pub(crate) listed: Arc<Listed>,
}

/// The powers that a manifest asks for, worked out once when it is read and shared by all that ask about them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// The manifest's id.
    pub agent: String,
    /// What the agent may ask for: `wasm.capabilities`, and the directories of `wasm.wasi.preopens`.
    pub capabilities: Vec<Capability>,
    /// The directories that are opened for the agent before it starts: those of `wasm.wasi.preopens`, else every one that
    /// it may ask for.
    pub preopens: Vec<Capability>,
    /// Variables whose values stand in the manifest, those of `wasm.wasi.env` last.
    pub constants: Vec<(String, String)>,
    /// Whether executions share an instance.
    pub instances: Instances,
    /// What input and output are of media.
    pub media: MediaPins,
    /// How the agent reports events, where it does.
    pub events: Option<Events>,
}

/// What executes an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RuntimeKind {
    /// A WebAssembly module.
    Wasm,
    /// A container image.
    Container,
}

/// How the module is executed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Wasm {
    /// The engine; there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<WasmEngine>,
    /// Linear memory, in MB (2^20 bytes).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<WasmMemory>,
    /// Fuel for each execution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fuel: Option<Fuel>,
    /// Wall clock of each execution, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Bytes of output of each execution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output: Option<ByteCount>,
    /// How computing is measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metering: Option<Metering>,
    /// Whether every execution starts afresh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instances: Option<Instances>,
    /// Whether initialisation is done once, ahead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<Init>,
    /// The powers that the agent may ask for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<String>,
    /// The WASI sandbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wasi: Option<Wasi>,
}

/// The engine of `wasm.engine`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WasmEngine {
    /// Wasmtime.
    Wasmtime,
}

/// Linear memory in MB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WasmMemory {
    /// MB that the author expects at the start; informative.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial: Option<u32>,
    /// MB at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum: Option<u32>,
}

/// Whether executions share an instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Instances {
    /// Every execution is pristine.
    #[default]
    Fresh,
    /// Instances are kept and used again for the same tenant.
    Reuse,
}

/// How initialisation is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Init {
    /// Once, ahead; every execution starts from its memory image.
    Snapshot,
}

/// How an agent reports events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Events {
    /// As lines of JSON on stdout, each an object whose `type` is `log`, `checkpoint`, `progress`, `metric` or `heartbeat`.
    /// All other lines are output.
    Ndjson,
}

/// The WASI sandbox that the agent expects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Wasi {
    /// `preview1` or `preview2`; informative, the module itself tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<WasiVersion>,
    /// Guest directories and how they are opened.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub preopens: BTreeMap<String, Preopen>,
    /// `NAME=VALUE` entries.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
}

/// A version of WASI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WasiVersion {
    /// WASI 0.1.
    Preview1,
    /// WASI 0.2.
    Preview2,
}

/// How a directory is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Preopen {
    /// Look, but not change.
    ReadOnly,
    /// Change, but not look.
    WriteOnly,
    /// Both.
    ReadWrite,
}

/// What the agent needs of a machine, in MentatLab's words.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// Processors, such as `500m` or `2`; of containers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<serde_json::Value>,
    /// Memory, such as `256Mi`; of containers, where `wasm.memory` says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<serde_json::Value>,
    /// Whether a GPU is needed, or how many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<serde_json::Value>,
    /// Wall clock of each execution, in seconds; `wasm.timeout_ms` is more exact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u64>,
    /// Executions of this agent at the same time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_concurrent: Option<u32>,
}

/// What the agent can do, in MentatLab's words.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeclaredCapabilities {
    /// Names of actions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<String>,
    /// Whether it reports progress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supports_progress: Option<bool>,
    /// Whether it sends heartbeats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supports_heartbeat: Option<bool>,
    /// Whether it wants a GPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<bool>,
    /// Whether it wants the network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<bool>,
    /// Whether it wants storage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<bool>,
    /// Names of secrets it wants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<serde_json::Value>,
}

/// Environment variables, in either of MentatLab's forms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Environment {
    /// `NAME=VALUE` entries.
    List(Vec<String>),
    /// Names and values.
    Map(BTreeMap<String, serde_json::Value>),
}

/// The signature block of a manifest, kept as it is: whether it holds is decided by `mentat-attestation`, on the manifest's
/// text without it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Attestation {
    /// Of this block's form: `1.0`.
    pub version: serde_json::Value,
    /// When it was signed (RFC 3339), as the signer says.
    pub timestamp: String,
    /// Who signed, and who says so.
    pub signer: Signer,
    /// `SHA256withRSA`, `ECDSA-P256`, `ECDSA-P384` or `Ed25519`.
    pub algorithm: String,
    /// In base64; of ECDSA in DER.
    pub signature: String,
    /// PEM certificates, the signer's first, each before its issuer's; the root may be left out.
    #[serde(default)]
    pub certificate_chain: Vec<String>,
}

/// Who signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Signer {
    /// The certificate's subject.
    pub subject: String,
    /// The certificate's issuer.
    pub issuer: String,
}

impl RuntimeKind {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Wasm => "wasm",
            Self::Container => "container",
        }
    }

    /// What that word is for.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Wasm, Self::Container].into_iter().find(|kind| kind.as_str() == name)
    }
}

impl Preopen {
    /// As the grammar of capabilities has it.
    pub(crate) fn access(self) -> &'static str {
        match self {
            Self::ReadOnly => "read",
            Self::WriteOnly => "write",
            Self::ReadWrite => "readwrite",
        }
    }
}

impl Manifest {
    /// What executes the agent: `runtime`, or where that is left out, whether there is a `wasm` part.
    #[must_use]
    pub fn runtime_kind(&self) -> RuntimeKind {
        match self.runtime.as_deref() {
            Some("wasm") => RuntimeKind::Wasm,
            None if self.wasm.is_some() || self.module.is_some() => RuntimeKind::Wasm,
            _ => RuntimeKind::Container,
        }
    }

    /// The module's file, relative to the manifest's folder.
    #[must_use]
    pub fn module_path(&self) -> &str {
        self.module.as_deref().unwrap_or(DEFAULT_MODULE)
    }

    /// The powers that the agent may ask for: `wasm.capabilities`, and the directories of `wasm.wasi.preopens`.
    #[must_use]
    pub fn capabilities(&self) -> &[Capability] {
        &self.listed.capabilities
    }

    /// The powers that the manifest asks for.
    #[must_use]
    pub fn listed(&self) -> &Arc<Listed> {
        &self.listed
    }

    /// Variables whose values stand in the manifest, those of `wasm.wasi.env` last.
    pub(crate) fn constants(&self) -> Vec<(String, String)> {
        let entry =
            |entry: &String| entry.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut constants: Vec<(String, String)> = match &self.env {
            Some(Environment::List(entries)) => entries.iter().filter_map(entry).collect(),
            Some(Environment::Map(map)) => {
                let text = |value: &serde_json::Value| {
                    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
                };
                map.iter().map(|(name, value)| (name.clone(), text(value))).collect()
            }
            None => Vec::new(),
        };
        if let Some(wasi) = self.wasm.as_ref().and_then(|wasm| wasm.wasi.as_ref()) {
            constants.extend(wasi.env.iter().filter_map(entry));
        }
        constants
    }

    /// Whether executions start from the memory of a module that was initialised once.
    #[must_use]
    pub fn init(&self) -> Option<Init> {
        self.wasm.as_ref()?.init
    }

    /// Executions of this agent at the same time, where the manifest bounds them.
    #[must_use]
    pub fn max_concurrent(&self) -> Option<u32> {
        self.resources.as_ref()?.max_concurrent
    }

    /// The budget that the manifest asks for.
    #[must_use]
    pub fn limits_request(&self) -> LimitsRequest {
        let wasm = self.wasm.as_ref();
        let megabytes = |count: u32| ByteCount(u64::from(count) * MEGABYTE);
        let seconds = self.resources.as_ref().and_then(|resources| resources.timeout_seconds);
        LimitsRequest {
            memory_bytes: wasm
                .and_then(|wasm| wasm.memory?.maximum)
                .map(megabytes)
                .or_else(|| self.container_memory()),
            fuel: wasm.and_then(|wasm| wasm.fuel),
            timeout: wasm
                .and_then(|wasm| wasm.timeout_ms)
                .map(Duration::from_millis)
                .or(seconds.map(Duration::from_secs)),
            output_bytes: wasm.and_then(|wasm| wasm.max_output),
            log_bytes: None,
            log_lines: None,
            metering: wasm.and_then(|wasm| wasm.metering),
        }
    }
}
