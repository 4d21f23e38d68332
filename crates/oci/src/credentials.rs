//! Names and passwords for registries, from a file in the form of docker's `config.json`. Helper programs that such a file
//! can name are not called.
//!
//! Invariant: no password is in a message or in what `Debug` prints.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use serde::Deserialize;

use crate::error::OciError;
use crate::reference::Registry;

/// Bytes of the file at most.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// What is known of registries, by their names.
#[derive(Clone, Default)]
pub struct Credentials {
    logins: BTreeMap<String, Login>,
    /// Whether the file leaves some of them to a program.
    has_helpers: bool,
    /// Whether it has some that are for a part of a registry.
    has_parts: bool,
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
        let (mut logins, mut has_parts) = (BTreeMap::new(), false);
        for (name, entry) in file.auths {
            // Docker writes URLs for some.
            let bare = name.trim_start_matches("https://").trim_start_matches("http://");
            let (host, path) = bare.split_once('/').unwrap_or((bare, ""));
            // What is for a part of a registry (podman writes such) is not for the rest of it.
            if !["", "v1", "v2"].contains(&path.trim_end_matches('/')) {
                has_parts = true;
                continue;
            }
            let Ok(registry) = host.parse::<Registry>() else { continue };
            if let Some(login) = entry.login().map_err(|why| format!("`auths`: `{registry}`: {why}"))? {
                logins.insert(registry.to_string(), login);
            }
        }
        let has_helpers = file.creds_store.is_some() || !file.cred_helpers.is_empty();
        Ok(Self { logins, has_helpers, has_parts })
    }

    pub(crate) fn login(&self, registry: &Registry) -> Option<&Login> {
        self.logins.get(&registry.to_string())
    }

    /// What to do about a registry that wants other credentials.
    pub(crate) fn advice(&self, registry: &Registry) -> &'static str {
        match self.login(registry) {
            Some(_) => {
                "the name and password for it in the credentials file are not right, or may not do this"
            }
            None if self.has_helpers => {
                "the credentials file has none for it; programs that it names (`credsStore`, `credHelpers`) are not called"
            }
            None if self.has_parts => {
                "the credentials file has none for all of it; those for a part of a registry are not taken"
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

    fn header(text: &str, registry: &str) -> Option<String> {
        let credentials = Credentials::parse(text.as_bytes()).unwrap();
        let login = credentials.login(&registry.parse().unwrap())?;
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
        let parts =
            r#"{"auths":{"h/a":{"username":"a","password":"a"},"h/b":{"username":"b","password":"b"}}}"#;
        assert_eq!(header(parts, "h"), None, "neither is for all of it");
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
        let login = credentials.login(&"h".parse().unwrap()).unwrap();
        let printed = format!("{credentials:?} {login:?} {:?}", login.basic());
        assert!(!printed.contains("geheim") && !printed.contains("YTpn"), "{printed}");
        assert!(credentials.advice(&"other".parse().unwrap()).contains("not called"));
    }
}
