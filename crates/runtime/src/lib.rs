//! Runs agents compiled to WebAssembly, each execution in a pristine sandbox with exactly the powers
//! and the budget of its grant.
//!
//! Three rooms: `runtime` (Wasmtime: engines, modules, permits, calls), `host` (what a guest can call)
//! and `security` (who decides). [`Runtime`] is the way in; see `docs/embed.md` for a whole program.

pub mod error;
pub mod events;
mod host;
pub mod model;
mod runtime;
pub mod security;

pub use host::egress::Egress;
pub use host::standard::{StandardStreams, Written};
pub use runtime::brief::Expected;
pub use runtime::code::{CodeConfig, Tier};
pub use runtime::compile::{CompileConfig, CompileRequest, Compiler, Priority, Tiers, compile_here};
pub use runtime::engine::{Allocator, EngineConfig};
pub use runtime::inspect::{Export, Import, ImportKind, MemoryInfo, ModuleInfo, Shape, Signature};
pub use runtime::loader::{CodeOrigin, Loaded, Preparation};
pub use runtime::module::Module;
pub use runtime::objects::{NewObject, StoredContent, StoredObject, TenantMedia};
pub use runtime::pool::{Permit, Pool, PoolConfig};
pub use runtime::warm::WarmConfig;
pub use runtime::{
    BucketConfig, BucketCredentials, MediaConfig, MediaCounts, MediaPlace, NetworkConfig, Runtime,
    RuntimeConfig, SandboxLimits,
};
