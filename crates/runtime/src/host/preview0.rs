//! WASI 0.1's forerunner, which old toolchains still emit: Wasmtime's own, without files or variables, since what checks
//! those is written for its successor, and with polling in the bounds of its successor's.

use wasmtime::{AsContextMut, Caller};
use wasmtime_wasi::p0::wasi_unstable::{self, WasiUnstable};
use wasmtime_wasi::p1::WasiP1Ctx;
use wiggle::GuestMemory;

use super::abi;
use super::budget::Sleep;
use super::context::HostContext;
use super::preview1::MAX_SUBSCRIPTIONS;
use crate::model::HostCallKind;

/// `nomem`, as its successor answers.
const TOO_MANY_SUBSCRIPTIONS: i32 = 48;

/// The state of a core module that imports it.
pub(crate) struct Preview0 {
    pub(crate) wasi: WasiP1Ctx,
    pub(crate) sleep: Sleep,
}

/// Waits for what the guest subscribes to.
pub(crate) async fn poll_oneoff(
    mut caller: Caller<'_, HostContext>,
    (subscriptions, events, count, answered): (i32, i32, i32, i32),
) -> wasmtime::Result<i32> {
    caller.data_mut().calls.count(HostCallKind::WasiPoll);
    if count.cast_unsigned() > MAX_SUBSCRIPTIONS {
        return Ok(TOO_MANY_SUBSCRIPTIONS);
    }
    let memory = abi::memory(&mut caller)?;
    let fuel = caller.as_context_mut().hostcall_fuel();
    let (bytes, context) = memory.data_and_store_mut(&mut caller);
    let Preview0 { wasi, sleep } = context.preview0();
    WasiUnstable::set_hostcall_fuel(wasi, fuel);
    let mut memory = GuestMemory::Unshared(bytes);
    let poll = wasi_unstable::poll_oneoff(wasi, &mut memory, subscriptions, events, count, answered);
    sleep.through(poll).await?
}
