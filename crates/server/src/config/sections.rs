//! The sections of the configuration and their defaults. What each key is for stands in `keys`, for people.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use mentat_manifest::{ByteCount, FileAccess, Fuel, Limits};
use mentat_runtime::SandboxLimits;
use mentat_runtime::model::Caller;
use mentat_runtime::security::audit::{OnAuditFailure, SyncMode};
use mentat_runtime::security::policy::{OnViolation, Rules};
use serde::{Deserialize, Serialize};

/// Addresses and the data directory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ListenConfig {
    /// Where gRPC is served.
    pub grpc_listen: SocketAddr,
    /// Where HTTP is served.
    pub http_listen: SocketAddr,
    /// Whether an address that is not loopback may be served without credentials.
    pub insecure: bool,
    /// Where agents and compiled code are kept.
    pub data_dir: PathBuf,
    /// Bytes of one request at most.
    pub max_message: ByteCount,
    /// Milliseconds that a client which is sending may be silent.
    pub idle_timeout_ms: u64,
    /// Milliseconds that a new connection may take until its first request.
    pub header_timeout_ms: u64,
    /// Connections of each door at most.
    pub max_connections: u32,
    /// Bytes of requests that are being read and of replies that are being sent, at most.
    pub max_in_flight: ByteCount,
    /// Threads that guests compute on; 0 for as many as the machine has cores.
    pub guest_threads: u32,
    /// Milliseconds that running executions are given at shutdown.
    pub shutdown_grace_ms: u64,
}

/// Encryption of both doors; paths of PEM files, empty for none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// The server's certificate, and those between it and its root.
    pub certificate: PathBuf,
    /// The private key of the certificate.
    pub key: PathBuf,
    /// The roots that clients' certificates are checked against.
    pub client_ca: PathBuf,
}

/// Who may call.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthConfig {
    /// The keys that are accepted; everybody is let in where there is no credential at all.
    pub api_keys: Vec<ApiKey>,
    /// The certificates that are accepted.
    pub clients: Vec<ClientCertificate>,
}

/// One accepted key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKey {
    /// What logs call its holder.
    pub name: String,
    /// Whom its calls are billed and isolated under.
    #[serde(default = "default_tenant")]
    pub tenant: String,
    /// SHA-256 of the key, in hexadecimal; the key itself is nowhere in the configuration.
    pub sha256: String,
}

impl TlsConfig {
    /// Whether connections are encrypted.
    #[must_use]
    pub fn is_given(&self) -> bool {
        !self.certificate.as_os_str().is_empty()
    }
}

impl AuthConfig {
    /// Whether callers have to say who they are.
    #[must_use]
    pub fn wants_credentials(&self) -> bool {
        !self.api_keys.is_empty() || !self.clients.is_empty()
    }

    /// The tenants that callers can be of.
    pub(super) fn tenants(&self) -> BTreeSet<String> {
        if !self.wants_credentials() {
            return [Caller::local().tenant.to_string()].into();
        }
        let keys = self.api_keys.iter().map(|key| key.tenant.clone());
        keys.chain(self.clients.iter().map(|client| client.tenant.clone())).collect()
    }
}

/// A client known by its certificate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientCertificate {
    /// What logs call it.
    pub name: String,
    /// Whom its calls are billed and isolated under.
    #[serde(default = "default_tenant")]
    pub tenant: String,
    /// A DNS name or URI of its certificate's subject alternative names (RFC 5280, section 4.2.1.6).
    pub san: String,
}

/// What is kept of agents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RegistryConfig {
    /// Versions of agents that one tenant may have.
    pub agents_per_tenant: u32,
    /// Bytes of their modules.
    pub bytes_per_tenant: ByteCount,
    /// Agents of all tenants whose code is kept in memory.
    pub in_memory: u32,
    /// Bytes of that code.
    pub code_in_memory: ByteCount,
}

/// Budgets of agents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// What an agent gets that asks for nothing.
    pub defaults: BudgetConfig,
    /// What no manifest can exceed.
    pub ceiling: CeilingConfig,
    /// Bytes of an execution's input at most.
    pub max_input: ByteCount,
}

/// The default budget of an execution.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BudgetConfig {
    /// Sum of linear memories, in bytes.
    pub memory: ByteCount,
    /// Operations.
    pub fuel: Fuel,
    /// Wall clock, in milliseconds.
    pub timeout_ms: u64,
    /// Bytes of output.
    pub output: ByteCount,
    /// Bytes of log.
    pub log: ByteCount,
    /// Lines of log.
    pub log_lines: u32,
}

/// The largest budget of an execution; the keys are those of the defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CeilingConfig {
    /// Sum of linear memories, in bytes.
    pub memory: ByteCount,
    /// Operations.
    pub fuel: Fuel,
    /// Wall clock, in milliseconds.
    pub timeout_ms: u64,
    /// Bytes of output.
    pub output: ByteCount,
    /// Bytes of log.
    pub log: ByteCount,
    /// Lines of log.
    pub log_lines: u32,
}

/// Who decides on powers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PolicyConfig {
    /// The folder of the policies; empty for the default ones.
    pub dir: PathBuf,
    /// Milliseconds between two looks at the folder.
    pub reload_ms: u64,
}

/// What becomes of agents that ask for what they may not have.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SecurityConfig {
    /// Whether a denial is an error that the agent sees, or its end.
    pub on_violation: OnViolation,
}

/// The audit log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuditLogConfig {
    /// Its folder; `audit` in the data directory where empty.
    pub dir: PathBuf,
    /// What the log calls itself in its checkpoints.
    pub origin: String,
    /// When the disk is waited for.
    pub sync: SyncMode,
    /// Milliseconds between two signed checkpoints.
    pub checkpoint_ms: u64,
    /// What becomes of executions while the log cannot be written.
    pub on_failure: OnAuditFailure,
    /// Days that records are kept; 0 for ever.
    pub retain_days: u64,
    /// Bytes of records that are kept; 0 for no bound.
    pub retain_bytes: ByteCount,
    /// Where records go that are not kept; they are deleted where empty.
    pub archive: PathBuf,
}

/// What there is to be granted, and what it may take of the machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SandboxConfig {
    /// Bytes that an execution may add to a directory.
    pub quota: ByteCount,
    /// Files and directories that an execution may have open.
    pub open_files: u32,
    /// Entries of a directory that an execution may list.
    pub directory_entries: u32,
    /// Milliseconds that an execution may spend asleep.
    pub sleep_ms: u64,
    /// Directories of this machine as agents see them.
    pub mounts: Vec<MountConfig>,
    /// Values of environment variables.
    pub env: Vec<VariableConfig>,
    /// Values that agents use and never see.
    pub secrets: Vec<VariableConfig>,
    /// The operator's own services that agents call by name.
    pub extensions: Vec<ExtensionConfig>,
}

/// A directory of this machine as agents see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MountConfig {
    /// Where agents find it.
    pub guest: String,
    /// Where it lies.
    pub host: PathBuf,
    /// What may be done there at most.
    #[serde(default)]
    pub access: MountAccess,
    /// Bytes that one execution may add to it; the usual quota where left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<ByteCount>,
    /// The tenants that it is there for; everybody where empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tenants: Vec<String>,
}

/// What may be done in a mounted directory at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MountAccess {
    /// Look, but not change.
    #[default]
    ReadOnly,
    /// Change, but not look.
    WriteOnly,
    /// Both.
    ReadWrite,
}

/// The value of an environment variable or of a secret, from one of three places.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VariableConfig {
    /// Its name, for agents.
    pub name: String,
    /// The value itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// A variable of the service's own environment that has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// A file that has it; one newline at its end is none of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// The hosts that it may go to. A secret needs them; a variable that has them is sealed: agents get a placeholder.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
}

/// A service of the operator's that agents call by name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExtensionConfig {
    /// Its name, as in `extension:NAME`.
    pub name: String,
    /// Where calls are posted to.
    pub url: String,
}

/// What is remembered of executions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExecutionsConfig {
    /// Finished executions that can still be asked for.
    pub remembered: u32,
}

/// The service's own logs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `info,mentat_runtime=debug`.
    pub level: String,
    /// In which form.
    pub format: LogFormat,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

impl Default for ListenConfig {
    fn default() -> Self {
        let loopback = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Self {
            grpc_listen: loopback(50051),
            http_listen: loopback(8080),
            insecure: false,
            data_dir: super::default_data_dir(),
            max_message: ByteCount(256 << 20),
            idle_timeout_ms: 60_000,
            header_timeout_ms: 10_000,
            max_connections: 1_000,
            max_in_flight: ByteCount(2 << 30),
            guest_threads: 0,
            shutdown_grace_ms: 10_000,
        }
    }
}

impl Default for RegistryConfig {
    fn default() -> Self {
        Self {
            agents_per_tenant: 1_000,
            bytes_per_tenant: ByteCount(16 << 30),
            in_memory: 2_000,
            code_in_memory: ByteCount(4 << 30),
        }
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            defaults: BudgetConfig::default(),
            ceiling: CeilingConfig::default(),
            max_input: Rules::default().max_input,
        }
    }
}

impl Default for BudgetConfig {
    fn default() -> Self {
        let limits = Limits::DEFAULT;
        Self {
            memory: limits.memory_bytes,
            fuel: limits.fuel,
            timeout_ms: milliseconds(limits.timeout),
            output: limits.output_bytes,
            log: limits.log_bytes,
            log_lines: limits.log_lines,
        }
    }
}

impl Default for CeilingConfig {
    fn default() -> Self {
        let limits = Limits::CEILING;
        Self {
            memory: limits.memory_bytes,
            fuel: limits.fuel,
            timeout_ms: milliseconds(limits.timeout),
            output: limits.output_bytes,
            log: limits.log_bytes,
            log_lines: limits.log_lines,
        }
    }
}

impl Default for PolicyConfig {
    fn default() -> Self {
        Self { dir: PathBuf::new(), reload_ms: 1_000 }
    }
}

impl Default for AuditLogConfig {
    fn default() -> Self {
        Self {
            dir: PathBuf::new(),
            origin: "mentat".into(),
            sync: SyncMode::default(),
            checkpoint_ms: 1_000,
            on_failure: OnAuditFailure::default(),
            retain_days: 0,
            retain_bytes: ByteCount(0),
            archive: PathBuf::new(),
        }
    }
}

impl Default for SandboxConfig {
    fn default() -> Self {
        let SandboxLimits { quota, open_files, directory_entries, sleep } = SandboxLimits::default();
        Self {
            quota,
            open_files,
            directory_entries,
            sleep_ms: milliseconds(sleep),
            mounts: Vec::new(),
            env: Vec::new(),
            secrets: Vec::new(),
            extensions: Vec::new(),
        }
    }
}

impl From<MountAccess> for FileAccess {
    fn from(access: MountAccess) -> Self {
        match access {
            MountAccess::ReadOnly => Self::Read,
            MountAccess::WriteOnly => Self::Write,
            MountAccess::ReadWrite => Self::ReadWrite,
        }
    }
}

impl Default for ExecutionsConfig {
    fn default() -> Self {
        Self { remembered: 10_000 }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::Auto }
    }
}

pub(super) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn default_tenant() -> String {
    "default".into()
}
