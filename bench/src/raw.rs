//! The floor of an execution: Wasmtime with the few host functions that a module of ours needs, and nothing around it: no
//! grant, no gate, no log, no record. Set up as ours is, or as is best for the module.

use std::path::Path;

use anyhow::{anyhow, ensure};
use bytes::Bytes;
use mentat_runtime::EngineConfig;
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
/// What of a slot is kept for the next execution where memory is no object.
const BEST_KEEP_RESIDENT: usize = 4 << 20;

/// How a guest's computing is bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Metering {
    Nothing,
    Fuel,
    Epochs,
    FuelAndEpochs,
}

/// What an engine is set up with, where that matters for what an execution costs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// Executions at the same time at most.
    pub(crate) executions: u32,
    /// Bytes of a slot that are zeroed and kept.
    pub(crate) keep_resident: usize,
    /// Whether the kernel is asked which pages were written to.
    pub(crate) scan: Enabled,
    pub(crate) metering: Metering,
}

/// Wasmtime, and the host functions.
pub(crate) struct RawEngine {
    engine: Engine,
    linker: Linker<State>,
    metering: Metering,
}

/// A module that Wasmtime alone executes.
pub(crate) struct Raw {
    engine: Engine,
    metering: Metering,
    module: InstancePre<State>,
    needs_wasi: bool,
    initializes: bool,
}

struct State {
    input: Bytes,
    output: Vec<u8>,
    limits: StoreLimits,
    wasi: Option<WasiP1Ctx>,
}

impl Settings {
    /// As ours are where nothing else is said, for that many executions at the same time. The metering is that of an agent
    /// that is metered by fuel.
    pub(crate) fn ours(executions: u32) -> Self {
        let keep_resident = usize::try_from(EngineConfig::default().keep_resident.0).unwrap_or(usize::MAX);
        Self { executions, keep_resident, scan: Enabled::Auto, metering: Metering::FuelAndEpochs }
    }

    /// The fastest for agents that have a language's runtime.
    pub(crate) fn best(executions: u32) -> Self {
        Self { keep_resident: BEST_KEEP_RESIDENT, ..Self::ours(executions) }
    }

    fn config(self) -> Config {
        let mut pool = PoolingAllocationConfig::new();
        pool.total_core_instances(self.executions * 4)
            .total_memories(self.executions * 2)
            .total_tables(self.executions * 4)
            .total_stacks(self.executions)
            .max_memory_size(1 << 30)
            .table_elements(100_000)
            .linear_memory_keep_resident(self.keep_resident)
            .table_keep_resident(self.keep_resident)
            .pagemap_scan(self.scan);
        let mut config = Config::new();
        config
            .cranelift_opt_level(OptLevel::Speed)
            .memory_init_cow(true)
            .native_unwind_info(false)
            .consume_fuel(self.metering.has_fuel())
            .epoch_interruption(self.metering.has_epochs())
            .max_wasm_stack(GUEST_STACK)
            .async_stack_size(GUEST_STACK + HOST_STACK)
            .allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        config
    }
}

impl Metering {
    fn has_fuel(self) -> bool {
        matches!(self, Self::Fuel | Self::FuelAndEpochs)
    }

    fn has_epochs(self) -> bool {
        matches!(self, Self::Epochs | Self::FuelAndEpochs)
    }
}

impl RawEngine {
    pub(crate) fn new(settings: Settings) -> anyhow::Result<Self> {
        Self::link(settings).map_err(explain)
    }

    fn link(settings: Settings) -> wasmtime::Result<Self> {
        let engine = Engine::new(&settings.config())?;
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p1::add_to_linker_async(&mut linker, |state: &mut State| {
            state.wasi.get_or_insert_with(|| WasiCtxBuilder::new().build_p1())
        })?;
        linker.func_wrap("mentat", "read_input", read_input)?;
        linker.func_wrap("mentat", "write_output", write_output)?;
        linker.func_wrap("mentat", "log", |_: i32, _: i32, _: i32| ())?;
        Ok(Self { engine, linker, metering: settings.metering })
    }

    /// Compiles a module.
    pub(crate) fn module(&self, bytes: &[u8]) -> anyhow::Result<Raw> {
        Module::new(&self.engine, bytes).and_then(|module| self.instantiable(&module)).map_err(explain)
    }

    /// Compiles a module to what [`Self::map`] takes.
    pub(crate) fn compile(&self, bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
        self.engine.precompile_module(bytes).map_err(explain)
    }

    /// A module that was compiled before.
    #[allow(unsafe_code, reason = "mapping compiled code is unsafe by Wasmtime's design")]
    pub(crate) fn map(&self, path: &Path) -> anyhow::Result<Raw> {
        // SAFETY: the file is what `compile` made, in a folder of this process alone.
        let module = unsafe { Module::deserialize_file(&self.engine, path) };
        module.and_then(|module| self.instantiable(&module)).map_err(explain)
    }

    fn instantiable(&self, module: &Module) -> wasmtime::Result<Raw> {
        Ok(Raw {
            engine: self.engine.clone(),
            metering: self.metering,
            module: self.linker.instantiate_pre(module)?,
            needs_wasi: module.imports().any(|import| import.module().starts_with("wasi")),
            initializes: module.get_export("_initialize").is_some(),
        })
    }
}

impl Raw {
    pub(crate) fn new(module: &[u8], settings: Settings) -> anyhow::Result<Self> {
        RawEngine::new(settings)?.module(module)
    }

    /// Executes the module so often, each time in a store of its own.
    pub(crate) async fn execute(&self, input: &Bytes, count: u32) -> anyhow::Result<()> {
        for _ in 0..count {
            self.output(input.clone()).await?;
        }
        Ok(())
    }

    /// The output of one execution, which must be a success.
    pub(crate) async fn output(&self, input: Bytes) -> anyhow::Result<Vec<u8>> {
        let (exit_code, output) = self.execute_once(input).await.map_err(explain)?;
        ensure!(exit_code == 0, "the guest ended with {exit_code}");
        Ok(output)
    }

    /// The exit code and the output.
    async fn execute_once(&self, input: Bytes) -> wasmtime::Result<(i32, Vec<u8>)> {
        let state = State {
            input,
            output: Vec::new(),
            limits: StoreLimitsBuilder::new().memory_size(MEMORY_BYTES).build(),
            wasi: self.needs_wasi.then(|| WasiCtxBuilder::new().build_p1()),
        };
        let mut store = Store::new(&self.engine, state);
        store.limiter(|state| &mut state.limits);
        if self.metering.has_fuel() {
            store.set_fuel(FUEL)?;
            store.fuel_async_yield_interval(Some(FUEL_SLICE))?;
        }
        if self.metering.has_epochs() {
            store.epoch_deadline_async_yield_and_update(1);
            store.set_epoch_deadline(1);
        }
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

/// Wasmtime has an error type of its own.
#[allow(clippy::needless_pass_by_value, reason = "as `map_err` hands it over")]
fn explain(error: wasmtime::Error) -> anyhow::Error {
    anyhow!("{error:#}")
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
