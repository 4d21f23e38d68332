//! Agents in OCI registries: what a reference means, what an artifact looks like, and how one is pulled and pushed.
//!
//! Knows manifests of agents as text, and nothing of what runs them. Whatever a registry sends is hostile: it is bounded
//! before it is kept, and compared with its digest before it is used.

mod artifact;
mod challenge;
mod client;
mod connection;
mod credentials;
mod error;
mod pull;
mod push;
mod reference;
mod rules;
mod session;

pub use artifact::{Artifact, Component, Image, MAX_CONFIG_BYTES, MAX_IMAGE_BYTES, WasmConfig};
pub use challenge::Challenge;
pub use client::{Client, Patience, Progress};
pub use credentials::Credentials;
pub use error::OciError;
pub use pull::Pulled;
pub use push::Pushed;
pub use reference::{Reference, ReferenceError, Registry, Selector};
pub use rules::{Admission, Allowed, Rules};
