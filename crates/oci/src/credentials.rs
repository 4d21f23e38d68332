//! Names and passwords for registries, from a file in the form of docker's `config.json`, or of podman's `auth.json`, which has
//! some for parts of a registry as well. Helper programs that such a file can name are not called.
//!
//! Invariant: what is for a part of a registry is used for that part alone; no password is in a message or in what `Debug`
//! prints.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use mentat_manifest::is_repository;
use serde::Deserialize;

use crate::error::OciError;
use crate::reference::{Reference, Registry};

/// Bytes of the file at most.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// What is known of registries, and of parts of them, by their names: `host[:port]`, with `/` and the beginning of repositories
/// behind it where it is a part.
#[derive(Clone, Default)]
pub struct Credentials {
    logins: BTreeMap<String, Login>,
    /// Whether the file leaves some of them to a program.
    has_helpers: bool,
}

/// A name and a password.
#[derive(Clone)]
pub(crate) struct Login {
    name: String,
    password: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    creds_store: Option<String>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
}

impl Credentials {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, or holds what makes no sense; names the registry and never what is secret.
    pub fn read(path: &Path) -> Result<Self, OciError> {
        let wrong =
            |why: &dyn fmt::Display| OciError::Local(format!("credentials `{}`: {why}", path.display()));
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path).map_err(|error| wrong(&error))?;
        file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|error| wrong(&error))?;
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(wrong(&"the file is too large"));
        }
        Self::parse(&bytes).map_err(|why| wrong(&why))
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        // What the parser would say can repeat what stands in the file.
        let file: File = serde_json::from_slice(bytes)
            .map_err(|error| format!("line {} is not as in docker's `config.json`", error.line()))?;
        let mut logins = BTreeMap::new();
        for (name, entry) in file.auths {
            // Docker writes URLs for some.
            let bare = name.trim_start_matches("https://").trim_start_matches("http://");
            let (host, path) = bare.split_once('/').unwrap_or((bare, ""));
            let Ok(registry) = host.parse::<Registry>() else { continue };
            let path = path.trim_end_matches('/');
            // Docker writes `/v1/` and `/v2/` for all of a registry; with a scheme they are no repositories.
            let is_all = path.is_empty() || (bare.len() < name.len() && ["v1", "v2"].contains(&path));
            let key = match is_all {
                true => registry.to_string(),
                false if is_repository(path) => format!("{registry}/{path}"),
                // What is for something that cannot be named is for nothing.
                false => continue,
            };
            if let Some(login) = entry.login().map_err(|why| format!("`auths`: `{key}`: {why}"))? {
                logins.insert(key, login);
            }
        }
        let has_helpers = file.creds_store.is_some() || !file.cred_helpers.is_empty();
        Ok(Self { logins, has_helpers })
    }

    /// What is known for a repository: what is for the longest part of its name (containers-auth.json).
    pub(crate) fn login(&self, reference: &Reference) -> Option<&Login> {
        let full = format!("{}/{}", reference.registry, reference.repository);
        let mut part = full.as_str();
        loop {
            if let Some(login) = self.logins.get(part) {
                return Some(login);
            }
            (part, _) = part.rsplit_once('/')?;
        }
    }

    /// What to do about a registry that wants other credentials.
    pub(crate) fn advice(&self, reference: &Reference) -> &'static str {
        let own = reference.registry.to_string();
        let is_of_registry = |key: &String| key.split('/').next() == Some(&own);
        match self.login(reference) {
            Some(_) => {
                "the name and password for it in the credentials file are not right, or may not do this"
            }
            None if self.has_helpers => {
                "the credentials file has none for it; programs that it names (`credsStore`, `credHelpers`) are not called"
            }
            None if self.logins.keys().any(is_of_registry) => {
                "the credentials file has some for other parts of it, and none for this repository"
            }
            None => "give some, in a file in the form of docker's `config.json`",
        }
    }
}

impl Login {
    /// What a request has for `Authorization` (RFC 7617).
    pub(crate) fn basic(&self) -> Option<HeaderValue> {
        let encoded = STANDARD.encode(format!("{}:{}", self.name, self.password));
        let mut value = HeaderValue::try_from(format!("Basic {encoded}")).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

impl Entry {
    fn login(self) -> Result<Option<Login>, &'static str> {
        if let (Some(name), Some(password)) = (self.username, self.password) {
            return Ok(Some(Login { name, password }));
        }
        let Some(auth) = self.auth.filter(|auth| !auth.is_empty()) else { return Ok(None) };
        let decoded = STANDARD.decode(auth.trim()).map_err(|_| "`auth` is not base64")?;
        let text = String::from_utf8(decoded).map_err(|_| "`auth` is not UTF-8")?;
        let (name, password) = text.split_once(':').ok_or("`auth` is not `name:password` in base64")?;
        // Docker has padded passwords with zeros.
        Ok(Some(Login { name: name.to_owned(), password: password.trim_end_matches('\0').to_owned() }))
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.logins.keys()).finish()
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Login(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(place: &str) -> Reference {
        format!("oci://{place}").parse().unwrap()
    }

    fn header(text: &str, registry: &str) -> Option<String> {
        let credentials = Credentials::parse(text.as_bytes()).unwrap();
        let login = credentials.login(&reference(&format!("{registry}/agents/a")))?;
        Some(login.basic().unwrap().to_str().unwrap().to_owned())
    }

    #[test]
    fn the_forms_that_docker_and_podman_write_are_read() {
        // user:pass
        let text = r#"{"auths":{"https://index.docker.io/v1/":{"auth":"dXNlcjpwYXNz"},"harbor.lan:443":{"username":"a","password":"b:c"},"other.lan:5000":{}}}"#;
        assert_eq!(header(text, "index.docker.io").unwrap(), "Basic dXNlcjpwYXNz");
        assert_eq!(header(text, "harbor.lan").unwrap(), "Basic YTpiOmM=");
        assert_eq!(header(text, "other.lan:5000"), None);
        assert_eq!(header(text, "harbor.lan:8443"), None);
        assert_eq!(header("{}", "harbor.lan"), None);
    }

    #[test]
    fn what_is_for_the_longest_part_of_a_repositorys_name_is_used_and_for_no_other_part() {
        let names =
            ["h:5000", "h:5000/team", "h:5000/team/a", "h:5000/v2", "part.lan/team", "https://all.lan/v2/"];
        let auths: Vec<String> =
            names.iter().map(|name| format!(r#""{name}":{{"username":"{name}","password":"x"}}"#)).collect();
        let text = format!("{{\"auths\":{{{},\"part.lan/Team:1\":{{}}}}}}", auths.join(","));
        let credentials = Credentials::parse(text.as_bytes()).unwrap();
        let login = |place: &str| credentials.login(&reference(place)).map(|login| login.name.as_str());
        assert_eq!(login("h:5000/team/a"), Some("h:5000/team/a"));
        assert_eq!(
            login(
                "h:5000/team/a/deeper@sha256:0000000000000000000000000000000000000000000000000000000000000000"
            ),
            Some("h:5000/team/a")
        );
        assert_eq!(login("h:5000/team/ab:1"), Some("h:5000/team"));
        assert_eq!(login("h:5000/team"), Some("h:5000/team"));
        assert_eq!(login("h:5000/teams/a"), Some("h:5000"));
        assert_eq!(login("h:5000/v2/a"), Some("h:5000/v2"));
        assert_eq!(login("all.lan/any"), Some("https://all.lan/v2/"));
        assert_eq!(login("part.lan/team/a"), Some("part.lan/team"));
        for other in ["part.lan/other", "part.lan/tea", "part.lan:8443/team", "h/team/a", "lan/team"] {
            assert_eq!(login(other), None, "{other}");
        }
        assert!(credentials.advice(&reference("part.lan/other")).contains("none for this repository"));
        assert!(credentials.advice(&reference("part.lan/team")).contains("not right"));
        assert!(credentials.advice(&reference("other.lan/team")).contains("give some"));
    }

    #[test]
    fn what_makes_no_sense_is_told_without_what_is_secret() {
        for (text, says) in [
            (r#"{"auths":{"h":{"auth":"c2VjcmV0"}}}"#, "`h`: `auth` is not `name:password`"),
            (r#"{"auths":{"h":{"auth":"sec ret"}}}"#, "not base64"),
            ("{\n\"auths\": \"secret\"}", "line 2"),
        ] {
            let error = Credentials::parse(text.as_bytes()).unwrap_err();
            assert!(error.contains(says) && !error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn passwords_are_not_printed() {
        let credentials =
            Credentials::parse(br#"{"auths":{"h":{"username":"a","password":"geheim"}},"credsStore":"x"}"#)
                .unwrap();
        let login = credentials.login(&reference("h/a")).unwrap();
        let printed = format!("{credentials:?} {login:?} {:?}", login.basic());
        assert!(!printed.contains("geheim") && !printed.contains("YTpn"), "{printed}");
        assert!(credentials.advice(&reference("other/a")).contains("not called"));
    }
}
