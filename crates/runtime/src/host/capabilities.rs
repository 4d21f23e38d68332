//! Grants with handles: a guest asks for a capability, uses it by its handle, and gives it back. The core ABI and
//! components call the same functions here.
//!
//! Invariant: a handle is known to the execution that asked for it and to no other, and is gone with it. Every use asks
//! the gate again for the very thing that is used.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use mentat_manifest::{Capability, Limits, Protocol, escape_untrusted};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use wasmtime::{AsContextMut, StoreContextMut};

use super::abi::AbiError;
use super::context::HostContext;
use super::{exchanges, extensions, files, media};
use crate::security::denial::{Denial, DenialReason};
use crate::security::policy::Permission;

/// Handles that an execution may hold at one time.
const MAX_HANDLES: usize = 64;
/// Bytes of the arguments of one use at most; longer content is written in pieces.
pub(crate) const MAX_ARGUMENT_BYTES: usize = 16 << 20;
/// Bytes of a capability's text that are looked at.
const MAX_REQUEST_BYTES: usize = 1 << 10;
/// Characters of an error's text.
const MAX_ERROR_CHARS: usize = 1024;

/// What an execution was granted and has not given back.
#[derive(Debug, Default)]
pub(crate) struct CapabilitySet {
    held: HashMap<i32, Permission>,
}

/// Why a call was refused or failed: for code to branch on, and for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CallError {
    pub(crate) code: AbiError,
    pub(crate) message: String,
}

/// The marker error by which a guest ends that asked for what it may not have.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Violation(pub(crate) String);

/// What a call comes to: an answer or an error for the guest, or the guest's end.
pub(crate) type Called<T> = wasmtime::Result<Result<T, CallError>>;

/// The arguments of a use of a `compute` capability: there is nothing to say.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Plain {
    #[serde(default)]
    op: Option<String>,
}

impl CallError {
    pub(crate) fn new(code: AbiError, message: impl Into<String>) -> Self {
        Self { code, message: escape_untrusted(&message.into(), MAX_ERROR_CHARS) }
    }

    pub(crate) fn malformed(message: impl Into<String>) -> Self {
        Self::new(AbiError::Malformed, message)
    }
}

impl From<Denial> for CallError {
    fn from(denial: Denial) -> Self {
        let code = match denial.reason {
            DenialReason::NotInManifest(_) => AbiError::NotInManifest,
            DenialReason::Narrowed
            | DenialReason::Forbidden(..)
            | DenialReason::NotPermitted(_)
            | DenialReason::Faulty(..)
            | DenialReason::Sandbox(_)
            | DenialReason::Unrecorded
            | DenialReason::InPlaceOf(..)
            | DenialReason::NotAllowed => AbiError::Denied,
            DenialReason::TooMany(_) => AbiError::Exhausted,
        };
        Self::new(code, denial.to_string())
    }
}

/// Why a handle is not used.
pub(crate) const OTHER_GRANT: &str = "the grant that is used is for something else";

/// Asks for a capability; answers the handle.
pub(crate) fn request(context: &mut HostContext, text: &[u8]) -> Called<i32> {
    let asked = match parse(text) {
        Ok(asked) => asked,
        Err(error) => return Ok(Err(error)),
    };
    let permission = match context.gate.decide(&asked) {
        Ok(permission) => permission,
        Err(denial) => {
            context.gate.check()?;
            return Ok(Err(denial.into()));
        }
    };
    if context.capabilities.held.len() >= MAX_HANDLES {
        let message = format!("an execution may hold {MAX_HANDLES} grants; give one back first");
        return Ok(Err(CallError::new(AbiError::Exhausted, message)));
    }
    Ok(context.capabilities.hold(permission))
}

/// Gives a grant back.
pub(crate) fn release(context: &mut HostContext, handle: i32) -> Result<(), CallError> {
    context.exchanges.release(handle);
    context.media.release(handle);
    context.capabilities.held.remove(&handle).map(drop).ok_or_else(bad_handle)
}

/// Uses a grant; answers the result.
pub(crate) async fn invoke(
    mut store: StoreContextMut<'_, HostContext>,
    handle: i32,
    arguments: &[u8],
) -> Called<Bytes> {
    let Some(permission) = store.data().capabilities.held.get(&handle).cloned() else {
        return Ok(Err(bad_handle()));
    };
    if arguments.len() > MAX_ARGUMENT_BYTES {
        let message =
            format!("the arguments have {} bytes, the limit is {MAX_ARGUMENT_BYTES}", arguments.len());
        return Ok(Err(CallError::new(AbiError::TooLarge, message)));
    }
    let used = match permission.capability() {
        Capability::Filesystem { .. } => files::invoke(store.data_mut(), &permission, arguments).await,
        Capability::Env(name) => variable(store.data_mut(), &permission, name, arguments),
        Capability::Secret(name) => secret(store.data_mut(), &permission, name, arguments),
        Capability::Compute { .. } => raise(&mut store, &permission, arguments)?,
        Capability::Network { protocol: Protocol::Tcp | Protocol::Udp, .. } => Err(CallError::new(
            AbiError::Unsupported,
            "a grant of `tcp` or `udp` is used by the sockets of WASI 0.2; requests take one of `http` or `https`",
        )),
        Capability::Network { .. } => {
            exchanges::invoke(store.data_mut(), handle, &permission, arguments).await
        }
        Capability::Extension(_) => extensions::invoke(store.data_mut(), &permission, arguments).await,
        Capability::Media { .. } => media::invoke(store.data_mut(), handle, &permission, arguments).await,
    };
    store.data().gate.check()?;
    Ok(used)
}

/// Reads JSON arguments.
pub(crate) fn arguments<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CallError> {
    serde_json::from_slice(bytes).map_err(|error| CallError::malformed(format!("the arguments: {error}")))
}

fn parse(text: &[u8]) -> Result<Capability, CallError> {
    if text.len() > MAX_REQUEST_BYTES {
        let message = format!("the capability has {} bytes, the limit is {MAX_REQUEST_BYTES}", text.len());
        return Err(CallError::malformed(message));
    }
    let text = std::str::from_utf8(text).map_err(|_| CallError::malformed("the capability is not UTF-8"))?;
    text.parse().map_err(|error: mentat_manifest::CapabilityError| CallError::malformed(error.to_string()))
}

fn bad_handle() -> CallError {
    CallError::new(AbiError::BadHandle, AbiError::BadHandle.text())
}

/// No arguments, `{}`, or the one operation that there is.
fn check_plain(bytes: &[u8], operation: &str) -> Result<(), CallError> {
    let plain = if bytes.is_empty() { Plain::default() } else { arguments::<Plain>(bytes)? };
    match plain.op.as_deref() {
        None => Ok(()),
        Some(op) if op == operation => Ok(()),
        Some(op) => {
            let op = escape_untrusted(op, 40);
            Err(CallError::malformed(format!("`op` is `{op}`; the one that there is is `{operation}`")))
        }
    }
}

fn variable(
    context: &mut HostContext,
    permission: &Permission,
    name: &str,
    arguments: &[u8],
) -> Result<Bytes, CallError> {
    check_plain(arguments, "get")?;
    let offers = context.gate.grant().offers();
    if offers.sealed.contains_key(name) {
        return context.outbound().secrets.issue(permission).map(Bytes::from);
    }
    match offers.env.get(name) {
        Some(value) => Ok(Bytes::copy_from_slice(value.as_bytes())),
        None => Err(CallError::new(
            AbiError::NotFound,
            format!(
                "the variable `{name}` is granted but has no value here; the operator gives it one with \
                 `[[sandbox.env]]`, a user of `mentat run` with `--env {name}=VALUE`"
            ),
        )),
    }
}

/// The placeholder of a secret.
fn secret(
    context: &mut HostContext,
    permission: &Permission,
    name: &str,
    arguments: &[u8],
) -> Result<Bytes, CallError> {
    check_plain(arguments, "get")?;
    if !context.gate.grant().offers().secrets.contains_key(name) {
        return Err(CallError::new(
            AbiError::NotFound,
            format!(
                "the secret `{name}` is granted but there is none here; the operator gives its value and its hosts with \
                 `[[sandbox.secrets]]`, a user of `mentat run` with `--secret {name}=HOST`"
            ),
        ));
    }
    context.outbound().secrets.issue(permission).map(Bytes::from)
}

/// Raises the execution's own budget to what the grant says; never lowers it, and never over the ceiling.
fn raise(
    store: &mut StoreContextMut<'_, HostContext>,
    permission: &Permission,
    arguments: &[u8],
) -> Called<Bytes> {
    if let Err(error) = check_plain(arguments, "raise") {
        return Ok(Err(error));
    }
    let Capability::Compute { memory, cpu_ms, fuel } = permission.capability() else {
        return Ok(Err(CallError::malformed("the grant is for no budget")));
    };
    let gate = Arc::clone(&store.data().gate);
    let (ceiling, budget) = (gate.grant().ceiling(), gate.budget());
    let over = |what: &str, ceiling: String| {
        let message = format!("{what} is over this execution's ceiling of {ceiling}");
        Ok(Err(CallError::new(AbiError::Denied, message)))
    };
    if memory.is_some_and(|memory| memory > ceiling.memory_bytes) {
        return over("`memory`", ceiling.memory_bytes.to_string());
    }
    if fuel.is_some_and(|fuel| fuel > ceiling.fuel) {
        return over("`fuel`", ceiling.fuel.to_string());
    }
    let time = cpu_ms.map(std::time::Duration::from_millis);
    if time.is_some_and(|time| time > ceiling.timeout) {
        return over("`cpu_ms`", format!("{} ms", ceiling.timeout.as_millis()));
    }
    let before = budget.limits();
    budget.raise(*memory, *fuel, time);
    let Limits { memory_bytes, fuel, timeout, metering, .. } = budget.limits();
    let added = fuel.0.saturating_sub(before.fuel.0);
    store.data_mut().limiter.raise(memory_bytes);
    if metering == mentat_manifest::Metering::Fuel && added > 0 {
        let left = store.as_context_mut().get_fuel()?;
        store.as_context_mut().set_fuel(left.saturating_add(added))?;
    }
    let now = serde_json::json!({
        "memory": memory_bytes.0,
        "fuel": fuel.0,
        "cpu_ms": u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
    });
    Ok(Ok(Bytes::from(now.to_string())))
}

impl CapabilitySet {
    /// Keeps a permission under a handle that nobody can guess.
    fn hold(&mut self, permission: Permission) -> Result<i32, CallError> {
        loop {
            let mut bytes = [0; 4];
            if let Err(error) = getrandom::fill(&mut bytes) {
                tracing::error!(%error, "no randomness for a handle");
                return Err(CallError::new(AbiError::Unavailable, "the host has no randomness"));
            }
            let handle = i32::from_le_bytes(bytes) & i32::MAX;
            if handle > 0 && !self.held.contains_key(&handle) {
                self.held.insert(handle, permission);
                return Ok(handle);
            }
        }
    }
}
