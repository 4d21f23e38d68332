//! How an agent in a registry is named: `oci://HOST[:PORT]/REPOSITORY[:TAG|@sha256:…]`, by the grammar of the OCI
//! distribution specification 1.1. The host always stands there: no registry is meant where none is named.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use mentat_manifest::{Digest, escape_untrusted, is_host, is_repository, is_tag};

/// What a reference begins with.
const SCHEME: &str = "oci://";
/// Characters of a repository's name at most, with the host, as clients agree on.
const MAX_NAME_BYTES: usize = 255;
/// Where HTTPS is served unless something else is said.
const HTTPS_PORT: u16 = 443;

/// A registry: a host, and a port where it is not the usual one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registry {
    /// In lower case; an IPv6 address in brackets.
    host: String,
    port: Option<u16>,
}

/// An agent in a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Where it is.
    pub registry: Registry,
    /// What it is called there.
    pub repository: String,
    /// Which one of that name.
    pub selector: Selector,
}

/// Which artifact of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// The one that has this tag now; another one may have it in a moment.
    Tag(String),
    /// This one for all time.
    Digest(Digest),
    /// It is not said.
    Unsaid,
}

/// A text that names no agent in a registry, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no reference to an agent in a registry: {why}")]
pub struct ReferenceError {
    text: String,
    why: &'static str,
}

impl Reference {
    /// Whether a text is meant to be one.
    #[must_use]
    pub fn is_meant(text: &str) -> bool {
        text.starts_with(SCHEME)
    }

    /// The same, pinned.
    #[must_use]
    pub fn at(&self, digest: Digest) -> Self {
        Self { selector: Selector::Digest(digest), ..self.clone() }
    }

    /// The digest, where it is pinned.
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        match self.selector {
            Selector::Digest(digest) => Some(digest),
            Selector::Tag(_) | Selector::Unsaid => None,
        }
    }
}

impl Registry {
    /// The host alone, an IPv6 address in brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, where it is not that of HTTPS.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.port
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    /// # Errors
    /// Echoes the text, bounded and escaped, and says what is wrong with it.
    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        read(text).map_err(|why| ReferenceError { text: shown(text), why })
    }
}

impl FromStr for Registry {
    type Err = ReferenceError;

    /// # Errors
    /// As for a reference.
    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        registry(text).map_err(|why| ReferenceError { text: shown(text), why })
    }
}

/// The text as an error repeats it: without the password that somebody may have put before the host.
fn shown(text: &str) -> String {
    let (scheme, rest) = text.strip_prefix(SCHEME).map_or(("", text), |rest| (SCHEME, rest));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    match authority.rsplit_once('@') {
        Some((_, host)) => escape_untrusted(&format!("{scheme}…@{host}{path}"), 300),
        None => escape_untrusted(text, 300),
    }
}

fn read(text: &str) -> Result<Reference, &'static str> {
    let rest = text.strip_prefix(SCHEME).ok_or("it begins with `oci://`")?;
    let (host, rest) = rest.split_once('/').ok_or("after the host comes `/` and a repository")?;
    let registry = registry(host)?;
    let (name, selector) = match rest.split_once('@') {
        Some((name, _)) if name.contains(':') => return Err("it has a tag or a digest, not both"),
        Some((name, digest)) => {
            let digest =
                digest.parse().map_err(|_| "a digest is `sha256:` and 64 lower-case hexadecimal digits")?;
            (name, Selector::Digest(digest))
        }
        None => match rest.split_once(':') {
            Some((name, tag)) if is_tag(tag) => (name, Selector::Tag(tag.to_owned())),
            Some(_) => {
                return Err(
                    "a tag has up to 128 letters, digits, `_`, `.` and `-`, and begins with neither `.` nor `-`",
                );
            }
            None => (rest, Selector::Unsaid),
        },
    };
    if host.len() + name.len() >= MAX_NAME_BYTES {
        return Err("it is too long");
    }
    if !is_repository(name) {
        return Err(
            "a repository has parts between `/`, each of lower-case letters and digits with `.`, `_`, `__` or `-` between them",
        );
    }
    Ok(Reference { registry, repository: name.to_owned(), selector })
}

fn registry(text: &str) -> Result<Registry, &'static str> {
    const WRONG: &str =
        "a registry is a host's name or address, and a port if need be, such as `harbor.lan:5000`";
    if text.contains('@') {
        return Err("a name and a password are not part of it; they come from a credentials file");
    }
    let end = if text.starts_with('[') {
        text.find(']').ok_or(WRONG)? + 1
    } else {
        text.find(':').unwrap_or(text.len())
    };
    let (host, port) = text.split_at_checked(end).ok_or(WRONG)?;
    let port = match port {
        "" => None,
        port => {
            let digits =
                port.strip_prefix(':').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
            let port = digits.and_then(|digits| digits.parse::<u16>().ok()).filter(|port| *port > 0);
            Some(port.ok_or("a port is a number from 1 to 65535")?)
        }
    };
    let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => format!("[{}]", address.parse::<Ipv6Addr>().map_err(|_| WRONG)?),
        None if is_host(host) => host.to_ascii_lowercase(),
        None => return Err(WRONG),
    };
    Ok(Registry { host, port: port.filter(|port| *port != HTTPS_PORT) })
}

impl fmt::Display for Registry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.host)?;
        self.port.map_or(Ok(()), |port| write!(formatter, ":{port}"))
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { registry, repository, selector } = self;
        write!(formatter, "{SCHEME}{registry}/{repository}")?;
        match selector {
            Selector::Tag(tag) => write!(formatter, ":{tag}"),
            Selector::Digest(digest) => write!(formatter, "@{digest}"),
            Selector::Unsaid => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn why(text: &str) -> String {
        text.parse::<Reference>().unwrap_err().to_string()
    }

    #[test]
    fn a_reference_has_a_host_a_repository_and_says_which() {
        let digest = Digest::of(b"x");
        for (text, host, port, repository, selector) in [
            (
                "oci://Harbor.LAN/agents/echo:1.0.0",
                "harbor.lan",
                None,
                "agents/echo",
                Selector::Tag("1.0.0".into()),
            ),
            ("oci://harbor.lan:443/echo", "harbor.lan", None, "echo", Selector::Unsaid),
            (
                "oci://127.0.0.1:5000/a/b__c/d--e:latest",
                "127.0.0.1",
                Some(5000),
                "a/b__c/d--e",
                Selector::Tag("latest".into()),
            ),
            ("oci://[::0001]:5000/a", "[::1]", Some(5000), "a", Selector::Unsaid),
            (&format!("oci://h/a@{digest}"), "h", None, "a", Selector::Digest(digest)),
        ] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!((reference.registry.host(), reference.registry.port()), (host, port), "{text}");
            assert_eq!(
                (reference.repository.as_str(), &reference.selector),
                (repository, &selector),
                "{text}"
            );
            assert_eq!(reference.to_string().parse(), Ok(reference));
        }
    }

    #[test]
    fn what_is_no_reference_is_told_why() {
        for (text, says) in [
            ("harbor.lan/echo", "begins with `oci://`"),
            ("oci://harbor.lan", "and a repository"),
            ("oci:///echo", "a registry is"),
            ("oci://user@harbor.lan/echo", "come from a credentials file"),
            ("oci://user:secret@harbor.lan/echo", "`oci://…@harbor.lan/echo` is no reference"),
            ("oci://harbor.lan:0/echo", "a port is"),
            ("oci://harbor.lan:+80/echo", "a port is"),
            ("oci://2130706433/echo", "a registry is"),
            ("oci://127.1/echo", "a registry is"),
            ("oci://0X7F000001/echo", "a registry is"),
            ("oci://0x7f.0.0.0x1/echo", "a registry is"),
            ("oci://-a/echo", "a registry is"),
            ("oci://a..b/echo", "a registry is"),
            ("oci://[::1/echo", "a registry is"),
            ("oci://h/", "a repository has"),
            ("oci://h/a//b", "a repository has"),
            ("oci://h/../v2", "a repository has"),
            ("oci://h/Echo", "a repository has"),
            ("oci://h/a?b=c", "a repository has"),
            ("oci://h/a%2e", "a repository has"),
            ("oci://h/a___b", "a repository has"),
            ("oci://h/a:", "a tag has"),
            ("oci://h/a:.x", "a tag has"),
            ("oci://h/a:b/c", "a tag has"),
            ("oci://h/a@sha256:00", "a digest is"),
            ("oci://h/a:b@sha256:00", "not both"),
        ] {
            assert!(why(text).contains(says), "{text}: {}", why(text));
        }
        assert!(why(&format!("oci://h/{}", "a".repeat(300))).contains("too long"));
        assert!(!why("oci://h/\u{1b}[2J").contains('\u{1b}'));
    }

    proptest! {
        #[test]
        fn whatever_is_read_is_written_and_read_as_the_same(text in "(oci://)?[a-zA-Z0-9\\[\\]:.-]{0,20}/[a-z0-9/._-]{0,20}([:@][a-zA-Z0-9:._-]{0,80})?") {
            if let Ok(reference) = text.parse::<Reference>() {
                prop_assert_eq!(reference.to_string().parse::<Reference>(), Ok(reference));
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in any::<String>()) {
            let _ = text.parse::<Reference>();
            let _ = format!("oci://{text}").parse::<Reference>();
        }
    }
}
