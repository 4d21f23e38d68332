//! How an execution ended, read from the error that came out of the guest: which row of the error
//! table, with a symbolised backtrace where the guest trapped.

use std::time::Duration;

use mentat_manifest::{Limits, escape_untrusted};
use rustix::io::Errno;
use wasmtime::{PoolConcurrencyLimitError, Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use crate::error::{Error, Shortage, TimeLimit, TrapFrame};
use crate::host::api::GuestAbort;
use crate::host::budget::Overslept;
use crate::host::capabilities::Violation;
use crate::host::stdio::OutputOverflow;

/// Frames of a backtrace at most; the innermost tell most.
const MAX_FRAMES: usize = 32;
/// Characters of a name or message that came from the guest.
const MAX_TEXT_CHARS: usize = 512;
/// When to try again what the machine had no room for.
const RETRY: Duration = Duration::from_secs(1);

/// How a guest ended that did not return.
pub(crate) enum Fault {
    /// It asked to exit with this code.
    Exited(i32),
    /// It failed.
    Failed(Error),
}

/// Reads the error. `refused` says what the limiter ever refused.
pub(crate) fn classify(error: &wasmtime::Error, limits: &Limits, refused: Option<Shortage>) -> Fault {
    if let Some(exit) = error.downcast_ref::<I32Exit>() {
        return Fault::Exited(exit.0);
    }
    if error.downcast_ref::<OutputOverflow>().is_some() {
        return Fault::Failed(Error::OutputTooLarge { limit: limits.output_bytes });
    }
    if let Some(violation) = error.downcast_ref::<Violation>() {
        return Fault::Failed(Error::SecurityViolation { message: violation.to_string() });
    }
    if let Some(Overslept(limit)) = error.downcast_ref::<Overslept>() {
        return Fault::Failed(Error::Timeout { limit: *limit, clock: TimeLimit::Asleep });
    }
    if error.downcast_ref::<PoolConcurrencyLimitError>().is_some() {
        return Fault::Failed(Error::Overloaded {
            message: "the pool has no free slot for this agent's memories and instances; try again later"
                .into(),
            retry_after: RETRY,
        });
    }
    if is_unmapped(error) {
        return Fault::Failed(Error::Overloaded {
            message: "the system maps no more memory for this process; `vm.max_map_count` bounds how many executions fit"
                .into(),
            retry_after: RETRY,
        });
    }
    let trap = error.downcast_ref::<Trap>();
    let failed = match (trap, refused) {
        (Some(Trap::OutOfFuel), _) => Error::FuelExhausted { limit: limits.fuel },
        (Some(Trap::StackOverflow), _) => Error::StackOverflow { backtrace: backtrace(error) },
        (_, Some(shortage @ Shortage::AllMemory(_))) => {
            let message = format!("the agent needed more {shortage}; try again later");
            Error::Overloaded { message, retry_after: RETRY }
        }
        (_, Some(shortage)) => Error::MemoryLimit { shortage, trap: Some(message(error)) },
        (_, None) => Error::Trap { message: message(error), backtrace: backtrace(error) },
    };
    Fault::Failed(failed)
}

/// Whether the system refused to map memory.
fn is_unmapped(error: &wasmtime::Error) -> bool {
    let by_wasmtime = error.downcast_ref::<Errno>() == Some(&Errno::NOMEM);
    let by_std = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error);
    by_wasmtime || by_std == Some(Errno::NOMEM.raw_os_error())
}

fn message(error: &wasmtime::Error) -> String {
    let text = if let Some(abort) = error.downcast_ref::<GuestAbort>() {
        abort.to_string()
    } else {
        // The outermost context of an error from inside Wasmtime is the backtrace; what was said by
        // a host function stands between it and the trap itself.
        let mut said: Vec<String> = error
            .chain()
            .map(ToString::to_string)
            .filter(|text| !text.starts_with("error while executing at wasm backtrace"))
            .collect();
        said.dedup();
        said.join(": ")
    };
    escape_untrusted(text.trim_start_matches("wasm trap: "), MAX_TEXT_CHARS)
}

fn backtrace(error: &wasmtime::Error) -> Vec<TrapFrame> {
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else {
        return Vec::new();
    };
    backtrace.frames().iter().take(MAX_FRAMES).map(frame).collect()
}

fn frame(frame: &wasmtime::FrameInfo) -> TrapFrame {
    let symbol = frame.symbols().first();
    let function = symbol
        .and_then(|symbol| symbol.name().map(str::to_owned))
        .or_else(|| frame.func_name().map(demangle))
        .unwrap_or_else(|| format!("<function {}>", frame.func_index()));
    let location = symbol.and_then(|symbol| {
        let file = escape_untrusted(symbol.file()?, MAX_TEXT_CHARS);
        Some(symbol.line().map_or_else(|| file.clone(), |line| format!("{file}:{line}")))
    });
    TrapFrame {
        function: escape_untrusted(&function, MAX_TEXT_CHARS),
        location,
        module_offset: frame.module_offset().map(|offset| offset as u64),
    }
}

fn demangle(name: &str) -> String {
    rustc_demangle::try_demangle(name).map_or_else(|_| name.to_owned(), |name| format!("{name:#}"))
}
