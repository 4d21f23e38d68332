//! The verbs that speak to an OCI registry, and what all verbs take that can name an agent in one.

use std::path::PathBuf;

use clap::{Args, ValueHint};
use mentat_oci::{Reference, Registry};

use super::JsonArgument;

/// Push an agent to an OCI registry
///
/// The agent becomes a wasm artifact, as other tools know it: its module is the one layer, its manifest (with the attestation)
/// stands in the configuration. Without a tag it gets its version for one. What the registry has already is not sent again. The
/// reference with the digest, which names this agent and no other for all time, goes to stdout.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n\
\x20 mentat push agents/metrics oci://harbor.lan/agents/metrics\n\
\x20 mentat push agents/metrics oci://127.0.0.1:5000/metrics:latest --plain-http")]
pub(crate) struct PushArguments {
    /// Agent's folder or manifest
    #[arg(value_hint = ValueHint::AnyPath)]
    pub(crate) agent: PathBuf,
    /// Where to
    #[arg(value_name = "oci://HOST/REPOSITORY[:TAG]")]
    pub(crate) reference: Reference,
    #[command(flatten)]
    pub(crate) registry: RegistryArguments,
    #[command(flatten)]
    pub(crate) json: JsonArgument,
}

/// Pull an agent from an OCI registry into a folder
///
/// The folder then has the manifest and the module, as they were pushed; all of it was compared with the digest. The reference
/// with the digest goes to stdout.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n\
\x20 mentat pull oci://harbor.lan/agents/metrics:1.0.0\n\
\x20 mentat pull oci://127.0.0.1:5000/metrics:latest ./metrics --plain-http --force")]
pub(crate) struct PullArguments {
    /// Which agent
    #[arg(value_name = "oci://HOST/REPOSITORY[:TAG|@sha256:…]")]
    pub(crate) reference: Reference,
    /// Folder for it; the last part of the repository's name in the present directory if not given
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) directory: Option<PathBuf>,
    /// Overwrite the agent's files in a folder that is not empty
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) registry: RegistryArguments,
    #[command(flatten)]
    pub(crate) json: JsonArgument,
}

/// How a registry is spoken to.
#[derive(Debug, Args)]
pub(crate) struct RegistryArguments {
    /// File with names and passwords for registries, in the form of docker's `config.json`, which is read where this is not
    /// given
    #[arg(long, value_name = "FILE", env = "MENTAT_REGISTRY_AUTH", hide_env_values = true, value_hint = ValueHint::FilePath)]
    pub(crate) registry_auth: Option<PathBuf>,
    /// Roots that the registry's certificate is checked against beside the system's, in PEM
    #[arg(long, value_name = "FILE", env = "MENTAT_REGISTRY_CA", hide_env_values = true, value_hint = ValueHint::FilePath)]
    pub(crate) registry_ca: Option<PathBuf>,
    /// Further host that the registry may send to: its token service, which gets the name and password, or its store
    #[arg(long = "registry-host", value_name = "HOST[:PORT]")]
    pub(crate) registry_hosts: Vec<Registry>,
    /// Speak to the registry without encryption
    #[arg(long)]
    pub(crate) plain_http: bool,
}
