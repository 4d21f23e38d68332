//! The core ABI's edge: every pointer and length that a guest passes is checked here, once, and the
//! error codes it may get back are listed here, once (and in `docs/abi.md`).
//!
//! Invariant: a range outside the guest's memory traps; no host memory is allocated for a length
//! before the range was checked against the guest's own memory.

use std::ops::Range;

use wasmtime::{AsContext, AsContextMut, Caller, Extern, Memory, Trap};

use super::context::HostContext;

/// Results of calls that report errors: a negative number in −1..−4095.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AbiError {
    /// The manifest does not list the capability.
    NotInManifest,
    /// Policy, or the caller's narrowing, denies it.
    Denied,
    /// An argument is not of the form that the call asks for.
    Malformed,
    /// What the argument names does not exist.
    NotFound,
    /// An argument or the result is larger than its limit.
    TooLarge,
    /// The execution has used up its number of such things.
    Exhausted,
    /// The other side did not answer in time.
    TimedOut,
    /// The other side, or the host, cannot do it now.
    Unavailable,
    /// The handle is none that was given out, or was given back.
    BadHandle,
    /// Nobody can receive the stream any longer.
    Closed,
    /// There is no result to read, or the offset is past its end.
    NoResult,
    /// The call is part of the ABI, but this runtime does not offer it yet.
    Unsupported,
}

/// Fuel charged for moving bytes across the boundary: one unit for this many.
const BYTES_PER_FUEL: u64 = 64;
/// Fuel charged for each call of the host: what a guest could compute in the time that the call takes.
const FUEL_PER_CALL: u64 = 100;

impl AbiError {
    /// The number the guest sees; the same numbers as in `docs/abi.md`.
    pub(crate) fn code(self) -> i32 {
        match self {
            Self::NotInManifest => -1,
            Self::Denied => -2,
            Self::Malformed => -3,
            Self::NotFound => -4,
            Self::TooLarge => -5,
            Self::Exhausted => -6,
            Self::TimedOut => -7,
            Self::Unavailable => -8,
            Self::BadHandle => -9,
            Self::Closed => -10,
            Self::Unsupported => -38,
            Self::NoResult => -61,
        }
    }

    /// What `last_error` says when a call has no more particular text.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::NotInManifest => "the manifest does not list the capability",
            Self::Denied => "policy denies it",
            Self::Malformed => "an argument is not of the form that the call asks for",
            Self::NotFound => "what the argument names does not exist",
            Self::TooLarge => "an argument or the result is larger than its limit",
            Self::Exhausted => "the execution has used up its number of such things",
            Self::TimedOut => "the other side did not answer in time",
            Self::Unavailable => "the other side failed, or could not be reached",
            Self::BadHandle => "the handle is none that was given out, or was given back",
            Self::Closed => "nobody can receive the stream any longer",
            Self::NoResult => "there is no result to read",
            Self::Unsupported => "not supported here: this runtime does not offer the call yet",
        }
    }
}

/// The guest's exported memory; looked up once an execution.
pub(crate) fn memory(caller: &mut Caller<'_, HostContext>) -> wasmtime::Result<Memory> {
    if let Some(memory) = caller.data().memory {
        return Ok(memory);
    }
    let found = match caller.data().memory_export {
        Some(export) => caller.get_module_export(&export),
        None => caller.get_export("memory"),
    };
    let Some(Extern::Memory(memory)) = found else {
        // Every core module was checked for this export when it was loaded.
        return Err(wasmtime::Error::msg("the module exports no memory"));
    };
    caller.data_mut().memory = Some(memory);
    Ok(memory)
}

/// The guest's range as host indices.
///
/// # Errors
/// A trap that names the call when any byte of the range is outside memory. An empty range may lie
/// at the very end, but not beyond it.
pub(crate) fn range(
    store: impl AsContext<Data = HostContext>,
    memory: Memory,
    call: &str,
    pointer: i32,
    length: i32,
) -> wasmtime::Result<Range<usize>> {
    let start = u64::from(pointer.cast_unsigned());
    let length = u64::from(length.cast_unsigned());
    let size = memory.data_size(&store) as u64;
    let end = start.saturating_add(length);
    if end > size {
        return Err(wasmtime::Error::from(Trap::MemoryOutOfBounds).context(format!(
            "`{call}` was given {length} bytes at {start}, outside the memory of {size} bytes"
        )));
    }
    // Both are at most the size of an existing mapping, so they fit.
    Ok(usize::try_from(start)?..usize::try_from(end)?)
}

/// The guest's bytes in a checked range.
pub(crate) fn bytes<'a>(
    store: &'a Caller<'_, HostContext>,
    memory: Memory,
    range: Range<usize>,
) -> wasmtime::Result<&'a [u8]> {
    memory.data(store).get(range).ok_or_else(|| Trap::MemoryOutOfBounds.into())
}

/// The copying rule of `read_input`: answers the length of `source`, and copies it only if all of it
/// fits into `capacity`.
pub(crate) fn copy_whole(
    caller: &mut Caller<'_, HostContext>,
    call: &str,
    pointer: i32,
    capacity: i32,
    source: impl FnOnce(&HostContext) -> bytes::Bytes,
) -> wasmtime::Result<i32> {
    let memory = memory(caller)?;
    let target = range(&*caller, memory, call, pointer, capacity)?;
    let source = source(caller.data());
    let length = i32::try_from(source.len())?;
    let moved = if source.len() <= target.len() { source.len() } else { 0 };
    charge(caller, moved)?;
    if source.len() <= target.len() {
        memory.write(&mut *caller, target.start, &source)?;
    }
    Ok(length)
}

/// Takes fuel for a call that moves `length` bytes, so that calling in a loop is metered like computing; and for what is
/// owed.
///
/// # Errors
/// The out-of-fuel trap.
pub(crate) fn charge(
    store: &mut impl AsContextMut<Data = HostContext>,
    length: usize,
) -> wasmtime::Result<()> {
    let mut store = store.as_context_mut();
    let owed = std::mem::take(&mut store.data_mut().owed);
    let Ok(fuel) = store.get_fuel() else {
        // Metered by epochs: there is no fuel to take.
        return Ok(());
    };
    let cost = FUEL_PER_CALL.saturating_add((length as u64).saturating_add(owed) / BYTES_PER_FUEL);
    match fuel.checked_sub(cost) {
        Some(left) => store.set_fuel(left),
        None => {
            store.set_fuel(0)?;
            Err(Trap::OutOfFuel.into())
        }
    }
}
