//! WASI 0.2's polling for components: Wasmtime's own, within bounds of number and of time.

use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::p2::DynPollable;
use wasmtime_wasi_io::bindings::wasi::io::poll;

use super::budget::Sleep;
use super::context::HostContext;
use crate::model::HostCallKind;

/// Pollables that a guest waits for in one call; it can have no more of them alive than `context::MAX_RESOURCES`.
const MAX_POLLABLES: usize = 4096;

/// Polling of one component, while a call waits.
pub(crate) struct BoundedPolling<'a> {
    table: &'a mut ResourceTable,
    sleep: &'a mut Sleep,
    /// Whether it has connections: then it may be a host that it waits for, which has times of its own.
    is_online: bool,
}

struct HasPolling;

impl HasData for HasPolling {
    type Data<'a> = BoundedPolling<'a>;
}

/// Puts the bounded polling in the place of Wasmtime's own.
pub(crate) fn add_to_linker(linker: &mut Linker<HostContext>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    poll::add_to_linker::<_, HasPolling>(linker, HostContext::polling)?;
    linker.allow_shadowing(false);
    Ok(())
}

impl HostContext {
    fn polling(&mut self) -> BoundedPolling<'_> {
        self.calls.count(HostCallKind::WasiPoll);
        let is_online = self.is_online();
        let preview2 = self.preview2();
        BoundedPolling { table: &mut preview2.table, sleep: &mut preview2.sleep, is_online }
    }
}

impl poll::Host for BoundedPolling<'_> {
    async fn poll(&mut self, pollables: Vec<Resource<DynPollable>>) -> wasmtime::Result<Vec<u32>> {
        if pollables.len() > MAX_POLLABLES {
            let count = pollables.len();
            return Err(wasmtime::Error::msg(format!(
                "{count} pollables in one call, the limit is {MAX_POLLABLES}"
            )));
        }
        if self.is_online {
            return self.table.poll(pollables).await;
        }
        self.sleep.through(self.table.poll(pollables)).await?
    }
}

impl poll::HostPollable for BoundedPolling<'_> {
    async fn block(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        if self.is_online {
            return self.table.block(pollable).await;
        }
        self.sleep.through(self.table.block(pollable)).await?
    }

    async fn ready(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<bool> {
        self.table.ready(pollable).await
    }

    fn drop(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        poll::HostPollable::drop(self.table, pollable)
    }
}
