//! The Wasmtime engines: their configuration, the pools they allot instances from, and the ticker
//! that makes running guests yield. Knows nothing of modules' contents or of policy.
//!
//! Invariant: what shapes compiled code comes from [`CodeConfig`] alone.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use mentat_manifest::{ByteCount, Metering};
use parking_lot::{Condvar, Mutex};
use serde::{Deserialize, Serialize};
use wasmtime::{Enabled, InstanceAllocationStrategy, PoolingAllocationConfig};

use super::code::{CodeConfig, Tier, WHOLE_MEMORY};
use super::machine;
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
    /// Bytes of a memory slot that are zeroed and kept instead of returned to the kernel. Where the kernel cannot tell
    /// which pages were written (before Linux 6.7), 128 KiB at most, since all of them are zeroed then.
    pub keep_resident: ByteCount,
    /// Bytes of address space that each linear memory reserves. With 4 GiB no access needs a check of its bounds; a
    /// machine that is to hold some ten thousand executions has to do with less, and with slower code.
    pub memory_reservation: ByteCount,
    /// Bytes of linear memory that all executions may have together; 0 for four fifths of what this machine, or the
    /// group of processes that this one belongs to, has.
    pub memory_budget: ByteCount,
    /// How often a computing guest yields its thread, in milliseconds.
    pub epoch_tick_ms: u64,
}

/// Linear memories of one core module at most.
pub(crate) const MAX_MEMORIES: u32 = 4;
/// Tables of one core module at most.
pub(crate) const MAX_TABLES: u32 = 16;
/// Core instances inside one component at most; componentize-js and componentize-py make about ten.
pub(crate) const MAX_CORE_INSTANCES_PER_COMPONENT: u32 = 64;
/// Pool slots for core instances, per execution: components have several.
pub(crate) const SLOTS_PER_EXECUTION: u32 = 4;
/// Pool slots for tables, per execution: most modules have one. Each takes some of the pool's own memory.
pub(crate) const TABLES_PER_EXECUTION: u32 = 1;
/// Pool slots for linear memories, per execution: most have one; each slot takes `memory_reservation` of address space.
pub(crate) const MEMORIES_PER_EXECUTION: u32 = 1;
/// Bytes of a slot that are kept where all of them have to be zeroed.
const KEEP_RESIDENT_UNSCANNED: ByteCount = ByteCount(128 << 10);
/// Bytes of a table that are zeroed and kept.
const TABLE_KEEP_RESIDENT: usize = 128 << 10;
/// Mappings that a live execution takes: memory, image, guard and the two of its stack.
const MAPPINGS_PER_EXECUTION: u64 = 5;
/// Mappings for all else in the process: code, threads, allocations.
const OTHER_MAPPINGS: u64 = 8_000;
/// Executions metered by epoch that there is always room for, where there is room for as many at all.
const EPOCH_EXECUTIONS: u32 = 2_500;
/// Which part of all executions can be metered by epoch beyond that: stacks take mappings before anything runs on them.
const EPOCH_SHARE: u32 = 4;
/// Which part of this machine's memory executions may have, where nothing else is said: four fifths.
const MEMORY_SHARE: (u64, u64) = (4, 5);
/// Bookkeeping of one instance at most (globals, function table of its imports and exports).
pub(crate) const INSTANCE_METADATA_BYTES: usize = 4 << 20;

/// The engines of a process, one for each way of metering and each tier of code, made when first needed.
#[derive(Debug)]
pub(crate) struct Engine {
    config: EngineConfig,
    optimized: PerMetering,
    baseline: PerMetering,
    ticker: Ticker,
}

#[derive(Debug, Default)]
struct PerMetering {
    fuel: OnceLock<Arc<MeteredEngine>>,
    epoch: OnceLock<Arc<MeteredEngine>>,
}

/// One Wasmtime engine with the host functions that modules of it are linked to.
pub(crate) struct MeteredEngine {
    pub(crate) wasmtime: wasmtime::Engine,
    pub(crate) host: HostInterface,
    pub(crate) metering: Metering,
    pub(crate) tier: Tier,
    /// Places that one execution of the usual size takes.
    pub(crate) places: u32,
    /// Bytes of stack that a guest's calls may use.
    pub(crate) stack: ByteCount,
    /// Tells engines apart whose code is not the same.
    pub(crate) compatibility: u64,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            allocator: Allocator::Pooling,
            max_executions: 10_000,
            max_memory: ByteCount(1 << 30),
            table_elements: 100_000,
            stack: ByteCount(1 << 20),
            keep_resident: ByteCount(2 << 20),
            memory_reservation: WHOLE_MEMORY,
            memory_budget: ByteCount(0),
            epoch_tick_ms: 10,
        }
    }
}

impl EngineConfig {
    /// What shapes the code of its engines.
    pub(crate) fn code(&self, metering: Metering) -> CodeConfig {
        let (stack, memory_reservation) = (self.stack, self.memory_reservation);
        CodeConfig { tier: Tier::Optimized, metering, stack, memory_reservation }
    }

    /// Executions metered like this that there are slots for.
    fn executions(&self, metering: Metering) -> u32 {
        match metering {
            Metering::Fuel => self.max_executions,
            Metering::Epoch => {
                (self.max_executions / EPOCH_SHARE).max(EPOCH_EXECUTIONS).min(self.max_executions)
            }
        }
    }

    /// Places that one execution metered like this takes, so that there are never more of them than slots.
    pub(crate) fn places(&self, metering: Metering) -> u32 {
        self.max_executions.div_ceil(self.executions(metering).max(1))
    }

    /// Bytes of linear memory that all executions may have together.
    pub(crate) fn memory_budget(&self) -> ByteCount {
        let (share, of) = MEMORY_SHARE;
        match self.memory_budget {
            ByteCount(0) => {
                machine::memory().map_or(ByteCount(u64::MAX), |all| ByteCount(all.0 / of * share))
            }
            said => said,
        }
    }

    /// Checks that this process may have as many mappings as its executions take. Later, where the limit is met, an
    /// execution would be refused that was promised a place.
    fn check_mappings(&self, allowed: u64) -> Result<(), Error> {
        let needed = u64::from(self.max_executions)
            .saturating_mul(MAPPINGS_PER_EXECUTION)
            .saturating_add(OTHER_MAPPINGS);
        if needed <= allowed {
            return Ok(());
        }
        let possible = allowed.saturating_sub(OTHER_MAPPINGS) / MAPPINGS_PER_EXECUTION;
        Err(Error::InvalidRequest {
            message: format!(
                "`engine.max_executions` of {} takes up to {needed} memory mappings, and the system allows a process \
                 {allowed}; raise that with `sysctl -w vm.max_map_count={needed}`, or lower the executions to {possible}",
                self.max_executions
            ),
        })
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
        if let Some(allowed) = machine::max_mappings() {
            config.check_mappings(allowed)?;
        }
        if config.memory_reservation < config.max_memory {
            return Err(Error::InvalidRequest {
                message: format!(
                    "`engine.memory_reservation` is {}, and `engine.max_memory` is {}: each memory must fit into what is \
                     reserved for it",
                    config.memory_reservation, config.max_memory
                ),
            });
        }
        let ticker = Ticker::start(Duration::from_millis(config.epoch_tick_ms.max(1)))?;
        let (optimized, baseline) = (PerMetering::default(), PerMetering::default());
        let engine = Self { config, optimized, baseline, ticker };
        engine.of(Metering::Fuel, Tier::Optimized)?;
        Ok(engine)
    }

    pub(crate) fn of(&self, metering: Metering, tier: Tier) -> Result<&Arc<MeteredEngine>, Error> {
        let engines = match tier {
            Tier::Baseline => &self.baseline,
            Tier::Optimized => &self.optimized,
        };
        let cell = match metering {
            Metering::Fuel => &engines.fuel,
            Metering::Epoch => &engines.epoch,
        };
        if let Some(engine) = cell.get() {
            return Ok(engine);
        }
        let made =
            Arc::new(MeteredEngine::new(&self.config, CodeConfig { tier, ..self.config.code(metering) })?);
        let engine = cell.get_or_init(|| made);
        self.ticker.tick(engine);
        Ok(engine)
    }
}

impl MeteredEngine {
    fn new(config: &EngineConfig, code: CodeConfig) -> Result<Self, Error> {
        let metering = code.metering;
        let mut wasmtime_config = code.engine();
        // Modules are on baseline code for seconds: not worth the mappings of another pool.
        if config.allocator == Allocator::Pooling && code.tier == Tier::Optimized {
            wasmtime_config
                .allocation_strategy(InstanceAllocationStrategy::Pooling(pool_config(config, metering)?));
        }
        let wasmtime = wasmtime::Engine::new(&wasmtime_config).map_err(|error| Error::InvalidRequest {
            message: format!(
                "the engine cannot be made with {} executions that reserve {} each: {error:#}; lower \
                 `engine.max_executions` or `engine.memory_reservation`, or set `engine.allocator = \"on_demand\"`",
                config.executions(metering),
                config.memory_reservation
            ),
        })?;
        let mut host = HostInterface::new(&wasmtime)
            .map_err(|error| Error::internal("linking the host functions", error))?;
        if code.tier == Tier::Baseline {
            host.offer_charge().map_err(|error| Error::internal("linking the host functions", error))?;
        }
        let mut hasher = DefaultHasher::new();
        wasmtime.precompile_compatibility_hash().hash(&mut hasher);
        let (places, compatibility) = (config.places(metering), hasher.finish());
        Ok(Self { wasmtime, host, metering, tier: code.tier, places, stack: config.stack, compatibility })
    }
}

impl std::fmt::Debug for MeteredEngine {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut engine = formatter.debug_struct("MeteredEngine");
        engine.field("metering", &self.metering).field("tier", &self.tier).finish_non_exhaustive()
    }
}

fn pool_config(config: &EngineConfig, metering: Metering) -> Result<PoolingAllocationConfig, Error> {
    let too_big = |key: &str| Error::InvalidRequest {
        message: format!("`engine.{key}` is larger than this machine can address"),
    };
    // Even the smallest pool must hold one of the largest components.
    let executions = config.executions(metering);
    let slots = executions.saturating_mul(SLOTS_PER_EXECUTION).max(MAX_CORE_INSTANCES_PER_COMPONENT);
    let tables = executions.saturating_mul(TABLES_PER_EXECUTION).max(MAX_CORE_INSTANCES_PER_COMPONENT);
    let memories = executions.saturating_mul(MEMORIES_PER_EXECUTION).max(MAX_MEMORIES);
    let kept = match PoolingAllocationConfig::is_pagemap_scan_available() {
        true => config.keep_resident,
        false => config.keep_resident.min(KEEP_RESIDENT_UNSCANNED),
    };
    let keep_resident = usize::try_from(kept.0).map_err(|_| too_big("keep_resident"))?;
    let mut pool = PoolingAllocationConfig::new();
    pool.total_stacks(executions)
        .total_component_instances(executions)
        .total_core_instances(slots)
        .total_tables(tables)
        .total_memories(memories)
        .total_gc_heaps(executions)
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
        .table_keep_resident(TABLE_KEEP_RESIDENT)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executions_that_the_system_has_no_mappings_for_are_refused_with_what_to_do() {
        let config = EngineConfig::default();
        config.check_mappings(65_530).unwrap();
        let many = EngineConfig { max_executions: 100_000, ..config };
        let refused = many.check_mappings(65_530).unwrap_err().to_string();
        assert!(refused.contains("vm.max_map_count=508000") && refused.contains("to 11506"), "{refused}");
        many.check_mappings(508_000).unwrap();
    }

    #[test]
    fn there_are_never_more_executions_by_epoch_than_slots_for_them() {
        for (max_executions, slots, places) in
            [(1, 1, 1), (300, 300, 1), (10_000, 2_500, 4), (100_000, 25_000, 4)]
        {
            let config = EngineConfig { max_executions, ..EngineConfig::default() };
            assert_eq!(config.executions(Metering::Epoch), slots);
            assert_eq!(config.places(Metering::Epoch), places);
            assert_eq!(config.places(Metering::Fuel), 1);
        }
    }
}
