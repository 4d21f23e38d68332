//! A value that agents use and never see: the operator's, bound to the hosts that it may go to.
//!
//! Invariant: nothing prints it, `Debug` included.

use std::fmt;

use mentat_manifest::{Capability, escape_untrusted};

/// Bytes of a secret at least: masking a shorter one would tear holes into responses that have nothing to do with it.
const MIN_SECRET_BYTES: usize = 8;
/// Bytes of a secret at most; the largest that are common, private keys in PEM form, have some three thousand.
const MAX_SECRET_BYTES: usize = 8 << 10;
/// What a binding can begin with; `https` goes without saying.
const PROTOCOLS: [&str; 2] = ["http:", "https:"];

/// A value, and the hosts that it may go to.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    value: String,
    /// Each a `network` capability.
    hosts: Vec<Capability>,
}

/// Why something is no secret; says nothing of its value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SecretError(String);

impl Secret {
    /// Binds a value to hosts, each written `host[:port]` for HTTPS, or `http:host[:port]`; patterns as in capabilities.
    ///
    /// # Errors
    /// For a value that is too short to be masked or too long, for a host that is none, and for no hosts at all.
    pub fn new(value: impl Into<String>, hosts: &[String]) -> Result<Self, SecretError> {
        let value = value.into();
        if !(MIN_SECRET_BYTES..=MAX_SECRET_BYTES).contains(&value.len()) {
            return Err(SecretError(format!(
                "the value must have {MIN_SECRET_BYTES} to {MAX_SECRET_BYTES} bytes: a shorter one cannot be masked \
                 where a response repeats it"
            )));
        }
        // Servers cut white space off the ends of headers, so that what they repeat would not be found.
        if value.trim() != value {
            return Err(SecretError(
                "the value begins or ends with white space, such as the end of a line".into(),
            ));
        }
        if hosts.is_empty() {
            return Err(SecretError("no host is named that it may go to, such as `api.example.com`".into()));
        }
        Ok(Self { value, hosts: hosts.iter().map(|host| binding(host)).collect::<Result<_, _>>()? })
    }

    /// The value. It goes to the hosts that it is bound to, and nowhere else.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.value
    }

    /// Whether it may go where this capability leads.
    #[must_use]
    pub fn may_go_to(&self, capability: &Capability) -> bool {
        self.hosts.iter().any(|bound| bound.covers(capability))
    }

    /// The hosts that it may go to, for people.
    #[must_use]
    pub fn hosts(&self) -> String {
        let hosts: Vec<String> = self.hosts.iter().map(|host| format!("`{host}`")).collect();
        hosts.join(", ")
    }
}

fn binding(host: &str) -> Result<Capability, SecretError> {
    let protocol = if PROTOCOLS.iter().any(|protocol| host.starts_with(protocol)) { "" } else { "https:" };
    match format!("network:{protocol}{host}").parse::<Capability>() {
        Ok(capability @ Capability::Network { host: mentat_manifest::Host::Any, .. }) => Err(SecretError(
            format!("it would go to any host by `{capability}`; name the hosts that it may go to"),
        )),
        Ok(capability) => Ok(capability),
        Err(error) => Err(SecretError(format!("`{}`: {error}", escape_untrusted(host, 100)))),
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Secret(… for {})", self.hosts())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(value: &str, hosts: &[&str]) -> Result<Secret, SecretError> {
        Secret::new(value, &hosts.iter().map(|host| (*host).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn goes_to_the_hosts_that_it_is_bound_to_and_nowhere_else() {
        let secret = secret("sk-0123456789", &["*.openai.com", "http:127.0.0.1:8000"]).unwrap();
        for (capability, may) in [
            ("network:https:api.openai.com", true),
            ("network:https:api.openai.com:443", true),
            ("network:https:api.openai.com:8443", false),
            ("network:http:api.openai.com", false),
            ("network:https:evilopenai.com", false),
            ("network:tcp:api.openai.com:443", false),
            ("network:http:127.0.0.1:8000", true),
            ("network:http:127.0.0.1:8001", false),
        ] {
            assert_eq!(secret.may_go_to(&capability.parse().unwrap()), may, "{capability}");
        }
    }

    #[test]
    fn says_what_is_wrong_and_never_the_value() {
        for (value, hosts, says) in [
            ("hunter2", &["a.com"][..], "8 to 8192 bytes"),
            ("long enough\r", &["a.com"], "white space"),
            ("long enough", &[], "no host is named"),
            ("long enough", &["*"], "any host"),
            ("long enough", &["a_b.com"], "neither a name nor an address"),
        ] {
            let error = secret(value, hosts).unwrap_err().to_string();
            assert!(error.contains(says) && !error.contains(value), "{error}");
        }
        let told = format!("{:?}", secret("sk-0123456789", &["a.com"]).unwrap());
        assert_eq!(told, "Secret(… for `network:https:a.com`)");
    }
}
