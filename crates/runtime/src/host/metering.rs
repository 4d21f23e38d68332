//! What baseline code is charged by the host for operations on many bytes or elements at once, which optimised code counts
//! itself. No module can import it: the calls are put in when baseline code is made (`runtime/baseline.rs`).

use wasmtime::{AsContextMut, Caller, Linker, Trap};

use super::context::HostContext;

/// Module and name of the function. It takes the length of the operation, and answers it.
pub(crate) const CHARGE: (&str, &str) = ("mentat:baseline", "charge");
/// After operations on so many bytes or elements together a guest yields, as it may on optimised code: as many as there is
/// fuel between two yields. There is no other check in code without loops and calls.
const YIELDING: u64 = 1 << 20;
/// What an operation counts for at least, however short it is.
const LEAST: u64 = 64;

/// Offers the function to the modules of an engine.
pub(super) fn add_to_linker(linker: &mut Linker<HostContext>) -> wasmtime::Result<()> {
    let (module, name) = CHARGE;
    linker.func_wrap_async(module, name, |mut caller: Caller<'_, HostContext>, (length,): (i32,)| {
        Box::new(async move {
            charge(&mut caller, length.cast_unsigned())?;
            let since_yield = &mut caller.data_mut().charged;
            *since_yield = since_yield.saturating_add(u64::from(length.cast_unsigned()).max(LEAST));
            if *since_yield >= YIELDING {
                *since_yield = 0;
                tokio::task::yield_now().await;
            }
            Ok(length)
        })
    })?;
    Ok(())
}

/// Takes one less than the length: the call itself has cost one.
fn charge(store: &mut impl AsContextMut<Data = HostContext>, length: u32) -> wasmtime::Result<()> {
    let mut store = store.as_context_mut();
    let Ok(fuel) = store.get_fuel() else {
        // Metered by epochs: there is no fuel to take.
        return Ok(());
    };
    match fuel.saturating_add(1).checked_sub(length.into()) {
        Some(left) => store.set_fuel(left),
        None => {
            store.set_fuel(0)?;
            Err(Trap::OutOfFuel.into())
        }
    }
}
