//! The service's configuration: its keys, their defaults, and the layers they come from: defaults, then
//! `mentat.toml`, then `MENTAT_…` variables, then flags. The only file of this crate that reads the
//! process's environment.

mod attestation;
mod container;
mod container_users;
mod keys;
mod media;
mod network;
mod oci;
mod offers;
mod rollout;
mod sections;
mod streams;
mod warm_containers;

use std::path::{Path, PathBuf};
use std::time::Duration;

use mentat_manifest::{Limits, escape_untrusted};
use mentat_runtime::security::audit::{AuditConfig, RetentionConfig, SensitiveValues};
use mentat_runtime::security::policy::Rules;
use mentat_runtime::{CompileConfig, EngineConfig, PoolConfig, RuntimeConfig, SandboxLimits, WarmConfig};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::door::HostNames;
use crate::store::Quota;

pub use attestation::{AttestationSection, Doubt, MinimumVersionConfig, TenantMode, TrustConfig};
pub use container::{ContainerSection, PullPolicy};
pub use container_users::ContainerUsersConfig;
pub use keys::{KEYS, Key, variable_name};
pub use media::MediaSection;
pub use network::{HostConfig, NetworkSection};
pub use oci::OciSection;
pub use rollout::RolloutSection;
pub use sections::{
    ApiKey, AuditLogConfig, AuthConfig, BudgetConfig, CeilingConfig, ClientCertificate, ExecutionsConfig,
    ExtensionConfig, LimitsConfig, ListenConfig, LogConfig, LogFormat, MountAccess, MountConfig,
    PolicyConfig, RegistryConfig, SandboxConfig, SecurityConfig, TlsConfig, VariableConfig,
};
pub use streams::{StreamsConfig, WhenFull};
pub use warm_containers::WarmContainersConfig;

/// Variables that begin with `MENTAT_` and belong to clients or to the command line.
const OTHER_VARIABLES: &[&str] = &[
    "MENTAT_SERVER",
    "MENTAT_API_KEY",
    "MENTAT_CA",
    "MENTAT_CLIENT_CERT",
    "MENTAT_CLIENT_KEY",
    "MENTAT_CONFIG",
    "MENTAT_CACHE_DIR",
    "MENTAT_REGISTRY_AUTH",
    "MENTAT_REGISTRY_CA",
];
/// The file that is read when none is named, where it exists.
const DEFAULT_FILE: &str = "mentat.toml";

/// The whole configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerConfig {
    /// Addresses and the data directory.
    pub server: ListenConfig,
    /// Encryption, and who is known by a certificate.
    pub tls: TlsConfig,
    /// Who may call.
    pub auth: AuthConfig,
    /// What is kept of agents.
    pub registry: RegistryConfig,
    /// Budgets of agents.
    pub limits: LimitsConfig,
    /// Who decides on powers.
    pub policy: PolicyConfig,
    /// What becomes of agents that ask for what they may not have.
    pub security: SecurityConfig,
    /// Whose signatures count.
    pub attestation: AttestationSection,
    /// The audit log.
    pub audit: AuditLogConfig,
    /// What there is to be granted.
    pub sandbox: SandboxConfig,
    /// How agents reach the network.
    pub network: NetworkSection,
    /// Where objects are that agents read and store.
    pub media: MediaSection,
    /// Registries that agents may be loaded from.
    pub oci: OciSection,
    /// The engines and their pools.
    pub engine: EngineConfig,
    /// The queue before the pool.
    pub pool: PoolConfig,
    /// What a compile may take.
    pub compile: CompileConfig,
    /// The instances that are kept for agents that ask for it.
    pub warm: WarmConfig,
    /// The engine that runs container agents.
    pub container: ContainerSection,
    /// What executes agents that have both a module and an image.
    pub rollout: RolloutSection,
    /// What is remembered of executions.
    pub executions: ExecutionsConfig,
    /// What executions say while they run.
    pub streams: StreamsConfig,
    /// The service's own logs.
    pub log: LogConfig,
}

/// Where the configuration comes from, besides the defaults.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file; `mentat.toml` in the current folder where it exists and none is named.
    pub file: Option<PathBuf>,
    /// `(key, value)` pairs from the command line, the strongest layer.
    pub flags: Vec<(String, String)>,
}

/// What is wrong with the configuration: a whole sentence that names the layer and the key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

impl ServerConfig {
    /// Reads all layers.
    ///
    /// # Errors
    /// A file that cannot be read, an unknown key (with the nearest known one), a value of the wrong
    /// type, each with the layer it came from; addresses open to the network without credentials.
    pub fn load(sources: &Sources) -> Result<Self, ConfigError> {
        Self::from_layers(sources, std::env::vars())
    }

    fn from_layers(
        sources: &Sources,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut table = read_file(sources.file.as_deref())?;
        for (name, value) in variables.filter(|(name, _)| name.starts_with("MENTAT_")) {
            if OTHER_VARIABLES.contains(&name.as_str()) {
                continue;
            }
            let Some(key) = KEYS.iter().find(|key| variable_name(key.name) == name) else {
                let names: Vec<String> = KEYS.iter().map(|key| variable_name(key.name)).collect();
                return Err(unknown("environment variable", &name, names.iter().map(String::as_str)));
            };
            set(&mut table, key.name, &value);
        }
        for (name, value) in &sources.flags {
            if !KEYS.iter().any(|key| key.name == name) {
                return Err(unknown("configuration key", name, KEYS.iter().map(|key| key.name)));
            }
            set(&mut table, name, value);
        }
        let config: Self = serde_path_to_error::deserialize(table).map_err(|error| {
            ConfigError(format!(
                "configuration key `{}`: {}",
                error.path(),
                one_line(&error.inner().to_string())
            ))
        })?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        for (name, address) in
            [("server.grpc_listen", self.server.grpc_listen), ("server.http_listen", self.server.http_listen)]
        {
            if !address.ip().is_loopback() && !self.auth.wants_credentials() && !self.server.insecure {
                return Err(ConfigError(format!(
                    "`{name}` is {address}, which others can reach, and there are no credentials; add \
                     `[[auth.api_keys]]` or `[[auth.clients]]`, listen on 127.0.0.1, or say `--insecure`"
                )));
            }
        }
        for key in &self.auth.api_keys {
            let digits = key.sha256.len() == 64 && key.sha256.bytes().all(|byte| byte.is_ascii_hexdigit());
            if !digits {
                return Err(ConfigError(format!(
                    "`sha256` of the API key `{}` must be 64 hexadecimal digits, as `printf %s KEY | sha256sum` prints",
                    escape_untrusted(&key.name, 64)
                )));
            }
        }
        let origin = &self.audit.origin;
        if origin.is_empty() || origin.contains(|c: char| c.is_whitespace() || c.is_control() || c == '+') {
            return Err(ConfigError(
                "`audit.origin` must be a name without spaces and `+`, such as `mentat/node-1`".into(),
            ));
        }
        self.network.read()?;
        self.media.check()?;
        self.attestation.rules()?;
        self.attestation.check_tenants(&self.auth.tenants())?;
        self.oci.rules()?;
        self.container.check(self.limits.ceiling.memory)?;
        self.rollout.check()?;
        self.check_tls()?;
        if self.limits.ceiling.memory > self.engine.max_memory {
            return Err(ConfigError(format!(
                "`limits.ceiling.memory` of {} is over `engine.max_memory` of {}",
                self.limits.ceiling.memory, self.engine.max_memory
            )));
        }
        Ok(())
    }

    fn check_tls(&self) -> Result<(), ConfigError> {
        let wrong = |text: &str| Err(ConfigError(text.into()));
        let given = |path: &Path| !path.as_os_str().is_empty();
        let TlsConfig { certificate, key, client_ca } = &self.tls;
        if given(certificate) != given(key) {
            return wrong("`tls.certificate` and `tls.key` go together; give both, or neither");
        }
        if given(client_ca) && !given(certificate) {
            return wrong(
                "`tls.client_ca` needs a certificate of the server's own: `tls.certificate` and `tls.key`",
            );
        }
        if given(client_ca) == self.auth.clients.is_empty() {
            return wrong(
                "`tls.client_ca` and `[[auth.clients]]` go together: the first says whose certificates are believed, \
                 the second which of them may call",
            );
        }
        if let Some(client) = self.auth.clients.iter().find(|client| client.san.trim().is_empty()) {
            let name = escape_untrusted(&client.name, 64);
            return wrong(&format!(
                "`san` of the client `{name}` is empty; give the DNS name or URI of its certificate"
            ));
        }
        Ok(())
    }

    /// What the runtime is made of.
    ///
    /// # Errors
    /// For hosts and networks of `network` that are none, and credentials of `media` that cannot be read.
    pub fn runtime_config(&self) -> Result<RuntimeConfig, ConfigError> {
        Ok(RuntimeConfig {
            engine: self.engine.clone(),
            pool: self.pool.clone(),
            compile: self.compile.clone(),
            warm: self.warm.clone(),
            sandbox: SandboxLimits {
                quota: self.sandbox.quota,
                open_files: self.sandbox.open_files,
                directory_entries: self.sandbox.directory_entries,
                sleep: Duration::from_millis(self.sandbox.sleep_ms),
            },
            artifacts: Some(self.server.data_dir.join("artifacts")),
            scratch: Some(self.server.data_dir.join("scratch")),
            network: self.network.read()?,
            media: self.media.read(&self.server.data_dir)?,
        })
    }

    /// The client of registries that agents may be loaded from.
    ///
    /// # Errors
    /// For what names no registry, and files that cannot be read.
    pub fn oci_client(&self) -> Result<mentat_oci::Client, ConfigError> {
        self.oci.client(self.compile.max_module)
    }

    /// How the audit log is kept.
    #[must_use]
    pub fn audit_config(&self) -> AuditConfig {
        let named = &self.audit.dir;
        let folder =
            if named.as_os_str().is_empty() { self.server.data_dir.join("audit") } else { named.clone() };
        AuditConfig {
            folder,
            origin: self.audit.origin.clone(),
            sync: self.audit.sync,
            on_failure: self.audit.on_failure,
            checkpoint_every: Duration::from_millis(self.audit.checkpoint_ms.max(1)),
            retention: self.retention_config(),
            sensitive: SensitiveValues::default(),
        }
    }

    fn retention_config(&self) -> RetentionConfig {
        let AuditLogConfig { retain_days, retain_bytes, archive, .. } = &self.audit;
        let days = |days: u64| Duration::from_secs(days.saturating_mul(24 * 60 * 60));
        RetentionConfig {
            age: (*retain_days > 0).then(|| days(*retain_days)),
            bytes: (retain_bytes.0 > 0).then_some(retain_bytes.0),
            archive: (!archive.as_os_str().is_empty()).then(|| archive.clone()),
        }
    }

    /// What one tenant may store.
    #[must_use]
    pub fn quota(&self) -> Quota {
        Quota {
            agents: usize::try_from(self.registry.agents_per_tenant).unwrap_or(usize::MAX),
            bytes: self.registry.bytes_per_tenant.0,
        }
    }

    /// The names that the HTTP door may be called by.
    #[must_use]
    pub fn host_names(&self) -> HostNames {
        if self.auth.wants_credentials() || !self.server.http_listen.ip().is_loopback() {
            HostNames::Any
        } else {
            HostNames::Local
        }
    }

    /// What the operator allows every agent.
    #[must_use]
    pub fn rules(&self) -> Rules {
        let (defaults, ceiling) = (&self.limits.defaults, &self.limits.ceiling);
        Rules {
            defaults: Limits {
                memory_bytes: defaults.memory,
                fuel: defaults.fuel,
                timeout: Duration::from_millis(defaults.timeout_ms),
                output_bytes: defaults.output,
                log_bytes: defaults.log,
                log_lines: defaults.log_lines,
                metering: Limits::DEFAULT.metering,
            },
            ceiling: Limits {
                memory_bytes: ceiling.memory,
                fuel: ceiling.fuel,
                timeout: Duration::from_millis(ceiling.timeout_ms),
                output_bytes: ceiling.output,
                log_bytes: ceiling.log,
                log_lines: ceiling.log_lines,
                metering: Limits::CEILING.metering,
            },
            max_input: self.limits.max_input,
            container_memory: self.container.memory,
            own_media: self.media.callers,
        }
    }
}

/// By the XDG base directory specification.
fn default_data_dir() -> PathBuf {
    let data = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || std::env::home_dir().map(|home| home.join(".local/share"));
    data.or_else(home).unwrap_or_else(|| PathBuf::from("/var/lib")).join("mentat")
}

fn read_file(named: Option<&Path>) -> Result<Table, ConfigError> {
    let path = named.unwrap_or(Path::new(DEFAULT_FILE));
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Table::new());
        }
        Err(error) => return Err(ConfigError(format!("`{}` cannot be read: {error}", path.display()))),
    };
    let table: Table = text.parse().map_err(|error: toml::de::Error| {
        ConfigError(format!("`{}`: {}", path.display(), one_line(&error.to_string())))
    })?;
    // Read once from the text itself, whose errors know their lines.
    toml::from_str::<ServerConfig>(&text)
        .map_err(|error| ConfigError(format!("`{}`: {}", path.display(), one_line(&error.to_string()))))?;
    Ok(table)
}

/// Puts a value given as text at a dotted key: a number, boolean or list where it reads as one and the key
/// does not want text.
fn set(table: &mut Table, key: &str, text: &str) {
    let value = format!("value = {text}").parse::<Table>().ok().and_then(|mut table| table.remove("value"));
    let value = match value {
        Some(value @ (Value::Integer(_) | Value::Boolean(_) | Value::Array(_))) if !keys::wants_text(key) => {
            value
        }
        _ => Value::String(text.to_owned()),
    };
    let mut steps = key.split('.').peekable();
    let mut table = table;
    while let Some(step) = steps.next() {
        if steps.peek().is_none() {
            table.insert(step.to_owned(), value);
            return;
        }
        let inner = table.entry(step).or_insert_with(|| Value::Table(Table::new()));
        let Value::Table(inner) = inner else { return };
        table = inner;
    }
}

fn unknown<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str>) -> ConfigError {
    let nearest =
        known.max_by(|a, b| strsim::jaro_winkler(a, name).total_cmp(&strsim::jaro_winkler(b, name)));
    ConfigError(format!(
        "{what} `{}` is unknown; the nearest known one is `{}`; `mentat serve --print-config` shows all",
        escape_untrusted(name, 100),
        nearest.unwrap_or_default()
    ))
}

fn one_line(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    escape_untrusted(&lines.join(" "), 400)
}

#[cfg(test)]
mod tests {
    use mentat_manifest::ByteCount;

    use super::*;

    fn load(
        text: &str,
        variables: &[(&str, &str)],
        flags: &[(&str, &str)],
    ) -> Result<ServerConfig, ConfigError> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("mentat.toml");
        std::fs::write(&file, text).unwrap();
        let own = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let sources = Sources { file: Some(file), flags: own(flags) };
        ServerConfig::from_layers(&sources, own(variables).into_iter())
    }

    #[test]
    fn certificates_keys_and_clients_go_together() {
        let refused = |text: &str| load(text, &[], &[]).unwrap_err().to_string();
        assert!(refused("[tls]\ncertificate = \"c.pem\"\n").contains("go together"));
        assert!(refused("[tls]\nclient_ca = \"ca.pem\"\n").contains("a certificate of the server's own"));
        let own = "[tls]\ncertificate = \"c.pem\"\nkey = \"k.pem\"\n";
        assert!(load(own, &[], &[]).unwrap().tls.is_given());
        let clients = "[[auth.clients]]\nname = \"ci\"\nsan = \"ci.example\"\n";
        assert!(refused(&format!("{own}{clients}")).contains("go together"));
        let both = format!("{own}client_ca = \"ca.pem\"\n{clients}");
        let open = [("server.http_listen", "0.0.0.0:0")];
        assert_eq!(load(&both, &[], &open).unwrap().auth.clients[0].tenant, "default");
        assert!(refused(&both.replace("ci.example", " ")).contains("`san` of the client `ci` is empty"));
    }

    #[test]
    fn flags_are_stronger_than_variables_and_those_than_the_file() {
        let text = "[pool]\nqueue_length = 1\nqueue_timeout_ms = 1\n[executions]\nremembered = 1\n";
        let config = load(
            text,
            &[
                ("MENTAT_POOL_QUEUE_TIMEOUT_MS", "2"),
                ("MENTAT_EXECUTIONS_REMEMBERED", "2"),
                ("MENTAT_SERVER", "x"),
            ],
            &[("executions.remembered", "3"), ("limits.defaults.memory", "32MB"), ("server.data_dir", "7")],
        )
        .unwrap();
        assert_eq!((config.pool.queue_length, config.pool.queue_timeout_ms), (1, 2));
        assert_eq!(config.executions.remembered, 3);
        assert_eq!(config.server.data_dir, PathBuf::from("7"));
        assert_eq!(config.limits.defaults.memory, ByteCount(32 << 20));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_layer() {
        for (text, variables, flags, says) in [
            ("[pool]\nqueue_lenght = 1\n", vec![], vec![], "queue_lenght"),
            ("[pool]\nqueue_length = \"many\"\n", vec![], vec![], "line 2"),
            ("pool = [", vec![], vec![], "mentat.toml"),
            ("", vec![("MENTAT_POOL_QUEUE_LENGHT", "1")], vec![], "MENTAT_POOL_QUEUE_LENGTH"),
            ("", vec![("MENTAT_POOL_QUEUE_LENGTH", "many")], vec![], "pool.queue_length"),
            ("", vec![], vec![("pool.length", "1")], "pool.queue_length"),
            ("", vec![], vec![("server.grpc_listen", "0.0.0.0:1")], "--insecure"),
            ("[[auth.api_keys]]\nname = \"a\"\nsha256 = \"abc\"\n", vec![], vec![], "sha256sum"),
        ] {
            let error = load(text, &variables, &flags).unwrap_err().to_string();
            assert!(error.contains(says), "{says} is not in {error}");
        }
    }

    #[test]
    fn an_open_address_needs_credentials_or_a_word() {
        let open = [("server.grpc_listen", "0.0.0.0:1")];
        let key = format!("[[auth.api_keys]]\nname = \"a\"\nsha256 = \"{}\"\n", "0".repeat(64));
        load(&key, &[], &open).unwrap();
        load("", &[], &[open[0], ("server.insecure", "true")]).unwrap();
    }
}
