//! What agents can be given, read from the configuration and from where it points to. Values are never logged and never
//! told back.

use mentat_manifest::Capability;
use mentat_runtime::error::Error;
use mentat_runtime::security::offers::{Mount, Offers};

use super::{MountConfig, ServerConfig, VariableConfig};

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
            let value = value_of("sandbox.env", variable)?;
            if offers.env.insert(variable.name.clone(), value).is_some() {
                return Err(wrong(&format!("`sandbox.env`: `{}` is given twice", variable.name)));
            }
        }
        Ok(offers)
    }
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
    let VariableConfig { name, value, from, file } = variable;
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
