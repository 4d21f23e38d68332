//! The JSON bodies of the HTTP door, and how they become the core's types.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use mentat_manifest::{AgentId, AgentVersion, ByteCount, Fuel, LimitsRequest};
use mentat_runtime::CodeOrigin;
use mentat_runtime::error::Error;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use super::signature::SignatureBody;
use crate::dispatch::{ExecuteRequest, ExecutionState, LoadRequest, Narrowing, PullRequest};
use crate::registry::{LoadedAgent, OnConflict};
use crate::store::StoredAgent;

/// Asks to load an agent: one that is given, or one that the server takes from a registry.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LoadBody {
    /// The id that the caller expects; must be the manifest's where given.
    agent_id: Option<String>,
    /// The manifest's YAML text.
    manifest: Option<String>,
    /// The module's bytes in base64; left out of a container agent's.
    module_base64: Option<String>,
    /// The attestation where it comes beside the manifest: the block as YAML or JSON text, or as an object.
    #[schema(value_type = Option<Object>)]
    attestation: Option<Box<RawValue>>,
    /// Where the server is to take the agent from, in place of manifest and module: `oci://HOST/REPOSITORY@sha256:…`, of a
    /// registry that the operator allows.
    reference: Option<String>,
    /// Whether to replace a loaded version whose content differs.
    #[serde(default)]
    replace: bool,
}

/// What a body asks to be loaded.
pub(super) enum Load {
    /// An agent that it holds.
    Given(LoadRequest),
    /// An agent out of a registry.
    Pulled(PullRequest),
}

/// Asks to execute an agent. At most one of the three inputs is given; none is an empty input.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ExecuteBody {
    /// The input as text.
    input: Option<String>,
    /// The input as bytes in base64.
    input_base64: Option<String>,
    /// The input as a JSON document, which the agent reads as the text it was sent as.
    #[schema(value_type = Option<Object>)]
    input_json: Option<Box<RawValue>>,
    /// The version; the active one where left out.
    version: Option<String>,
    /// The caller's own id for the execution, a UUID of version 7.
    execution_id: Option<String>,
    /// A manifest whose limits and capabilities narrow those of the loaded one.
    manifest: Option<String>,
    /// Limits that narrow the agent's.
    limits: Option<LimitsBody>,
    /// All the capabilities that are left to the execution, each in the form of the manifest, such as
    /// `filesystem:read:/data`; where this is left out, none is taken away.
    capabilities: Option<Vec<String>>,
    /// Whether the reply carries the log lines.
    #[serde(default)]
    pub(super) include_logs: bool,
    /// Whether a receipt is made: what was executed, on what, with which powers and to what end, signed, with the proof
    /// that the audit log has it.
    #[serde(default)]
    receipt: bool,
    /// Whether the reply comes as soon as the execution has begun, with its id alone. It then goes on by itself, and what comes
    /// of it is told by its stream and by `/v1/executions/{id}`.
    #[serde(default)]
    pub(super) detach: bool,
}

/// Bytes as they are.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
pub(super) struct RawBody(#[allow(dead_code, reason = "only its schema is used")] Vec<u8>);

/// Limits that narrow an execution's budget; what is more than the agent's own changes nothing.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LimitsBody {
    /// Bytes of linear memory, all together.
    memory_bytes: Option<u64>,
    /// Fuel.
    fuel: Option<u64>,
    /// Wall clock in milliseconds.
    timeout_ms: Option<u64>,
    /// Bytes of output.
    output_bytes: Option<u64>,
}

/// Which version.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct VersionQuery {
    /// The version; where it is left out, the active one, or all where agents are removed.
    pub(super) version: Option<String>,
}

/// Which version, and whether its end is waited for.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ExecuteQuery {
    /// The version; the active one where it is left out.
    pub(super) version: Option<String>,
    /// As in the JSON body.
    pub(super) detach: bool,
}

/// Which page.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct PageQuery {
    /// Entries at most; 100 where left out, 1000 at most.
    pub(super) page_size: Option<usize>,
    /// `next_page_token` of the page before.
    pub(super) page_token: Option<String>,
}

/// Which executions.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ExecutionsQuery {
    /// Where they stand; all where left out.
    pub(super) state: Option<StateName>,
    /// Executions at most; 100 where left out, 1000 at most.
    pub(super) page_size: Option<usize>,
    /// `next_page_token` of the page before.
    pub(super) page_token: Option<String>,
}

/// Where an execution stands.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum StateName {
    /// Waiting for a place, or running.
    Running,
    /// The guest ran to its end.
    Finished,
    /// The guest did not run to its end.
    Failed,
}

/// From where on.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
pub(super) struct TrailQuery {
    /// `next_page_token` of the answer before.
    pub(super) page_token: Option<String>,
}

/// Asks to make a version the active one.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ActivateBody {
    /// The version.
    pub(super) version: String,
}

/// An agent that was loaded.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LoadedBody {
    agent_id: String,
    version: String,
    /// Of the module, or of the image of a container agent: `sha256:` and 64 hexadecimal digits.
    module_hash: String,
    /// In canonical form.
    capabilities_required: Vec<String>,
    /// `memory`, `disk` or `compiled`; `image` for a container agent.
    code_origin: &'static str,
    /// Microseconds spent compiling; 0 unless it was compiled now.
    compile_us: u64,
    /// The digest of its image, of an agent that has a module as well, where that is ready to be executed.
    #[serde(skip_serializing_if = "Option::is_none")]
    image_hash: Option<String>,
    signature: SignatureBody,
}

/// A version of an agent.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AgentBody {
    agent_id: String,
    version: String,
    /// Whether this version is the active one.
    active: bool,
    /// Of the module, or of the image of a container agent: `sha256:` and 64 hexadecimal digits.
    module_hash: String,
    /// Milliseconds since 1970.
    loaded_at_ms: u64,
    /// The digest of its image, of an agent that has a module as well, where that is ready to be executed.
    #[serde(skip_serializing_if = "Option::is_none")]
    image_hash: Option<String>,
    signature: SignatureBody,
    /// The manifest's YAML text; not in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    manifest: Option<String>,
    /// In canonical form; not in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    capabilities_required: Option<Vec<String>>,
    /// The module's size; not in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    module_bytes: Option<u64>,
    /// What kind of agent the module is; not in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    shape: Option<String>,
}

/// Some of the caller's agents.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AgentsBody {
    /// In order of id and version.
    pub(super) agents: Vec<AgentBody>,
    /// For the next page; absent when this is the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next_page_token: Option<String>,
}

/// Whether an agent is loaded.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct IsLoadedBody {
    /// Whether it can be executed.
    pub(super) loaded: bool,
}

/// What was removed.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct UnloadedBody {
    /// The versions.
    pub(super) versions: Vec<String>,
}

/// Reads an agent's id.
pub(super) fn agent_id(text: &str) -> Result<AgentId, Error> {
    text.parse()
        .map_err(|error: mentat_manifest::NameError| Error::InvalidRequest { message: error.to_string() })
}

/// Reads a version that may be left out.
pub(super) fn version(text: Option<&str>) -> Result<Option<AgentVersion>, Error> {
    text.map(str::parse)
        .transpose()
        .map_err(|error: mentat_manifest::NameError| Error::InvalidRequest { message: error.to_string() })
}

fn decode(key: &str, text: &str) -> Result<Bytes, Error> {
    let wrong = |error| Error::InvalidRequest { message: format!("`{key}` is not base64: {error}") };
    STANDARD.decode(text).map(Bytes::from).map_err(wrong)
}

/// A block as text, which JSON is as it stands.
fn attestation_text(block: &RawValue) -> Result<String, Error> {
    let wrong = || {
        Error::InvalidRequest {
        message: "`attestation` must be the block as an object, or as text in YAML or JSON, as `mentat sign --detached` prints it"
            .into(),
    }
    };
    match block.get().as_bytes().first() {
        Some(b'{') => Ok(block.get().to_owned()),
        Some(b'"') => serde_json::from_str(block.get()).map_err(|_| wrong()),
        _ => Err(wrong()),
    }
}

impl LoadBody {
    pub(super) fn into_request(self) -> Result<Load, Error> {
        let agent_id = self.agent_id.as_deref().map(agent_id).transpose()?;
        let on_conflict = if self.replace { OnConflict::Replace } else { OnConflict::Refuse };
        let attestation = self.attestation.as_deref().map(attestation_text).transpose()?;
        match (self.reference, self.manifest, self.module_base64) {
            (Some(reference), None, None) => {
                Ok(Load::Pulled(PullRequest { agent_id, reference, attestation, on_conflict }))
            }
            (None, Some(manifest), module) => {
                let module = decode("module_base64", module.as_deref().unwrap_or_default())?;
                Ok(Load::Given(LoadRequest { agent_id, manifest, module, attestation, on_conflict }))
            }
            _ => {
                let message =
                    "give `manifest` and `module_base64`, or a `reference` and neither of them".into();
                Err(Error::InvalidRequest { message })
            }
        }
    }
}

impl ExecuteBody {
    pub(super) fn into_request(self, agent_id: AgentId) -> Result<ExecuteRequest, Error> {
        let input = match (self.input, self.input_base64, self.input_json) {
            (None, None, None) => Bytes::new(),
            (Some(text), None, None) => text.into(),
            (None, Some(text), None) => decode("input_base64", &text)?,
            (None, None, Some(value)) => String::from(Box::<str>::from(value)).into(),
            _ => {
                let message = "give one of `input`, `input_base64` and `input_json`, not several".into();
                return Err(Error::InvalidRequest { message });
            }
        };
        let limits = self.limits.unwrap_or_default();
        let capabilities = self.capabilities.as_deref().map(Narrowing::capabilities).transpose()?;
        Ok(ExecuteRequest {
            agent_id,
            version: version(self.version.as_deref())?,
            input,
            execution_id: self.execution_id.as_deref().map(str::parse).transpose()?,
            manifest: self.manifest,
            narrowing: Narrowing {
                capabilities,
                limits: LimitsRequest {
                    memory_bytes: limits.memory_bytes.map(ByteCount),
                    fuel: limits.fuel.map(Fuel),
                    timeout: limits.timeout_ms.map(Duration::from_millis),
                    output_bytes: limits.output_bytes.map(ByteCount),
                    ..LimitsRequest::default()
                },
            },
            receipt: self.receipt,
            events: None,
        })
    }
}

impl StateName {
    pub(super) fn state(self) -> ExecutionState {
        match self {
            Self::Running => ExecutionState::Running,
            Self::Finished => ExecutionState::Finished,
            Self::Failed => ExecutionState::Failed,
        }
    }
}

impl LoadedBody {
    pub(super) fn new(agent: &LoadedAgent) -> Self {
        let (code_origin, compile_us) = match agent.origin() {
            Some(CodeOrigin::Memory) => ("memory", 0),
            Some(CodeOrigin::Disk) => ("disk", 0),
            Some(CodeOrigin::Compiled(took)) => ("compiled", microseconds(took)),
            None => ("image", 0),
        };
        Self {
            agent_id: agent.stored.id.to_string(),
            version: agent.stored.version.to_string(),
            module_hash: agent.stored.module.to_string(),
            capabilities_required: capabilities(agent),
            code_origin,
            compile_us,
            image_hash: agent.stored.image.map(|image| image.to_string()),
            signature: SignatureBody::new(&agent.stored),
        }
    }
}

impl AgentBody {
    pub(super) fn new(agent: &LoadedAgent, active: bool) -> Self {
        Self {
            manifest: Some(agent.stored.manifest.clone()),
            capabilities_required: Some(capabilities(agent)),
            module_bytes: agent.module().map(|module| module.info().size.0),
            shape: Some(agent.shape()).filter(|shape| !shape.is_empty()),
            ..Self::listed(&agent.stored, active)
        }
    }

    pub(super) fn listed(agent: &StoredAgent, active: bool) -> Self {
        Self {
            agent_id: agent.id.to_string(),
            version: agent.version.to_string(),
            active,
            module_hash: agent.module.to_string(),
            loaded_at_ms: milliseconds(agent.loaded_at),
            image_hash: agent.image.map(|image| image.to_string()),
            signature: SignatureBody::new(agent),
            manifest: None,
            capabilities_required: None,
            module_bytes: None,
            shape: None,
        }
    }
}

fn capabilities(agent: &LoadedAgent) -> Vec<String> {
    agent.manifest.capabilities().iter().map(ToString::to_string).collect()
}

pub(super) fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

pub(super) fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
