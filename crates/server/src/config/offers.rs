//! What agents can be given, read from the configuration and from where it points to. Values are never logged and never
//! told back.

use mentat_manifest::Capability;
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

fn read_mount(mount: &MountConfig) -> Result<Mount, Error> {
    let MountConfig { guest, host, access, quota, tenants } = mount;
    let read = Mount::new(host, guest, (*access).into())
        .map_err(|error| wrong(&format!("`sandbox.mounts`: {error}")))?;
    if !host.is_dir() {
        return Err(wrong(&format!(
            "`sandbox.mounts`: `{}`, mounted at `{guest}`, is no directory of this machine",
            host.display()
        )));
    }
    Ok(Mount { quota: *quota, tenants: tenants.clone(), ..read })
}

#[allow(clippy::disallowed_methods, reason = "this is part of `config`: the operator names the variable")]
fn value_of(section: &str, variable: &VariableConfig) -> Result<String, Error> {
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
