//! The floor of an execution: Wasmtime set up as ours is, with the few host functions that a module of ours needs, and
//! nothing around it: no grant, no gate, no log, no record.

use anyhow::{anyhow, ensure};
use bytes::Bytes;
use wasmtime::{
    Caller, Config, Enabled, Engine, Extern, InstanceAllocationStrategy, InstancePre, Linker, Memory, Module,
    OptLevel, PoolingAllocationConfig, Store, StoreLimits, StoreLimitsBuilder,
};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::{I32Exit, WasiCtxBuilder};

/// Fuel of one execution, and what it may compute before it yields; as ours has them.
const FUEL: u64 = 1_000_000_000;
const FUEL_SLICE: u64 = 1_000_000;
/// Bytes of memory that one execution may have.
const MEMORY_BYTES: usize = 64 << 20;
/// Bytes of stack of a guest, and beyond that of the host functions that run on it.
const GUEST_STACK: usize = 1 << 20;
const HOST_STACK: usize = 1 << 20;

/// A module that Wasmtime alone executes.
pub(crate) struct Raw {
    engine: Engine,
    module: InstancePre<State>,
    needs_wasi: bool,
    initializes: bool,
    input: Bytes,
}

struct State {
    input: Bytes,
    output: Vec<u8>,
    limits: StoreLimits,
    wasi: Option<WasiP1Ctx>,
}

impl Raw {
    pub(crate) fn new(module: &[u8], input: Bytes) -> anyhow::Result<Self> {
        Self::link(module, input).map_err(|error| anyhow!("{error:#}"))
    }

    fn link(module: &[u8], input: Bytes) -> wasmtime::Result<Self> {
        let mut pool = PoolingAllocationConfig::new();
        pool.total_core_instances(16)
            .total_memories(8)
            .total_tables(16)
            .total_stacks(4)
            .max_memory_size(1 << 30)
            .table_elements(100_000)
            .linear_memory_keep_resident(128 << 10)
            .table_keep_resident(128 << 10)
            .pagemap_scan(Enabled::Auto);
        let mut config = Config::new();
        config
            .cranelift_opt_level(OptLevel::Speed)
            .memory_init_cow(true)
            .consume_fuel(true)
            .epoch_interruption(true)
            .max_wasm_stack(GUEST_STACK)
            .async_stack_size(GUEST_STACK + HOST_STACK)
            .allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        let engine = Engine::new(&config)?;
        let module = Module::new(&engine, module)?;
        let initializes = module.get_export("_initialize").is_some();
        let needs_wasi = module.imports().any(|import| import.module().starts_with("wasi"));
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p1::add_to_linker_async(&mut linker, |state: &mut State| {
            state.wasi.get_or_insert_with(|| WasiCtxBuilder::new().build_p1())
        })?;
        linker.func_wrap("mentat", "read_input", read_input)?;
        linker.func_wrap("mentat", "write_output", write_output)?;
        linker.func_wrap("mentat", "log", |_: i32, _: i32, _: i32| ())?;
        Ok(Self { module: linker.instantiate_pre(&module)?, engine, needs_wasi, initializes, input })
    }

    /// Executes the module so often, each time in a store of its own.
    pub(crate) async fn execute(&self, count: u32) -> anyhow::Result<()> {
        for _ in 0..count {
            let (exit_code, _) = self.execute_once().await.map_err(|error| anyhow!("{error:#}"))?;
            ensure!(exit_code == 0, "the guest ended with {exit_code}");
        }
        Ok(())
    }

    /// The exit code and the output.
    pub(crate) async fn execute_once(&self) -> wasmtime::Result<(i32, Vec<u8>)> {
        let state = State {
            input: self.input.clone(),
            output: Vec::new(),
            limits: StoreLimitsBuilder::new().memory_size(MEMORY_BYTES).build(),
            wasi: self.needs_wasi.then(|| WasiCtxBuilder::new().build_p1()),
        };
        let mut store = Store::new(&self.engine, state);
        store.limiter(|state| &mut state.limits);
        store.set_fuel(FUEL)?;
        store.fuel_async_yield_interval(Some(FUEL_SLICE))?;
        store.epoch_deadline_async_yield_and_update(1);
        store.set_epoch_deadline(1);
        let instance = self.module.instantiate_async(&mut store).await?;
        if self.initializes {
            let initialize = instance.get_typed_func::<(), ()>(&mut store, "_initialize")?;
            initialize.call_async(&mut store, ()).await?;
        }
        let process = instance.get_typed_func::<(), i32>(&mut store, "process")?;
        let exit_code = match process.call_async(&mut store, ()).await {
            Ok(exit_code) => exit_code,
            Err(error) => error.downcast_ref::<I32Exit>().map(|exit| exit.0).ok_or(error)?,
        };
        Ok((exit_code, std::mem::take(&mut store.data_mut().output)))
    }
}

fn memory(caller: &mut Caller<'_, State>) -> wasmtime::Result<Memory> {
    let memory = caller.get_export("memory").and_then(Extern::into_memory);
    memory.ok_or_else(|| wasmtime::Error::msg("no memory"))
}

fn read_input(mut caller: Caller<'_, State>, pointer: u32, capacity: u32) -> wasmtime::Result<u32> {
    let input = caller.data().input.clone();
    if input.len() <= usize::try_from(capacity)? {
        memory(&mut caller)?.write(&mut caller, usize::try_from(pointer)?, &input)?;
    }
    Ok(u32::try_from(input.len())?)
}

fn write_output(mut caller: Caller<'_, State>, pointer: u32, length: u32) -> wasmtime::Result<i32> {
    let (start, length) = (usize::try_from(pointer)?, usize::try_from(length)?);
    let memory = memory(&mut caller)?;
    let bytes = memory.data(&caller).get(start..).and_then(|bytes| bytes.get(..length));
    let output = bytes.ok_or_else(|| wasmtime::Error::msg("outside of memory"))?.to_vec();
    caller.data_mut().output = output;
    Ok(0)
}
