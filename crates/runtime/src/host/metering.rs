//! What baseline code is charged by the host for operations on many bytes or elements at once, which optimised code counts
//! itself. No module can import it: the calls are put in when baseline code is made (`runtime/baseline.rs`).

use wasmtime::{AsContextMut, Caller, Linker, Trap};

use super::context::HostContext;

/// Module and name of the function. It takes the length of the operation, and answers it.
pub(crate) const CHARGE: (&str, &str) = ("mentat:baseline", "charge");
/// An operation of so many bytes or elements yields before it begins, as optimised code may: it takes a tenth of a
/// millisecond.
const YIELDING: u32 = 1 << 20;

/// Offers the function to the modules of an engine.
pub(super) fn add_to_linker(linker: &mut Linker<HostContext>) -> wasmtime::Result<()> {
    let (module, name) = CHARGE;
    linker.func_wrap_async(module, name, |mut caller: Caller<'_, HostContext>, (length,): (i32,)| {
        Box::new(async move {
            charge(&mut caller, length.cast_unsigned())?;
            if length.cast_unsigned() >= YIELDING {
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
