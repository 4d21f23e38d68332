//! What the operator has to offer: where guest paths lie on this machine, and what variables hold. Who gets any of it is
//! for policy to say.

use std::collections::BTreeMap;
use std::path::PathBuf;

use mentat_manifest::{ByteCount, Capability, CapabilityError, FileAccess, is_at_or_below};

use super::secret::Secret;

/// The guest directory that is the execution's own, and goes with it.
pub const SCRATCH: &str = "/tmp";

/// What there is to be granted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offers {
    /// Directories of this machine as guests see them.
    pub mounts: Vec<Mount>,
    /// Variables by name.
    pub env: BTreeMap<String, String>,
    /// Variables whose values agents use and never see.
    pub sealed: BTreeMap<String, Secret>,
    /// Secrets by name.
    pub secrets: BTreeMap<String, Secret>,
    /// The operator's own services by the name of their extension.
    pub extensions: BTreeMap<String, Extension>,
}

/// An operator's own service, which agents call by the name of its extension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    endpoint: Capability,
    path: String,
}

/// A directory of this machine as guests see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Where it lies on the host.
    pub host: PathBuf,
    /// Where guests find it: absolute, normal, as in a capability.
    pub guest: String,
    /// What may be done there at most.
    pub access: FileAccess,
    /// Bytes that one execution may add; `None` for the sandbox's usual quota.
    pub quota: Option<ByteCount>,
    /// The tenants that it is there for; everybody where empty.
    pub tenants: Vec<String>,
}

impl Offers {
    /// The secret that a capability is for: one by its own name, or a sealed variable.
    #[must_use]
    pub fn sealed(&self, capability: &Capability) -> Option<&Secret> {
        match capability {
            Capability::Secret(name) => self.secrets.get(name),
            Capability::Env(name) => self.sealed.get(name),
            _ => None,
        }
    }

    /// All secrets and sealed variables, with the capabilities that they are asked for by.
    pub fn all_sealed(&self) -> impl Iterator<Item = (Capability, &Secret)> {
        let secrets = self.secrets.iter().map(|(name, secret)| (Capability::Secret(name.clone()), secret));
        let variables = self.sealed.iter().map(|(name, secret)| (Capability::Env(name.clone()), secret));
        secrets.chain(variables)
    }

    /// The values that nobody may see.
    pub fn secret_values(&self) -> impl Iterator<Item = String> {
        self.all_sealed().map(|(_, secret)| secret.reveal().to_owned())
    }

    /// The path of an extension's URL.
    #[must_use]
    pub fn path_of_extension(&self, capability: &Capability) -> &str {
        match capability {
            Capability::Extension(name) => self.extensions.get(name).map_or("/", |found| found.path.as_str()),
            _ => "/",
        }
    }

    /// The mount that a guest path lies in for a tenant: the one with the longest guest path.
    #[must_use]
    pub fn mount_of(&self, path: &str, tenant: &str) -> Option<&Mount> {
        let serves = |mount: &&Mount| mount.serves(tenant) && is_at_or_below(path, &mount.guest);
        self.mounts.iter().filter(serves).max_by_key(|mount| mount.guest.len())
    }

    /// The mounts that lie below a guest path, such as all of them below `/`.
    pub fn mounts_below<'a>(&'a self, path: &'a str, tenant: &'a str) -> impl Iterator<Item = &'a Mount> {
        let below = move |mount: &&Mount| {
            mount.serves(tenant) && mount.guest != path && is_at_or_below(&mount.guest, path)
        };
        self.mounts.iter().filter(below)
    }
}

impl Extension {
    /// A service at a URL of one host.
    ///
    /// # Errors
    /// When it does not begin with `http://` or `https://`, or names no host.
    pub fn new(url: &str) -> Result<Self, CapabilityError> {
        let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
        let path = rest.find('/').unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(path).unwrap_or((rest, ""));
        let endpoint: Capability = match scheme {
            "http" | "https" => format!("network:{scheme}:{authority}").parse()?,
            // Says which schemes there are.
            _ => format!("network:{url}").parse()?,
        };
        Ok(Self { endpoint, path: if path.is_empty() { "/".into() } else { path.to_owned() } })
    }

    /// Whom it is called at, as a `network` capability.
    #[must_use]
    pub fn endpoint(&self) -> &Capability {
        &self.endpoint
    }
}

impl Mount {
    /// A mount for everybody, with the usual quota.
    ///
    /// # Errors
    /// When the guest path is not absolute, or holds `..`.
    pub fn new(host: impl Into<PathBuf>, guest: &str, access: FileAccess) -> Result<Self, CapabilityError> {
        let guest = match format!("filesystem:read:{guest}").parse()? {
            Capability::Filesystem { path, .. } => path,
            _ => guest.to_owned(),
        };
        Ok(Self { host: host.into(), guest, access, quota: None, tenants: Vec::new() })
    }

    fn serves(&self, tenant: &str) -> bool {
        self.tenants.is_empty() || self.tenants.iter().any(|served| served == tenant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(guest: &str, tenants: &[&str]) -> Mount {
        Mount {
            host: format!("/srv{guest}").into(),
            guest: guest.into(),
            access: FileAccess::Read,
            quota: None,
            tenants: tenants.iter().map(|tenant| (*tenant).to_owned()).collect(),
        }
    }

    #[test]
    fn a_path_lies_in_the_nearest_mount_of_its_tenant() {
        let mounts = vec![mount("/data", &[]), mount("/data/own", &["acme"]), mount("/", &[])];
        let offers = Offers { mounts, ..Offers::default() };
        let guest = |path, tenant| offers.mount_of(path, tenant).map(|mount| mount.guest.as_str());
        assert_eq!(guest("/data/x", "other"), Some("/data"));
        assert_eq!(guest("/data/own/x", "acme"), Some("/data/own"));
        assert_eq!(guest("/data/own/x", "other"), Some("/data"));
        assert_eq!(guest("/database", "other"), Some("/"));
        let below: Vec<_> = offers.mounts_below("/", "acme").map(|mount| mount.guest.as_str()).collect();
        assert_eq!(below, ["/data", "/data/own"]);
    }
}
