//! Every configuration key with its meaning, unit and reason: the one table behind `--print-config`,
//! `docs/configuration.md` and the names of the environment variables.

use std::fmt::Write;

use mentat_manifest::ByteCount;
use toml::{Table, Value};

use super::ServerConfig;

/// One configuration key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its dotted name.
    pub name: &'static str,
    /// What it sets, in which unit, and why its default is what it is.
    pub meaning: &'static str,
}

const fn key(name: &'static str, meaning: &'static str) -> Key {
    Key { name, meaning }
}

/// Every key, in the order in which they are shown.
pub const KEYS: &[Key] = &[
    key(
        "server.grpc_listen",
        "Address of the gRPC service. Loopback, so that nobody outside reaches it unasked.",
    ),
    key(
        "server.http_listen",
        "Address of the JSON service, the health checks and the metrics. Loopback as well.",
    ),
    key("server.insecure", "Serve an address that others can reach without any credentials."),
    key("server.data_dir", "Directory of the agents, their modules and compiled code. One server at a time."),
    key(
        "server.max_message",
        "Bytes of one gRPC message or HTTP body at most; room for a 64 MB input in base64.",
    ),
    key(
        "server.idle_timeout_ms",
        "Milliseconds that a client may be silent in the middle of a body, leave a reply unread, or keep a connection that it does not use.",
    ),
    key(
        "server.header_timeout_ms",
        "Milliseconds until a request's header must be there: on a new connection, the TLS handshake included, and on one of HTTP/1 that is kept.",
    ),
    key("server.max_connections", "Connections of each door at most; further ones wait to be accepted."),
    key(
        "server.max_in_flight",
        "Bytes of bodies that are being read and of replies that are not yet sent, over all connections; more is refused as overloaded.",
    ),
    key(
        "server.guest_threads",
        "Threads that guests compute on, apart from those that serve connections; 0 for as many as there are cores.",
    ),
    key("server.shutdown_grace_ms", "Milliseconds that running executions are given to finish at shutdown."),
    key(
        "tls.certificate",
        "PEM file of the server's certificate and those between it and its root; empty: no TLS.",
    ),
    key("tls.key", "PEM file of the certificate's private key."),
    key(
        "tls.client_ca",
        "PEM file of the roots that clients' certificates are checked against; empty: none are asked for.",
    ),
    key(
        "auth.api_keys",
        "Accepted keys, each with `name`, `tenant` and the `sha256` of the key. Neither keys nor clients: everybody is let in.",
    ),
    key(
        "auth.clients",
        "Accepted client certificates, each with `name`, `tenant` and `san`, a DNS name or URI of the certificate.",
    ),
    key("registry.agents_per_tenant", "Versions of agents that one tenant may have loaded."),
    key("registry.bytes_per_tenant", "Bytes of their modules; one that several versions share counts once."),
    key(
        "registry.in_memory",
        "Agents, of all tenants, whose code is kept in memory; the least recently used leaves first, and comes back from disk.",
    ),
    key(
        "registry.code_in_memory",
        "Bytes of the code of those agents; the least recently used leaves first here as well.",
    ),
    key(
        "limits.defaults.memory",
        "Bytes of linear memory of an agent whose manifest says nothing: a language runtime and some documents.",
    ),
    key(
        "limits.defaults.fuel",
        "Fuel of an execution where the manifest says nothing: about a second of computing.",
    ),
    key(
        "limits.defaults.timeout_ms",
        "Wall clock of an execution in milliseconds, where the manifest says nothing.",
    ),
    key("limits.defaults.output", "Bytes of output of an execution, where the manifest says nothing."),
    key("limits.defaults.log", "Bytes of log of an execution; what goes over is counted and dropped."),
    key("limits.defaults.log_lines", "Lines of log of an execution; what goes over is counted and dropped."),
    key("limits.ceiling.memory", "Bytes of linear memory that a manifest can ask for at most."),
    key(
        "limits.ceiling.fuel",
        "Fuel that a manifest can ask for at most: about a quarter of an hour of computing.",
    ),
    key("limits.ceiling.timeout_ms", "Wall clock in milliseconds that a manifest can ask for at most."),
    key("limits.ceiling.output", "Bytes of output that a manifest can ask for at most."),
    key("limits.ceiling.log", "Bytes of log at most."),
    key("limits.ceiling.log_lines", "Lines of log at most."),
    key("limits.max_input", "Bytes of an execution's input at most."),
    key(
        "policy.dir",
        "Folder of the policies, `*.cedar` files that say which agent may have what; empty for the default ones, which `mentat policy show` prints.",
    ),
    key(
        "policy.reload_ms",
        "Milliseconds between two looks at the folder; 0 for never, policies then change by a restart.",
    ),
    key(
        "security.on_violation",
        "What becomes of an agent that asks for what it may not have: `deny` lets it see the error, `terminate` ends the execution with SECURITY_VIOLATION.",
    ),
    key(
        "attestation.mode",
        "Whether agents must be signed: `required`, `optional` (those without a signature are untrusted, those with a bad one refused), or `off` (nobody looks at signatures).",
    ),
    key("attestation.tenants", "The same for single tenants, each with `tenant` and `mode`."),
    key(
        "attestation.enforce_from",
        "Day or time before which `required` refuses no unsigned agent, and tells of it instead, such as `2026-07-01`; empty: from the start.",
    ),
    key(
        "attestation.roots",
        "Files and folders of the root certificates that signers' certificates must lead to, in PEM or DER.",
    ),
    key(
        "attestation.crls",
        "Files and folders of certificate revocation lists, in PEM or DER; of an issuer's, the newest counts.",
    ),
    key(
        "attestation.stale_crl",
        "What becomes of certificates whose issuer's revocation list is overdue: `refuse`, since it may hide what was revoked, or `accept`.",
    ),
    key(
        "attestation.missing_crl",
        "What becomes of certificates whose issuer has no revocation list here: `accept`, or `refuse`.",
    ),
    key(
        "attestation.clock_skew_ms",
        "Milliseconds, in whole seconds, that a signer's clock may be ahead of this machine's; a day at most.",
    ),
    key(
        "attestation.reload_ms",
        "Milliseconds between two looks at roots and revocation lists; 0 for never, they then change by a restart.",
    ),
    key(
        "attestation.trust",
        "Who is trusted further than `signed`, each with `level` (`community`, `verified`) and all that must be so of the certificate: `email` (`*@example.com` for a domain), `subject`, `organisation`, `policy` (an object identifier), `root` (a fingerprint). The highest level that fits counts.",
    ),
    key(
        "attestation.minimum_versions",
        "Versions that agents must have at least, in every mode, each with `agent`, `version`, and if need be `tenants`: an old version with a hole stays signed.",
    ),
    key("audit.dir", "Folder of the audit log; `audit` in the data directory where empty."),
    key("audit.origin", "What the log calls itself in its checkpoints; one name for each server."),
    key(
        "audit.sync",
        "When the disk itself is waited for: `group` after each group of records, `checkpoint` with each checkpoint, `never`. What was written and not waited for survives a crash of the service, not of the machine.",
    ),
    key("audit.checkpoint_ms", "Milliseconds between two signed checkpoints."),
    key(
        "audit.on_failure",
        "What becomes of executions while the log cannot be written, as on a full disk: `refuse` them, or `continue` unaudited until it can.",
    ),
    key("audit.retain_days", "Days that records are kept, 256 at a time; 0 for ever."),
    key(
        "audit.retain_bytes",
        "Bytes of records that are kept, beyond which the oldest go; 0 for no bound. Their hashes stay, and take about a twentieth of the room.",
    ),
    key(
        "audit.archive",
        "Folder that records are moved to when they are no longer kept, on another disk if need be; empty: they are deleted.",
    ),
    key(
        "sandbox.quota",
        "Bytes that one execution may add to a directory whose mount says nothing else, and to its scratch directory at `/tmp`.",
    ),
    key(
        "sandbox.open_files",
        "Files and directories that one execution may have open at one time by way of WASI.",
    ),
    key(
        "sandbox.directory_entries",
        "Entries of a directory that an execution may list; the host collects them before the guest gets them.",
    ),
    key(
        "sandbox.sleep_ms",
        "Milliseconds that one execution may spend asleep or polling, in all; a sleeper takes a place and memory from others.",
    ),
    key(
        "sandbox.mounts",
        "Directories of this machine as agents see them, each with `guest`, `host`, and if need be `access` (`read-only`, `write-only`, `read-write`), `quota` and `tenants`.",
    ),
    key(
        "sandbox.env",
        "Values of environment variables that agents may ask for, each with `name` and one of `value`, `from` (a variable of the service) and `file`. One that also has `hosts` is sealed: agents get a placeholder, as of a secret.",
    ),
    key(
        "sandbox.secrets",
        "Values that agents may use and never see, each with `name`, one of `value`, `from` and `file`, and `hosts`: where it may go, such as `api.example.com` (by HTTPS), `*.example.com:8443` or `http:10.0.0.5`.",
    ),
    key(
        "sandbox.extensions",
        "Services of the operator's own that agents call by `extension:NAME`, each with `name` and `url`; the agent's JSON is posted there.",
    ),
    key(
        "network.connections",
        "Connections, sockets and look-ups of names that one execution may have open at one time.",
    ),
    key(
        "network.connect_timeout_ms",
        "Milliseconds until a connection stands: its name looked up, its encryption agreed on.",
    ),
    key(
        "network.response_timeout_ms",
        "Milliseconds that a host may keep an agent waiting, for the beginning of a response and between any two parts of it.",
    ),
    key("network.request_bytes", "Bytes of one request's body at most."),
    key("network.response_bytes", "Bytes of one response's body at most."),
    key(
        "network.nameservers",
        "DNS servers that names are looked up at, such as `10.0.0.2:53`; those of `/etc/resolv.conf` where empty.",
    ),
    key(
        "network.hosts",
        "Names that mean what is said here, private addresses as well, each with `name` and `addresses`; they are not looked up.",
    ),
    key(
        "network.reachable",
        "Networks that looked-up names may lead to though they are not public, such as `10.1.0.0/16`.",
    ),
    key(
        "network.roots",
        "PEM file of roots that servers' certificates are checked against, beside the system's; empty: none.",
    ),
    key(
        "media.dir",
        "Directory of the objects that agents read and store, one in it for each tenant; `media` in the data directory where empty. One server at a time.",
    ),
    key("media.bucket", "Bucket of a service that speaks S3, in place of a directory; empty: none."),
    key(
        "media.endpoint",
        "URL of the service that has the bucket, such as `https://minio.example.com:9000`; Amazon's of the region where empty.",
    ),
    key("media.region", "Region that requests to the service are signed for."),
    key("media.prefix", "What the keys of all objects in the bucket begin with."),
    key(
        "media.credentials",
        "Who asks for objects of the bucket: `access_key_id`, `secret_access_key` and if need be `session_token`, each with `name` and one of `from` (a variable of the service) and `file`; empty: requests are not signed.",
    ),
    key(
        "media.callers",
        "What callers may do with objects of their tenant themselves, at `/v1/media`: `read-write`, `read-only` or `none`.",
    ),
    key("media.object_bytes", "Bytes of one object at most; 5 GB at most."),
    key("media.bytes_per_tenant", "Bytes of all objects that agents and callers have stored for one tenant."),
    key(
        "media.retain_days",
        "Days that objects are kept which agents have stored; 0 for ever. What others put into the store stays.",
    ),
    key(
        "media.timeout_ms",
        "Milliseconds that the store may keep an execution waiting, for each request that is made of it.",
    ),
    key(
        "oci.registries",
        "Registries that `LoadAgent` may take agents from, such as `harbor.lan:5000`, or repositories in them, `ghcr.io/acme`; empty: none.",
    ),
    key(
        "oci.insecure",
        "Registries of those that are spoken to by plain HTTP; their credentials too are sent as they are.",
    ),
    key(
        "oci.hosts",
        "Further hosts that registries may send to: token services, which get their credentials, and stores that have no public address.",
    ),
    key(
        "oci.credentials",
        "File with names and passwords for registries, in the form of docker's `config.json` or podman's `auth.json`; empty: none.",
    ),
    key(
        "oci.roots",
        "PEM file of roots that registries' certificates are checked against, beside the system's; empty: none.",
    ),
    key(
        "oci.concurrent",
        "Agents that are pulled at one time, each held in memory; one more is refused as overloaded.",
    ),
    key("oci.timeout_ms", "Milliseconds that pulling an agent may take."),
    key("oci.idle_timeout_ms", "Milliseconds that a registry may be silent."),
    key(
        "engine.allocator",
        "`pooling`: instances from slots reserved once, microseconds each. `on_demand`: memory mapped for each, for machines with little address space.",
    ),
    key(
        "engine.max_executions",
        "Live executions at most; sizes the pool, which takes `engine.memory_reservation` of address space for each, and up to 5 mappings (`vm.max_map_count`).",
    ),
    key("engine.max_memory", "Bytes of the largest linear memory that the pool has room for."),
    key("engine.table_elements", "Elements of one table at most; big programs have some ten thousand."),
    key("engine.stack", "Bytes of stack that a guest's calls may use."),
    key(
        "engine.keep_resident",
        "Bytes of a slot that are zeroed and kept when an execution ends, instead of being given back to the kernel; 128 KB at most before Linux 6.7.",
    ),
    key(
        "engine.memory_reservation",
        "Address space of each linear memory, in bytes. Less than 4 GB makes room for more executions, and slower code.",
    ),
    key(
        "engine.memory_budget",
        "Bytes of linear memory that all executions may have together; 0 for four fifths of the machine's, or of its control group's.",
    ),
    key("engine.epoch_tick_ms", "Milliseconds after which a computing guest yields its thread to others."),
    key("pool.queue_length", "Callers that may wait for a place; one more is refused as overloaded."),
    key("pool.queue_timeout_ms", "Milliseconds that a caller waits for a place at most."),
    key(
        "compile.timeout_ms",
        "Wall clock of one compile in milliseconds; a hostile module can take a minute.",
    ),
    key("compile.cpu_seconds", "CPU time of one compile, in seconds, over all its threads."),
    key("compile.memory", "Address space of the compiling process, in bytes."),
    key("compile.concurrency", "Compiles at the same time; each uses every core."),
    key("compile.queue_length", "Loads that may wait for a compile; one more is refused as overloaded."),
    key("compile.queue_timeout_ms", "Milliseconds that a load waits for its compile to begin, at most."),
    key("compile.max_module", "Bytes of a module at most."),
    key(
        "compile.tiers",
        "`both`: new modules answer first on baseline code (by Winch), while optimised code is made. `optimized`: the first execution waits for that. `baseline`: no better code is made.",
    ),
    key("compile.cache", "Bytes of compiled code that are kept on disk; what was used least recently goes."),
    key(
        "warm.max_instances",
        "Instances that wait for the next execution of an agent whose manifest says `instances: reuse`; each takes a place until that is needed. 0: every execution starts afresh.",
    ),
    key("warm.per_agent", "Of those, instances of one agent for one tenant."),
    key("warm.max_uses", "Executions that one instance serves."),
    key("warm.idle_ms", "Milliseconds that one waits for its next execution."),
    key(
        "container.socket",
        "Socket of the engine that runs container agents, Docker's or Podman's, such as `/run/podman/podman.sock`; empty: no containers.",
    ),
    key(
        "container.fallback",
        "Execute the image of an agent whose module cannot run here, as for an import that is not offered.",
    ),
    key(
        "container.images",
        "Beginnings of the names of images that agents may have, such as `harbor.lan/agents`; empty: every image that the engine has.",
    ),
    key(
        "container.pull",
        "What happens where the engine has not the image: `never`, the agent is refused; `missing`, the engine fetches it, from what `container.images` lists.",
    ),
    key("container.pull_ms", "Milliseconds that fetching an image may take."),
    key(
        "container.engine_ms",
        "Milliseconds that the engine may take for each step of making, looking at and removing a container.",
    ),
    key(
        "container.max_executions",
        "Containers that run at the same time; further executions wait as `pool` has it.",
    ),
    key(
        "container.memory",
        "Memory of a container whose manifest says nothing: a language runtime and some documents.",
    ),
    key("container.cpus", "Processors of a container whose manifest says nothing, such as `500m` or `2`."),
    key("container.max_cpus", "Processors that `resources.cpu` of a manifest can ask for at most."),
    key("container.pids", "Processes and threads of one container."),
    key("container.open_files", "Files that each process of a container may have open."),
    key("container.tmp", "Bytes of a container's `/tmp`, where it may have one; they count as its memory."),
    key(
        "container.user",
        "Whom the programs of a container run as that has one of `sandbox.mounts`, a user and a group in numbers, neither of them root. The group is that of all containers.",
    ),
    key(
        "container.users.first",
        "The first of the user numbers that all other containers get, one each, which no account of the machine has.",
    ),
    key(
        "container.users.count",
        "How many those are: at least two for each of `container.max_executions` and `container.warm.max_containers`.",
    ),
    key(
        "container.warm.max_containers",
        "Containers that wait for the next execution of an agent whose manifest says `instances: reuse`, besides those of `container.max_executions`. 0: each execution has a new one.",
    ),
    key("container.warm.per_agent", "Of those, containers of one agent for one tenant."),
    key("container.warm.max_uses", "Executions that one container serves."),
    key("container.warm.idle_ms", "Milliseconds that one waits for its next execution."),
    key(
        "rollout.percent",
        "Of a hundred executions of agents that have both a module and an image, those that are the module's, chosen by the execution's id; the rest are the image's. While the container engine is away all are the module's, but for those of `rollout.deny`.",
    ),
    key(
        "rollout.allow",
        "Ids of agents whose executions are all the module's, such as `[\"acme.summary\"]`.",
    ),
    key(
        "rollout.deny",
        "Ids of agents whose executions are all the image's, also while the container engine is away: they are then refused.",
    ),
    key("executions.remembered", "Finished executions that `GetExecution` still answers for."),
    key(
        "streams.buffer",
        "Bytes of one execution's events (log lines, chunks of streams, its end) that are kept for those who read them late or again.",
    ),
    key("streams.buffer_events", "Events of one execution that are kept."),
    key(
        "streams.back_pressure",
        "What happens to a chunk for which there is no room until a reader has read: `block` its writer for a while, `drop_oldest`, or `fail`, so that the agent is told. Without a reader that keeps up, the oldest event goes.",
    ),
    key(
        "streams.block_ms",
        "Milliseconds that a writer waits for the slowest reader, which then misses events, and is not waited for until it has read of that.",
    ),
    key("streams.per_tenant", "Bytes of the events that are kept of all executions of a tenant."),
    key("streams.total", "Bytes of the events that are kept of all executions."),
    key(
        "streams.retention_ms",
        "Milliseconds that events are kept after the end of their execution, where their room is not needed.",
    ),
    key(
        "streams.idle_ms",
        "Milliseconds after which a stream that an agent elsewhere publishes is given up, if nothing is published.",
    ),
    key(
        "streams.heartbeat_ms",
        "Milliseconds of silence after which a reader by WebSocket or server-sent events gets a heartbeat.",
    ),
    key("streams.max_sockets", "WebSockets at one time; further ones are refused as overloaded."),
    key(
        "log.level",
        "The service's own log: `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `info,mentat_runtime=debug`.",
    ),
    key("log.format", "`text`, `json`, or `auto`: text on a terminal, JSON elsewhere."),
];

/// The environment variable of a key: `MENTAT_`, and the key in upper case with `_` for dots.
#[must_use]
pub fn variable_name(key: &str) -> String {
    format!("MENTAT_{}", key.to_uppercase().replace('.', "_"))
}

/// Whether a key's value is text, even where it looks like a number: names and paths. Sizes are written as
/// text or as numbers.
pub(super) fn wants_text(key: &str) -> bool {
    let defaults = Table::try_from(ServerConfig::default()).unwrap_or_default();
    let default = find(&defaults, key).and_then(Value::as_str);
    default.is_some_and(|default| default.parse::<ByteCount>().is_err())
}

impl ServerConfig {
    /// The whole configuration as TOML with a comment at each key; it reads back as itself.
    ///
    /// # Errors
    /// When a value cannot be written as TOML, such as a data directory that is not UTF-8.
    pub fn print(&self) -> Result<String, toml::ser::Error> {
        let table = Table::try_from(self)?;
        let mut text = String::from(
            "# The configuration of `mentat serve`. Environment variables: MENTAT_ and the key in\n# upper case with _ for dots; flags: --set key=value.\n",
        );
        let mut section = "";
        for key in KEYS {
            let (parent, name) = key.name.rsplit_once('.').unwrap_or(("", key.name));
            if parent != section {
                section = parent;
                // Writing to a string cannot fail.
                let _ = write!(text, "\n[{parent}]\n");
            }
            let _ = writeln!(text, "# {}", key.meaning);
            if let Some(value) = find(&table, key.name) {
                let _ = writeln!(text, "{name} = {}", inline(value));
            }
        }
        Ok(text)
    }
}

fn find<'a>(table: &'a Table, key: &str) -> Option<&'a Value> {
    let (first, rest) = key.split_once('.').unwrap_or((key, ""));
    match table.get(first)? {
        value if rest.is_empty() => Some(value),
        Value::Table(inner) => find(inner, rest),
        _ => None,
    }
}

fn inline(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(inline).collect::<Vec<_>>().join(", ")),
        Value::Table(table) => {
            let entries: Vec<String> =
                table.iter().map(|(key, value)| format!("{key} = {}", inline(value))).collect();
            format!("{{ {} }}", entries.join(", "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ApiKey;

    fn leaves(table: &Table, prefix: &str, found: &mut Vec<String>) {
        for (key, value) in table {
            let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
            match value {
                Value::Table(inner) => leaves(inner, &name, found),
                _ => found.push(name),
            }
        }
    }

    #[test]
    fn every_key_of_the_configuration_is_in_the_table_and_no_other() {
        let mut found = Vec::new();
        leaves(&Table::try_from(ServerConfig::default()).unwrap(), "", &mut found);
        let mut known: Vec<String> = KEYS.iter().map(|key| key.name.to_owned()).collect();
        found.sort();
        known.sort();
        assert_eq!(found, known);
    }

    #[test]
    fn what_is_printed_reads_back() {
        let mut config = ServerConfig::default();
        config.auth.api_keys =
            vec![ApiKey { name: "ci \"x\"".into(), tenant: "t".into(), sha256: "0".repeat(64) }];
        assert_eq!(toml::from_str::<ServerConfig>(&config.print().unwrap()).unwrap(), config);
    }

    #[test]
    fn the_configuration_page_is_up_to_date() {
        let mut config = ServerConfig::default();
        config.server.data_dir = "~/.local/share/mentat".into();
        let table = Table::try_from(config).unwrap();
        let mut page = String::from(
            "# Configuration\n\n`mentat serve` reads `mentat.toml`, then environment variables, then flags (`--set key=value`); the \
             later one counts. `mentat serve --print-config` prints what results, with these comments.\n\n| key | default | variable | meaning |\n|---|---|---|---|\n",
        );
        for key in KEYS {
            let value = find(&table, key.name).map(inline).unwrap_or_default();
            page.push_str(&format!(
                "| `{}` | `{value}` | `{}` | {} |\n",
                key.name,
                variable_name(key.name),
                key.meaning
            ));
        }
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
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
