//! What agents can be given, read from the configuration and from where it points to. Values are never logged and never
//! told back.

use mentat_manifest::{Capability, FileAccess};
use mentat_runtime::error::Error;
use mentat_runtime::security::offers::{Extension, Mount, Offers};
use mentat_runtime::security::secret::Secret;

use super::{ExtensionConfig, MountConfig, ServerConfig, VariableConfig};

/// Bytes of the value of a variable at most.
const MAX_VALUE_BYTES: usize = 64 << 10;

impl ServerConfig {
    /// What there is to be granted.
    ///
    /// # Errors
    /// `INVALID_REQUEST` for a directory that is not there, a value that cannot be read, or one that is given twice.
    pub fn offers(&self) -> Result<Offers, Error> {
        let mut offers = Offers::default();
        for mount in &self.sandbox.mounts {
            let read = read_mount(mount)?;
            let twice = |other: &Mount| {
                other.guest == read.guest
                    && (other.tenants.is_empty()
                        || read.tenants.is_empty()
                        || other.tenants.iter().any(|tenant| read.tenants.contains(tenant)))
            };
            if offers.mounts.iter().any(twice) {
                return Err(wrong(&format!(
                    "`sandbox.mounts`: `{}` is mounted twice for a tenant",
                    read.guest
                )));
            }
            if let Some(other) = offers.mounts.iter().find(|other| overlap(other, &read)) {
                return Err(wrong(&format!(
                    "`sandbox.mounts`: `{}`, mounted at `{}`, and `{}`, mounted at `{}`, lie in one another, and one of \
                     them can be written: what is written by way of one would not be counted by the other; mount \
                     directories beside each other",
                    other.host.display(),
                    other.guest,
                    read.host.display(),
                    read.guest
                )));
            }
            offers.mounts.push(read);
        }
        for variable in &self.sandbox.env {
            let (name, value) = (variable.name.clone(), value_of("sandbox.env", variable)?);
            if offers.env.contains_key(&name) || offers.sealed.contains_key(&name) {
                return Err(wrong(&format!("`sandbox.env`: `{name}` is given twice")));
            }
            if variable.hosts.is_empty() {
                offers.env.insert(name, value);
            } else {
                offers.sealed.insert(name, secret_of("sandbox.env", variable, value)?);
            }
        }
        for variable in &self.sandbox.secrets {
            let value = value_of("sandbox.secrets", variable)?;
            let secret = secret_of("sandbox.secrets", variable, value)?;
            if offers.secrets.insert(variable.name.clone(), secret).is_some() {
                return Err(wrong(&format!("`sandbox.secrets`: `{}` is given twice", variable.name)));
            }
        }
        for ExtensionConfig { name, url } in &self.sandbox.extensions {
            let failed = |error: &dyn std::fmt::Display| wrong(&format!("`sandbox.extensions`: {error}"));
            format!("extension:{name}").parse::<Capability>().map_err(|error| failed(&error))?;
            let extension =
                Extension::new(url).map_err(|error| failed(&format!("the URL of `{name}`: {error}")))?;
            if offers.extensions.insert(name.clone(), extension).is_some() {
                return Err(failed(&format!("`{name}` is given twice")));
            }
        }
        Ok(offers)
    }
}

fn secret_of(section: &str, variable: &VariableConfig, value: String) -> Result<Secret, Error> {
    Secret::new(value, &variable.hosts)
        .map_err(|error| wrong(&format!("`{section}`: `{}`: {error}", variable.name)))
}

/// Whether one directory lies in the other, and something can be written there.
fn overlap(one: &Mount, other: &Mount) -> bool {
    let is_written = one.access != FileAccess::Read || other.access != FileAccess::Read;
    let lies_in = one.host.starts_with(&other.host) || other.host.starts_with(&one.host);
    is_written && lies_in && one.host != other.host
}

fn read_mount(mount: &MountConfig) -> Result<Mount, Error> {
    let MountConfig { guest, host, access, quota, tenants } = mount;
    // By its one name, so that what lies in what can be seen.
    let direct = host.canonicalize().ok().filter(|direct| direct.is_dir());
    let direct = direct.ok_or_else(|| {
        wrong(&format!(
            "`sandbox.mounts`: `{}`, mounted at `{guest}`, is no directory of this machine",
            host.display()
        ))
    })?;
    let read = Mount::new(direct, guest, (*access).into())
        .map_err(|error| wrong(&format!("`sandbox.mounts`: {error}")))?;
    Ok(Mount { quota: *quota, tenants: tenants.clone(), ..read })
}

#[allow(clippy::disallowed_methods, reason = "this is part of `config`: the operator names the variable")]
pub(super) fn value_of(section: &str, variable: &VariableConfig) -> Result<String, Error> {
    let VariableConfig { name, value, from, file, hosts: _ } = variable;
    if let Err(error) = format!("env:{name}").parse::<Capability>() {
        return Err(wrong(&format!("`{section}`: {error}")));
    }
    let value = match (value, from, file) {
        (Some(value), None, None) => value.clone(),
        (None, Some(from), None) => std::env::var(from).map_err(|_| {
            wrong(&format!(
                "`{section}`: `{name}` comes from the variable `{from}`, which the service does not have"
            ))
        })?,
        (None, None, Some(file)) => {
            let text = std::fs::read_to_string(file).map_err(|error| {
                wrong(&format!("`{section}`: `{name}` comes from `{}`: {error}", file.display()))
            })?;
            text.strip_suffix('\n').unwrap_or(&text).to_owned()
        }
        _ => {
            return Err(wrong(&format!(
                "`{section}`: `{name}` needs one of `value`, `from` and `file`, and no more than one"
            )));
        }
    };
    if value.contains('\0') || value.len() > MAX_VALUE_BYTES {
        return Err(wrong(&format!(
            "`{section}`: the value of `{name}` must have no NUL, and at most {MAX_VALUE_BYTES} bytes"
        )));
    }
    Ok(value)
}

fn wrong(message: &str) -> Error {
    Error::InvalidRequest { message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::MountAccess;

    fn mounted(mounts: [(&str, MountAccess); 2]) -> Result<Offers, Error> {
        let mut config = ServerConfig::default();
        config.sandbox.mounts = mounts
            .into_iter()
            .zip(["/one", "/two"])
            .map(|((host, access), guest)| MountConfig {
                guest: guest.into(),
                host: host.into(),
                access,
                quota: None,
                tenants: Vec::new(),
            })
            .collect();
        config.offers()
    }

    #[test]
    fn directories_in_one_another_are_mounted_only_where_nobody_writes() {
        let (read, write) = (MountAccess::ReadOnly, MountAccess::ReadWrite);
        for (one, other) in [("/usr", "/usr/bin"), ("/usr/lib/../bin", "/usr")] {
            assert!(mounted([(one, read), (other, read)]).is_ok());
            for accesses in [(read, write), (write, read), (write, write)] {
                let error = mounted([(one, accesses.0), (other, accesses.1)]).unwrap_err().to_string();
                assert!(error.contains("lie in one another"), "{error}");
            }
        }
        // Beside each other, whatever their names begin with, and one directory twice.
        for other in ["/usr/lib", "/usr/./bin"] {
            assert!(mounted([("/usr/bin", write), (other, write)]).is_ok(), "{other}");
        }
    }
}
