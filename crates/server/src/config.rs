//! The service's configuration: its keys, their defaults, and the layers they come from: defaults, then
//! `mentat.toml`, then `MENTAT_…` variables, then flags. The only file of this crate that reads the
//! process's environment.

mod keys;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mentat_manifest::{ByteCount, Fuel, Limits, escape_untrusted};
use mentat_runtime::security::policy::Rules;
use mentat_runtime::{CompileConfig, EngineConfig, PoolConfig, RuntimeConfig};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

pub use keys::{KEYS, Key, variable_name};

/// Variables that begin with `MENTAT_` and belong to clients or to the command line.
const OTHER_VARIABLES: [&str; 4] = ["MENTAT_SERVER", "MENTAT_API_KEY", "MENTAT_CONFIG", "MENTAT_CACHE_DIR"];
/// The file that is read when none is named, where it exists.
const DEFAULT_FILE: &str = "mentat.toml";

/// The whole configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerConfig {
    /// Addresses and the data directory.
    pub server: ListenConfig,
    /// Who may call.
    pub auth: AuthConfig,
    /// Budgets of agents.
    pub limits: LimitsConfig,
    /// The engines and their pools.
    pub engine: EngineConfig,
    /// The queue before the pool.
    pub pool: PoolConfig,
    /// What a compile may take.
    pub compile: CompileConfig,
    /// What is remembered of executions.
    pub executions: ExecutionsConfig,
    /// The service's own logs.
    pub log: LogConfig,
}

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
    /// Milliseconds that running executions are given at shutdown.
    pub shutdown_grace_ms: u64,
}

/// Who may call.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthConfig {
    /// The keys that are accepted; everybody is let in where there is none.
    pub api_keys: Vec<ApiKey>,
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
            if !address.ip().is_loopback() && self.auth.api_keys.is_empty() && !self.server.insecure {
                return Err(ConfigError(format!(
                    "`{name}` is {address}, which others can reach, and there are no credentials; add \
                     `[[auth.api_keys]]`, listen on 127.0.0.1, or say `--insecure`"
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
        if self.limits.ceiling.memory > self.engine.max_memory {
            return Err(ConfigError(format!(
                "`limits.ceiling.memory` of {} is over `engine.max_memory` of {}",
                self.limits.ceiling.memory, self.engine.max_memory
            )));
        }
        Ok(())
    }

    /// What the runtime is made of.
    #[must_use]
    pub fn runtime_config(&self) -> RuntimeConfig {
        RuntimeConfig {
            engine: self.engine.clone(),
            pool: self.pool.clone(),
            compile: self.compile.clone(),
            artifacts: Some(self.server.data_dir.join("artifacts")),
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
        }
    }
}

impl Default for ListenConfig {
    fn default() -> Self {
        let loopback = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Self {
            grpc_listen: loopback(50051),
            http_listen: loopback(8080),
            insecure: false,
            data_dir: default_data_dir(),
            max_message: ByteCount(256 << 20),
            idle_timeout_ms: 60_000,
            shutdown_grace_ms: 10_000,
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

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn default_tenant() -> String {
    "default".into()
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
