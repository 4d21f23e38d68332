//! The Wasmtime engines: their configuration, the pools they allot instances from, and the ticker
//! that makes running guests yield. Knows nothing of modules' contents or of policy.
//!
//! Invariant: the configuration that shapes compiled code comes from [`code_config`] alone, in the
//! service and in the compiling child process alike, so that an artifact made by one is accepted by
//! the other.

use std::sync::{Arc, OnceLock, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use mentat_manifest::{ByteCount, Metering};
use parking_lot::{Condvar, Mutex};
use serde::{Deserialize, Serialize};
use wasmtime::{Config, Enabled, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig};

use crate::error::Error;
use crate::host::api::HostInterface;

/// How instances get their memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Allocator {
    /// From slots that are reserved once and reset between executions: microseconds an instance.
    #[default]
    Pooling,
    /// By `mmap` for each instance: ten times slower, for machines whose address space or
    /// `vm.max_map_count` is too small for a pool.
    OnDemand,
}

/// What an engine is made of. Sizes are per process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EngineConfig {
    /// How instances get their memory.
    pub allocator: Allocator,
    /// Live executions at most; also sizes the pool.
    pub max_executions: u32,
    /// Largest linear memory of any agent, in bytes; the operator's ceiling.
    pub max_memory: ByteCount,
    /// Elements of each table at most.
    pub table_elements: u32,
    /// Bytes of stack that a guest's calls may use.
    pub stack: ByteCount,
    /// Bytes of a memory slot that are zeroed and kept instead of returned to the kernel.
    pub keep_resident: ByteCount,
    /// How often a computing guest yields its thread, in milliseconds.
    pub epoch_tick_ms: u64,
}

/// Linear memories of one core module at most.
pub(crate) const MAX_MEMORIES: u32 = 4;
/// Tables of one core module at most.
pub(crate) const MAX_TABLES: u32 = 16;
/// Core instances inside one component at most; componentize-js and componentize-py make about ten.
pub(crate) const MAX_CORE_INSTANCES_PER_COMPONENT: u32 = 64;
/// Pool slots for core instances and tables, per execution: components have several of each.
pub(crate) const SLOTS_PER_EXECUTION: u32 = 4;
/// Pool slots for linear memories, per execution: most have one; each slot takes 4 GiB of address space.
pub(crate) const MEMORIES_PER_EXECUTION: u32 = 2;
/// Room on the fibre's stack, beyond the guest's own, for host calls made from it.
const HOST_STACK_BYTES: usize = 1 << 20;
/// Bookkeeping of one instance at most (globals, function table of its imports and exports).
const INSTANCE_METADATA_BYTES: usize = 4 << 20;

/// The engines of a process, one for each way of metering, made when first needed.
#[derive(Debug)]
pub(crate) struct Engine {
    config: EngineConfig,
    fuel: OnceLock<Arc<MeteredEngine>>,
    epoch: OnceLock<Arc<MeteredEngine>>,
    ticker: Ticker,
}

/// One Wasmtime engine with the host functions that modules of it are linked to.
pub(crate) struct MeteredEngine {
    pub(crate) wasmtime: wasmtime::Engine,
    pub(crate) host: HostInterface,
    pub(crate) metering: Metering,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            allocator: Allocator::Pooling,
            max_executions: 1000,
            max_memory: ByteCount(1 << 30),
            table_elements: 100_000,
            stack: ByteCount(1 << 20),
            keep_resident: ByteCount(128 << 10),
            epoch_tick_ms: 10,
        }
    }
}

impl Engine {
    /// Makes the fuel-metered engine, so that a configuration this machine cannot bear is refused
    /// at start and not at the first execution.
    ///
    /// # Errors
    /// `INVALID_REQUEST` when the pool does not fit into this process's address space, or a size is
    /// out of range.
    pub(crate) fn new(config: EngineConfig) -> Result<Self, Error> {
        let ticker = Ticker::start(Duration::from_millis(config.epoch_tick_ms.max(1)))?;
        let engine = Self { config, fuel: OnceLock::new(), epoch: OnceLock::new(), ticker };
        engine.metered(Metering::Fuel)?;
        Ok(engine)
    }

    pub(crate) fn metered(&self, metering: Metering) -> Result<&Arc<MeteredEngine>, Error> {
        let cell = match metering {
            Metering::Fuel => &self.fuel,
            Metering::Epoch => &self.epoch,
        };
        if let Some(engine) = cell.get() {
            return Ok(engine);
        }
        let made = Arc::new(MeteredEngine::new(&self.config, metering)?);
        let engine = cell.get_or_init(|| made);
        self.ticker.tick(engine);
        Ok(engine)
    }
}

impl MeteredEngine {
    fn new(config: &EngineConfig, metering: Metering) -> Result<Self, Error> {
        let mut wasmtime_config = code_config(metering, config.stack);
        if config.allocator == Allocator::Pooling {
            wasmtime_config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool_config(config)?));
        }
        let wasmtime = wasmtime::Engine::new(&wasmtime_config).map_err(|error| Error::InvalidRequest {
            message: format!(
                "the engine cannot be made with {} executions of up to {} each: {error:#}; lower \
                 `engine.max_executions` or set `engine.allocator = \"on_demand\"`",
                config.max_executions, config.max_memory
            ),
        })?;
        let host = HostInterface::new(&wasmtime)
            .map_err(|error| Error::internal("linking the host functions", error))?;
        Ok(Self { wasmtime, host, metering })
    }
}

impl std::fmt::Debug for MeteredEngine {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("MeteredEngine").field("metering", &self.metering).finish_non_exhaustive()
    }
}

/// Every setting that shapes compiled code.
pub(crate) fn code_config(metering: Metering, stack: ByteCount) -> Config {
    let stack_bytes = usize::try_from(stack.0).unwrap_or(usize::MAX / 2);
    let mut config = Config::new();
    config
        .cranelift_opt_level(OptLevel::Speed)
        .parallel_compilation(true)
        .memory_init_cow(true)
        .epoch_interruption(true)
        .consume_fuel(matches!(metering, Metering::Fuel))
        .max_wasm_stack(stack_bytes)
        .async_stack_size(stack_bytes.saturating_add(HOST_STACK_BYTES))
        // The ABI's pointers are 32 bits wide.
        .wasm_memory64(false);
    config
}

fn pool_config(config: &EngineConfig) -> Result<PoolingAllocationConfig, Error> {
    let too_big = |key: &str| Error::InvalidRequest {
        message: format!("`engine.{key}` is larger than this machine can address"),
    };
    // Even the smallest pool must hold one of the largest components.
    let slots =
        config.max_executions.saturating_mul(SLOTS_PER_EXECUTION).max(MAX_CORE_INSTANCES_PER_COMPONENT);
    let memories = config.max_executions.saturating_mul(MEMORIES_PER_EXECUTION).max(MAX_MEMORIES);
    let keep_resident = usize::try_from(config.keep_resident.0).map_err(|_| too_big("keep_resident"))?;
    let mut pool = PoolingAllocationConfig::new();
    pool.total_stacks(config.max_executions)
        .total_component_instances(config.max_executions)
        .total_core_instances(slots)
        .total_tables(slots)
        .total_memories(memories)
        .total_gc_heaps(config.max_executions)
        .max_memories_per_module(MAX_MEMORIES)
        .max_memories_per_component(MAX_MEMORIES)
        .max_tables_per_module(MAX_TABLES)
        .max_tables_per_component(MAX_CORE_INSTANCES_PER_COMPONENT)
        .max_core_instances_per_component(MAX_CORE_INSTANCES_PER_COMPONENT)
        .max_core_instance_size(INSTANCE_METADATA_BYTES)
        .max_component_instance_size(INSTANCE_METADATA_BYTES)
        .table_elements(usize::try_from(config.table_elements).map_err(|_| too_big("table_elements"))?)
        .max_memory_size(usize::try_from(config.max_memory.0).map_err(|_| too_big("max_memory"))?)
        .linear_memory_keep_resident(keep_resident)
        .table_keep_resident(keep_resident)
        .pagemap_scan(Enabled::Auto);
    Ok(pool)
}

/// A thread that advances the engines' epochs, so that every computing guest comes back to its
/// executor once a tick. It ends when dropped.
#[derive(Debug)]
struct Ticker {
    shared: Arc<TickerState>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct TickerState {
    engines: Mutex<Ticked>,
    stop: Condvar,
}

#[derive(Debug, Default)]
struct Ticked {
    engines: Vec<Weak<MeteredEngine>>,
    stopped: bool,
}

impl Ticker {
    fn start(period: Duration) -> Result<Self, Error> {
        let shared = Arc::new(TickerState::default());
        let state = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("mentat-epoch".into())
            .spawn(move || {
                let mut ticked = state.engines.lock();
                while !ticked.stopped {
                    for engine in ticked.engines.iter().filter_map(Weak::upgrade) {
                        engine.wasmtime.increment_epoch();
                    }
                    state.stop.wait_for(&mut ticked, period);
                }
            })
            .map_err(|error| Error::internal("starting the epoch thread", error))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    fn tick(&self, engine: &Arc<MeteredEngine>) {
        let mut ticked = self.shared.engines.lock();
        let engine = Arc::downgrade(engine);
        if !ticked.engines.iter().any(|known| known.ptr_eq(&engine)) {
            ticked.engines.push(engine);
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.engines.lock().stopped = true;
        self.shared.stop.notify_all();
        if let Some(thread) = self.thread.take() {
            // The thread only sleeps and counts; a panic in it would have been reported already.
            let _ = thread.join();
        }
    }
}
