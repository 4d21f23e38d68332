//! What the operator has to offer: where guest paths lie on this machine, and what variables hold. Who gets any of it is
//! for policy to say.

use std::collections::BTreeMap;
use std::path::PathBuf;

use mentat_manifest::{ByteCount, Capability, CapabilityError, FileAccess, is_at_or_below};

/// The guest directory that is the execution's own, and goes with it.
pub const SCRATCH: &str = "/tmp";

/// What there is to be granted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offers {
    /// Directories of this machine as guests see them.
    pub mounts: Vec<Mount>,
    /// Variables by name.
    pub env: BTreeMap<String, String>,
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
