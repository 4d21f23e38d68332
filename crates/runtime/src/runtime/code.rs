//! What shapes compiled code. The service and the compiling process make their engines from the same [`CodeConfig`], so
//! that an artifact of one is accepted by the other; an engine of another kind refuses it.

use mentat_manifest::{ByteCount, Metering};
use serde::{Deserialize, Serialize};
use wasmtime::{Config, OptLevel, Strategy};

/// Room on the fibre's stack, beyond the guest's own, for host calls made from it.
const HOST_STACK_BYTES: usize = 1 << 20;
/// Bytes around a memory that are never mapped, where its reservation does not cover all that 32 bits can address: what
/// code that checks bounds wants for constant offsets.
const SMALL_GUARD_BYTES: u64 = 64 << 10;
/// What 32 bits can address.
pub(super) const WHOLE_MEMORY: ByteCount = ByteCount(1 << 32);

/// How much work went into code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// Made in one pass, by Winch: soon there, and slower. For core modules alone, and not for all.
    Baseline,
    /// Made by Cranelift.
    Optimized,
}

/// What shapes compiled code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CodeConfig {
    /// How much work goes into it.
    pub tier: Tier,
    /// How it is metered.
    pub metering: Metering,
    /// Stack that guests have, in bytes.
    pub stack: ByteCount,
    /// Address space that each linear memory reserves, in bytes.
    pub memory_reservation: ByteCount,
}

impl CodeConfig {
    /// The configuration of an engine for such code.
    pub(crate) fn engine(&self) -> Config {
        let stack = usize::try_from(self.stack.0).unwrap_or(usize::MAX / 2);
        let mut config = Config::new();
        config
            .strategy(match self.tier {
                Tier::Baseline => Strategy::Winch,
                Tier::Optimized => Strategy::Cranelift,
            })
            .cranelift_opt_level(OptLevel::Speed)
            .parallel_compilation(true)
            .memory_init_cow(true)
            .epoch_interruption(true)
            .consume_fuel(matches!(self.metering, Metering::Fuel))
            // For debuggers of native code, and more to read when code comes back from disk. Wasmtime unwinds without it.
            .native_unwind_info(false)
            .max_wasm_stack(stack)
            .async_stack_size(stack.saturating_add(HOST_STACK_BYTES))
            // The ABI's pointers are 32 bits wide.
            .wasm_memory64(false);
        if self.memory_reservation < WHOLE_MEMORY {
            config.memory_reservation(self.memory_reservation.0).memory_guard_size(SMALL_GUARD_BYTES);
        }
        config
    }
}
