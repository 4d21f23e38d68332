//! The grammar of capabilities, `kind:…`: parsing, the one canonical form, and what each would permit
//! in plain words. What covers what is decided elsewhere.
//!
//! Invariant: the text of a parsed capability parses to the same capability.

use std::fmt;
use std::str::FromStr;

use crate::escape::escape_untrusted;
use crate::host::{Host, Port};
use crate::units::{ByteCount, Fuel};

/// Bytes of a capability at most.
const MAX_BYTES: usize = 1024;

/// A power that an agent may ask for, normalised.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Capability {
    /// `filesystem:read|write|readwrite:/guest/path`
    Filesystem {
        /// What may be done there.
        access: FileAccess,
        /// Absolute, without `.`, `..`, empty or trailing components.
        path: String,
    },
    /// `network:http|https|tcp|udp|*:host[:port]`
    Network {
        /// How it is spoken to.
        protocol: Protocol,
        /// Who.
        host: Host,
        /// Where.
        port: Port,
    },
    /// `env:NAME`
    Env(String),
    /// `secret:NAME`
    Secret(String),
    /// `compute:memory=…,cpu_ms=…,fuel=…`
    Compute {
        /// Bytes of memory.
        memory: Option<ByteCount>,
        /// CPU time in milliseconds.
        cpu_ms: Option<u64>,
        /// Operations.
        fuel: Option<Fuel>,
    },
    /// `media:read|write:prefix`
    Media {
        /// What may be done with the objects.
        access: MediaAccess,
        /// What their names begin with; empty for all.
        prefix: String,
    },
    /// `extension:name`
    Extension(String),
}

/// The kinds of capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CapabilityKind {
    /// Files and directories.
    Filesystem,
    /// Connections and requests.
    Network,
    /// Environment variables.
    Env,
    /// Values that the guest uses but never sees.
    Secret,
    /// A larger budget.
    Compute,
    /// Objects in the media store.
    Media,
    /// An operator's own host function.
    Extension,
}

/// What may be done with files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FileAccess {
    /// Look.
    Read,
    /// Change, but not look.
    Write,
    /// Both.
    ReadWrite,
}

/// What may be done with objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MediaAccess {
    /// Fetch.
    Read,
    /// Store.
    Write,
}

/// How a host is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// HTTP without TLS.
    Http,
    /// HTTP with TLS.
    Https,
    /// A TCP connection.
    Tcp,
    /// UDP datagrams.
    Udp,
    /// Any of them.
    Any,
}

/// Why a text is no capability: a whole sentence that names the part that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("capability `{capability}`: {message}")]
pub struct CapabilityError {
    capability: String,
    message: String,
}

impl CapabilityKind {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::Filesystem,
        Self::Network,
        Self::Env,
        Self::Secret,
        Self::Compute,
        Self::Media,
        Self::Extension,
    ];

    /// The word before the first colon.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Filesystem => "filesystem",
            Self::Network => "network",
            Self::Env => "env",
            Self::Secret => "secret",
            Self::Compute => "compute",
            Self::Media => "media",
            Self::Extension => "extension",
        }
    }
}

impl FileAccess {
    /// The word between the colons.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::ReadWrite => "readwrite",
        }
    }
}

impl FromStr for Capability {
    type Err = CapabilityError;

    /// # Errors
    /// Names the part that is wrong and says what is expected; the text is echoed bounded and escaped.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).map_err(|message| CapabilityError { capability: escape_untrusted(text, 100), message })
    }
}

fn parse(text: &str) -> Result<Capability, String> {
    if text.len() > MAX_BYTES {
        return Err(format!("has {} bytes, the limit is {MAX_BYTES}", text.len()));
    }
    if let Some(character) = text.chars().find(|character| character.is_control()) {
        return Err(format!("holds the control character {}", character.escape_unicode()));
    }
    let kinds = || CapabilityKind::ALL.map(CapabilityKind::as_str).join(", ");
    let Some((kind, rest)) = text.split_once(':') else {
        return Err(format!("has no kind; write `kind:…` with one of {}", kinds()));
    };
    let Some(kind) = CapabilityKind::ALL.into_iter().find(|known| known.as_str() == kind) else {
        return Err(format!("kind `{}` is unknown; there are {}", escape_untrusted(kind, 40), kinds()));
    };
    match kind {
        CapabilityKind::Filesystem => filesystem(rest),
        CapabilityKind::Network => network(rest),
        CapabilityKind::Env => variable(rest).map(Capability::Env),
        CapabilityKind::Secret => variable(rest).map(Capability::Secret),
        CapabilityKind::Compute => compute(rest),
        CapabilityKind::Media => media(rest),
        CapabilityKind::Extension => extension(rest).map(Capability::Extension),
    }
}

fn filesystem(rest: &str) -> Result<Capability, String> {
    let Some((access, path)) = rest.split_once(':') else {
        return Err("write `filesystem:read:/path`, with `read`, `write` or `readwrite`".into());
    };
    let access = match access {
        "read" => FileAccess::Read,
        "write" => FileAccess::Write,
        "readwrite" => FileAccess::ReadWrite,
        other => {
            return Err(format!(
                "access `{}` must be `read`, `write` or `readwrite`",
                escape_untrusted(other, 40)
            ));
        }
    };
    Ok(Capability::Filesystem { access, path: guest_path(path)? })
}

/// Absolute and normal; `..` is refused rather than resolved, since where it leads depends on links.
fn guest_path(path: &str) -> Result<String, String> {
    let Some(relative) = path.strip_prefix('/') else {
        return Err("the guest path must begin with `/`".into());
    };
    let mut normal = String::new();
    for component in relative.split('/') {
        match component {
            "" | "." => {}
            ".." => return Err("the guest path must not hold `..`".into()),
            name => {
                normal.push('/');
                normal.push_str(name);
            }
        }
    }
    Ok(if normal.is_empty() { "/".into() } else { normal })
}

fn network(rest: &str) -> Result<Capability, String> {
    let Some((protocol, target)) = rest.split_once(':') else {
        return Err("write `network:https:host[:port]`".into());
    };
    let protocol = match protocol {
        "http" => Protocol::Http,
        "https" => Protocol::Https,
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "*" => Protocol::Any,
        other => {
            let other = escape_untrusted(other, 40);
            return Err(format!("protocol `{other}` must be `http`, `https`, `tcp`, `udp` or `*`"));
        }
    };
    let (host, port) = crate::host::parse_target(target)?;
    Ok(Capability::Network { protocol, host, port })
}

fn variable(name: &str) -> Result<String, String> {
    let first = name.bytes().next().unwrap_or(b'0');
    if !first.is_ascii_digit() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Ok(name.to_owned());
    }
    Err("the name must be letters, digits and `_`, not beginning with a digit".into())
}

fn compute(rest: &str) -> Result<Capability, String> {
    let (mut memory, mut cpu_ms, mut fuel) = (None, None, None);
    for part in rest.split(',') {
        let Some((name, value)) = part.split_once('=') else {
            return Err("write `compute:memory=64MB,cpu_ms=500,fuel=1000000`, any of the three".into());
        };
        let number = || {
            let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
            let number = if digits { value.parse::<u64>().ok() } else { None };
            number.ok_or_else(|| format!("`{name}` must be a whole number"))
        };
        let before = match name {
            "memory" => {
                memory.replace(value.parse::<ByteCount>().map_err(|error| error.to_string())?).is_some()
            }
            "cpu_ms" => cpu_ms.replace(number()?).is_some(),
            "fuel" => fuel.replace(Fuel(number()?)).is_some(),
            other => {
                let other = escape_untrusted(other, 40);
                return Err(format!("`{other}` is no budget; there are `memory`, `cpu_ms` and `fuel`"));
            }
        };
        if before {
            return Err(format!("`{name}` is given twice"));
        }
    }
    Ok(Capability::Compute { memory, cpu_ms, fuel })
}

fn media(rest: &str) -> Result<Capability, String> {
    let (access, prefix) = match rest.split_once(':') {
        Some(("read", prefix)) => (MediaAccess::Read, prefix),
        Some(("write", prefix)) => (MediaAccess::Write, prefix),
        _ => {
            return Err(
                "write `media:read:prefix` or `media:write:prefix`; an empty prefix is every object".into()
            );
        }
    };
    // Stores take `/a`, `a//b` and `./a` for `a` and `a/b`; here no two spellings of an object are two objects.
    let ends = prefix.strip_suffix('/').unwrap_or(prefix);
    if ends.split('/').any(|part| part == "." || part == "..") {
        return Err("the prefix must not hold `.` or `..` as a component".into());
    }
    if !prefix.is_empty() && ends.split('/').any(str::is_empty) {
        return Err("the prefix must not begin with `/` or hold `//`".into());
    }
    Ok(Capability::Media { access, prefix: prefix.to_owned() })
}

fn extension(name: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    if !name.is_empty() && name.bytes().all(allowed) {
        return Ok(name.to_owned());
    }
    Err("the name must be letters, digits, `_`, `.` or `-`".into())
}

impl Capability {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> CapabilityKind {
        match self {
            Self::Filesystem { .. } => CapabilityKind::Filesystem,
            Self::Network { .. } => CapabilityKind::Network,
            Self::Env(_) => CapabilityKind::Env,
            Self::Secret(_) => CapabilityKind::Secret,
            Self::Compute { .. } => CapabilityKind::Compute,
            Self::Media { .. } => CapabilityKind::Media,
            Self::Extension(_) => CapabilityKind::Extension,
        }
    }

    /// What it would permit, as one sentence without its full stop.
    #[must_use]
    pub fn explain(&self) -> String {
        match self {
            Self::Filesystem { access, path } => {
                let may = match access {
                    FileAccess::Read => "read, but not change,",
                    FileAccess::Write => "write, but not read,",
                    FileAccess::ReadWrite => "read and change",
                };
                format!("may {may} what is at `{path}`")
            }
            Self::Network { protocol, host, port } => {
                let how = match protocol {
                    Protocol::Http => "make HTTP requests without TLS to",
                    Protocol::Https => "make HTTPS requests to",
                    Protocol::Tcp => "open TCP connections to",
                    Protocol::Udp => "send UDP datagrams to",
                    Protocol::Any => "speak any protocol to",
                };
                format!("may {how} {}{}", host.explain(), port.explain())
            }
            Self::Env(name) => format!("may read the environment variable `{name}`"),
            Self::Secret(name) => format!("may use the secret `{name}` without seeing it"),
            Self::Compute { memory, cpu_ms, fuel } => {
                let mut parts = Vec::new();
                parts.extend(memory.map(|memory| format!("{memory} of memory")));
                parts.extend(cpu_ms.map(|cpu_ms| format!("{cpu_ms} ms of CPU time")));
                parts.extend(fuel.map(|fuel| format!("{fuel} of fuel")));
                format!("may take up to {}", parts.join(" and "))
            }
            Self::Media { access, prefix } => {
                let may = if *access == MediaAccess::Read { "fetch" } else { "store" };
                if prefix.is_empty() {
                    format!("may {may} any media object")
                } else {
                    format!("may {may} media objects whose names begin with `{prefix}`")
                }
            }
            Self::Extension(name) => format!("may call the operator's extension `{name}`"),
        }
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:", self.kind().as_str())?;
        match self {
            Self::Filesystem { access, path } => {
                write!(formatter, "{}:{path}", access.as_str())
            }
            Self::Network { protocol, host, port } => {
                let protocol = match protocol {
                    Protocol::Http => "http",
                    Protocol::Https => "https",
                    Protocol::Tcp => "tcp",
                    Protocol::Udp => "udp",
                    Protocol::Any => "*",
                };
                write!(formatter, "{protocol}:{host}{port}")
            }
            Self::Env(name) | Self::Secret(name) | Self::Extension(name) => formatter.write_str(name),
            Self::Compute { memory, cpu_ms, fuel } => {
                let mut parts = Vec::new();
                parts.extend(memory.map(|memory| format!("memory={}", memory.0)));
                parts.extend(cpu_ms.map(|cpu_ms| format!("cpu_ms={cpu_ms}")));
                parts.extend(fuel.map(|fuel| format!("fuel={fuel}")));
                formatter.write_str(&parts.join(","))
            }
            Self::Media { access, prefix } => {
                let access = if *access == MediaAccess::Read { "read" } else { "write" };
                write!(formatter, "{access}:{prefix}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_kind_has_one_canonical_form() {
        for (text, canonical) in [
            ("filesystem:read:/data//a/./b/", "filesystem:read:/data/a/b"),
            ("filesystem:readwrite:/", "filesystem:readwrite:/"),
            ("network:https:API.OpenAI.com.", "network:https:api.openai.com"),
            ("network:https:*.OpenAI.com:8443", "network:https:*.openai.com:8443"),
            ("network:tcp:10.0.0.0/8:*", "network:tcp:10.0.0.0/8:*"),
            ("network:tcp:[::ffff:10.0.0.1]:80", "network:tcp:10.0.0.1:80"),
            ("network:*:[2001:DB8::1]", "network:*:[2001:db8::1]"),
            ("network:https:bücher.example", "network:https:xn--bcher-kva.example"),
            ("env:OPENAI_API_KEY", "env:OPENAI_API_KEY"),
            ("secret:TOKEN", "secret:TOKEN"),
            ("compute:fuel=5,memory=64MB", "compute:memory=67108864,fuel=5"),
            ("media:read:pictures/", "media:read:pictures/"),
            ("extension:acme.search", "extension:acme.search"),
        ] {
            let parsed: Capability = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(parsed.to_string(), canonical);
            assert_eq!(canonical.parse::<Capability>().unwrap(), parsed);
        }
    }

    #[test]
    fn a_bad_capability_is_told_which_part_is_wrong() {
        for (text, says) in [
            ("filesystem", "has no kind"),
            ("files:read:/", "kind `files` is unknown"),
            ("filesystem:look:/data", "access `look`"),
            ("filesystem:read:data", "must begin with `/`"),
            ("filesystem:read:/data/../etc", "must not hold `..`"),
            ("network:ftp:a.b", "protocol `ftp`"),
            ("network:https:", "host"),
            ("network:https:a..b", "host"),
            ("network:https:*open.com", "host"),
            ("network:https:a.b:0", "port"),
            ("network:https:a.b:99999", "port"),
            ("network:https:user@a.b", "host"),
            ("network:tcp:10.0.0.0/33", "/33"),
            ("env:1A", "not beginning with a digit"),
            ("env:", "must be letters"),
            ("compute:speed=1", "`speed` is no budget"),
            ("compute:fuel=1,fuel=2", "twice"),
            ("media:look:x", "media:read:prefix"),
            ("media:read:/a", "must not begin with `/`"),
            ("media:read:a//b", "must not begin with `/` or hold `//`"),
            ("media:read:a//", "must not begin with `/` or hold `//`"),
            ("media:read:/", "must not begin with `/`"),
            ("media:read:a/../b", "`..` as a component"),
            ("extension:a b", "must be letters"),
            ("env:A\u{1b}[31m", "control character"),
        ] {
            let error = text.parse::<Capability>().unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused_without_a_panic(text in "\\PC{0,80}") {
            if let Ok(capability) = text.parse::<Capability>() {
                let canonical = capability.to_string();
                prop_assert_eq!(canonical.parse::<Capability>().unwrap(), capability);
            }
        }

        #[test]
        fn what_looks_like_a_network_capability_keeps_its_meaning(
            text in "network:(https?|tcp|udp|\\*):(\\*\\.)?[a-zA-Z0-9.:\\[\\]/-]{1,30}(:[0-9*]{1,5})?"
        ) {
            if let Ok(capability) = text.parse::<Capability>() {
                prop_assert_eq!(capability.to_string().parse::<Capability>().unwrap(), capability);
            }
        }
    }
}
