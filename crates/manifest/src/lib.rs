//! The contract of an agent: ids, digests, quantities, limits, the capability grammar and the manifest.
//!
//! Pure: no I/O, no async, nothing of the engine. Everything here is fed by strangers, so every parser is
//! bounded, and text that is echoed goes through [`escape_untrusted`].

mod agent_id;
mod attestation;
mod capability;
mod container;
mod cover;
mod digest;
mod escape;
mod explain;
mod host;
mod limits;
mod manifest;
mod parse;
mod pins;
mod reference;
mod schema;
mod tree;
mod units;

pub use agent_id::{AgentId, AgentVersion, NameError};
pub use capability::{Capability, CapabilityError, CapabilityKind, FileAccess, MediaAccess, Protocol};
pub use container::{InputForm, MIN_CONTAINER_MEMORY, MilliCpus};
pub use cover::{BLOCKED_PORTS, is_at_or_below, is_public};
pub use digest::{Digest, DigestError, ModuleDigest};
pub use escape::escape_untrusted;
pub use host::{Host, Port};
pub use limits::{CeilingError, Limits, LimitsRequest, Metering};
pub use manifest::{
    Attestation, DeclaredCapabilities, Environment, Events, Init, Instances, Listed, Manifest, Preopen,
    Resources, RuntimeKind, Signer, Wasi, WasiVersion, Wasm, WasmEngine, WasmMemory,
};
pub use parse::{ManifestError, Problem};
pub use pins::{MediaPins, Pin, PinType};
pub use reference::{is_host, is_repository, is_tag};
pub use schema::manifest_schema;
pub use units::{ByteCount, Fuel, UnitError, parse_duration};
