//! Which registries may be asked, how, and where they may send to. Decides; connects to nothing.
//!
//! A registry can answer with a redirect or name a token service, and so make this program ask something in its place. So it
//! sends to itself, to hosts that the rules name, and, for the content of a blob, to addresses of the public internet.

use std::net::IpAddr;
use std::str::FromStr;

use mentat_manifest::{is_public, is_repository};
use url::{Host, Url};

use crate::error::OciError;
use crate::reference::{Reference, ReferenceError, Registry};

/// Which registries may be asked, how, and where they may send to.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Those that may be asked.
    pub admission: Admission,
    /// Those that are spoken to without encryption.
    pub plain: Vec<Registry>,
    /// Hosts that a registry may send to: token services, which get its credentials, and stores of blobs.
    pub hosts: Vec<Registry>,
}

/// Which registries may be asked.
#[derive(Clone, Debug)]
pub enum Admission {
    /// Any: who asks has named it.
    Any,
    /// These.
    Only(Vec<Allowed>),
}

/// A registry, or the repositories of it that begin with a name, that may be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    registry: Registry,
    /// The repository, or what is before `/` in it; empty for all.
    below: String,
}

/// What is at the other end of a redirect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Elsewhere {
    /// The registry itself.
    Same,
    /// A host that the rules name.
    Named,
    /// Any other, whose address must be public.
    Public,
}

impl Rules {
    /// Whether a reference may be asked for.
    ///
    /// # Errors
    /// `Denied`, with what the operator would have to add.
    pub(crate) fn check(&self, reference: &Reference) -> Result<(), OciError> {
        let Admission::Only(allowed) = &self.admission else { return Ok(()) };
        if allowed.iter().any(|allowed| allowed.covers(reference)) {
            return Ok(());
        }
        let Reference { registry, repository, .. } = reference;
        Err(OciError::Denied(format!(
            "agents may not be loaded from `{registry}/{repository}`; the operator can allow it by adding \
             `{registry}/{repository}`, or what comes before a `/` in that, to `oci.registries`"
        )))
    }

    /// Whether a registry is spoken to without encryption.
    pub(crate) fn is_plain(&self, registry: &Registry) -> bool {
        self.plain.contains(registry)
    }

    /// Where a registry's requests go.
    ///
    /// # Errors
    /// For a host that no URL can have.
    pub(crate) fn base(&self, registry: &Registry) -> Result<Url, OciError> {
        let scheme = if self.is_plain(registry) { "http" } else { "https" };
        Url::parse(&format!("{scheme}://{registry}/"))
            .map_err(|error| OciError::Invalid(format!("`{registry}` is no host: {error}")))
    }

    /// What a registry may send on to; `base` is where its own requests go.
    ///
    /// # Errors
    /// For a place that nobody may be sent to.
    pub(crate) fn redirect(&self, base: &Url, from: &Url, to: &Url) -> Result<Elsewhere, OciError> {
        let refused =
            |why: &str| Err(OciError::Untrusted(format!("{} sends on to {}; {why}", name(base), name(to))));
        if !to.username().is_empty() || to.password().is_some() {
            return refused("a redirect must not bring credentials along");
        }
        match (from.scheme(), to.scheme()) {
            (_, "https") => {}
            ("http", "http") if is_same(base, to) || self.is_named(to) => {}
            ("https", "http") => {
                return refused(
                    "that is plain HTTP, which what is asked by HTTPS is not sent to; have the registry send to an `https` \
                     address, such as by the public URL in its configuration",
                );
            }
            ("http", "http") => {
                return refused(
                    "that is plain HTTP to another host, which is to be named for it (`oci.hosts`, `--registry-host`)",
                );
            }
            _ => return refused("that is neither HTTPS nor HTTP"),
        }
        Ok(if is_same(base, to) {
            Elsewhere::Same
        } else if self.is_named(to) {
            Elsewhere::Named
        } else {
            Elsewhere::Public
        })
    }

    /// Whether a token service may be asked, and be given the registry's credentials.
    ///
    /// # Errors
    /// For one that is neither of the registry's own host nor named.
    pub(crate) fn token_service(&self, base: &Url, service: &Url) -> Result<(), OciError> {
        let (registry, named) = (name(base), name(service));
        if !service.username().is_empty() || service.password().is_some() || service.fragment().is_some() {
            return Err(OciError::Untrusted(format!(
                "the token service of {registry} has no proper address"
            )));
        }
        let encrypted =
            service.scheme() == "https" || (service.scheme() == "http" && base.scheme() == "http");
        if !encrypted {
            return Err(OciError::Untrusted(format!(
                "{registry} wants a token from {named}, without encryption; credentials do not go there"
            )));
        }
        if service.host() == base.host() || self.is_named(service) {
            return Ok(());
        }
        Err(OciError::Untrusted(format!(
            "{registry} wants a token from {named}, which is another host; if that is its token service, name it (`oci.hosts`, \
             `--registry-host`)"
        )))
    }

    fn is_named(&self, url: &Url) -> bool {
        let Some(host) = url.host_str() else { return false };
        let port = url.port_or_known_default();
        self.hosts.iter().any(|known| {
            let usual = if url.scheme() == "http" { 80 } else { 443 };
            known.host().eq_ignore_ascii_case(host) && Some(known.port().unwrap_or(usual)) == port
        })
    }
}

impl Allowed {
    fn covers(&self, reference: &Reference) -> bool {
        let rest = reference.repository.strip_prefix(&self.below);
        self.registry == reference.registry
            && rest.is_some_and(|rest| self.below.is_empty() || rest.is_empty() || rest.starts_with('/'))
    }
}

impl FromStr for Allowed {
    type Err = ReferenceError;

    /// Reads `host[:port]`, or `host[:port]/repository` for that and what is below it.
    ///
    /// # Errors
    /// Says what is wrong with it.
    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let (host, below) = text.split_once('/').unwrap_or((text, ""));
        let registry = host.parse()?;
        if !below.is_empty() && !is_repository(below) {
            // Tells what a repository is.
            let reference: Reference = format!("oci://{text}").parse()?;
            return Ok(Self { registry, below: reference.repository });
        }
        Ok(Self { registry, below: below.to_owned() })
    }
}

/// Whether an address may be connected to, by what is there.
pub(crate) fn may_connect(elsewhere: Elsewhere, address: IpAddr) -> bool {
    match elsewhere {
        Elsewhere::Same | Elsewhere::Named => true,
        Elsewhere::Public => is_public(address),
    }
}

/// Whether two URLs are of the same host and port, by the same protocol.
fn is_same(one: &Url, two: &Url) -> bool {
    let host = |url: &Url| url.host().map(|host: Host<&str>| host.to_owned());
    one.scheme() == two.scheme()
        && host(one) == host(two)
        && one.port_or_known_default() == two.port_or_known_default()
}

/// A host, as messages name it.
pub(crate) fn name(url: &Url) -> String {
    let host = mentat_manifest::escape_untrusted(url.host_str().unwrap_or("nobody"), 253);
    match url.port() {
        Some(port) => format!("`{host}:{port}`"),
        None => format!("`{host}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(allowed: &[&str], plain: &[&str], hosts: &[&str]) -> Rules {
        let registries = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
        let allowed = allowed.iter().map(|name| name.parse().unwrap()).collect();
        Rules { admission: Admission::Only(allowed), plain: registries(plain), hosts: registries(hosts) }
    }

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    #[test]
    fn a_registry_is_asked_where_it_or_a_part_of_it_is_allowed() {
        let rules = rules(&["harbor.lan/agents", "ghcr.io:443", "127.0.0.1:5000"], &[], &[]);
        let allows = |text: &str| rules.check(&text.parse().unwrap()).is_ok();
        for text in ["harbor.lan/agents", "harbor.lan/agents/a/b", "ghcr.io/x", "127.0.0.1:5000/x"] {
            assert!(allows(&format!("oci://{text}:1")), "{text}");
        }
        for text in [
            "harbor.lan/agents2",
            "harbor.lan/x/agents",
            "harbor.lan:8443/agents",
            "evil-ghcr.io/x",
            "ghcr.io:80/x",
            "127.0.0.1/x",
        ] {
            assert!(!allows(&format!("oci://{text}:1")), "{text}");
        }
        let denied = rules.check(&"oci://evil.com/x:1".parse().unwrap()).unwrap_err();
        assert!(
            matches!(&denied, OciError::Denied(message) if message.contains("`oci.registries`")),
            "{denied:?}"
        );
        assert!(
            "https://harbor.lan".parse::<Allowed>().is_err() && "harbor.lan/A".parse::<Allowed>().is_err()
        );
    }

    #[test]
    fn redirects_lead_to_the_registry_to_named_hosts_and_to_public_addresses_by_https() {
        let rules = rules(&[], &["plain.lan:5000"], &["store.lan:9000"]);
        let base = rules.base(&"harbor.lan".parse().unwrap()).unwrap();
        let to = |text: &str| rules.redirect(&base, &base, &url(text));
        assert_eq!(to("https://harbor.lan/x"), Ok(Elsewhere::Same));
        assert_eq!(to("https://HARBOR.lan:443/x"), Ok(Elsewhere::Same));
        assert_eq!(to("https://harbor.lan:8443/x"), Ok(Elsewhere::Public));
        assert_eq!(to("https://store.lan:9000/x"), Ok(Elsewhere::Named));
        assert_eq!(to("https://store.lan/x"), Ok(Elsewhere::Public));
        for text in [
            "http://harbor.lan/x",
            "http://store.lan:9000/",
            "ftp://harbor.lan/",
            "file:///etc/passwd",
            "https://a:b@harbor.lan/x",
        ] {
            assert!(to(text).is_err(), "{text}");
        }
        let base = rules.base(&"plain.lan:5000".parse().unwrap()).unwrap();
        assert_eq!(base.as_str(), "http://plain.lan:5000/");
        let to = |text: &str| rules.redirect(&base, &base, &url(text));
        assert_eq!(to("http://plain.lan:5000/x"), Ok(Elsewhere::Same));
        assert_eq!(to("http://store.lan:9000/x"), Ok(Elsewhere::Named));
        assert!(to("http://169.254.169.254/latest").is_err() && to("http://plain.lan/x").is_err());
    }

    #[test]
    fn the_addresses_of_this_machine_and_its_network_are_reached_where_they_are_named_alone() {
        let metadata = "169.254.169.254".parse().unwrap();
        assert!(!may_connect(Elsewhere::Public, metadata) && may_connect(Elsewhere::Named, metadata));
        assert!(may_connect(Elsewhere::Public, "1.1.1.1".parse().unwrap()));
    }

    #[test]
    fn credentials_go_to_token_services_of_the_same_host_and_to_named_ones() {
        let rules = rules(&[], &["plain.lan:5000"], &["auth.docker.io"]);
        let base = rules.base(&"registry-1.docker.io".parse().unwrap()).unwrap();
        let asks = |text: &str| rules.token_service(&base, &url(text));
        assert!(
            asks("https://registry-1.docker.io/token").is_ok()
                && asks("https://registry-1.docker.io:8443/token").is_ok()
        );
        assert!(asks("https://auth.docker.io/token").is_ok());
        assert!(
            asks("https://auth.docker.io.evil.com/token").unwrap_err().to_string().contains("`oci.hosts`")
        );
        for text in [
            "http://registry-1.docker.io/token",
            "http://auth.docker.io/token",
            "https://a@auth.docker.io/",
            "file:///token",
        ] {
            assert!(asks(text).is_err(), "{text}");
        }
        let base = rules.base(&"plain.lan:5000".parse().unwrap()).unwrap();
        assert!(rules.token_service(&base, &url("http://plain.lan:5001/token")).is_ok());
    }
}
