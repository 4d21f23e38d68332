//! The verbs that call a server.

use std::path::PathBuf;

use clap::{Args, ValueHint};
use mentat_manifest::{AgentId, AgentVersion, Capability};
use mentat_runtime::model::ExecutionId;

use super::{
    InputArgument, JsonArgument, LimitArguments, RegistryArguments, ServerArguments, StreamArgument,
};
use crate::values::{AgentReference, parse_agent_reference, parse_left};

/// Load an agent into a server and make it the active version
///
/// The agent is durable when this returns. A version that is loaded with other content is refused
/// unless `--replace` is given. Whether its signature holds, where it has one, the server says by its own roots.
///
/// An agent in an OCI registry, `oci://…`, is pulled here and sent to the server; with `--by-server`, the server pulls it, from a
/// registry that its operator allows, by a reference with a digest.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n\
\x20 mentat load agents/metrics\n\
\x20 mentat load manifest.yaml --module build/agent.wasm --replace\n\
\x20 mentat load oci://harbor.lan/agents/metrics:1.0.0")]
pub(crate) struct LoadArguments {
    /// Agent's folder, manifest, or `oci://HOST/REPOSITORY[:TAG|@sha256:…]`
    #[arg(value_hint = ValueHint::AnyPath)]
    pub(crate) agent: PathBuf,
    /// Module to load in place of the one that the manifest names
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) module: Option<PathBuf>,
    /// Attestation that the manifest does not have in it: the block as YAML or JSON
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) attestation: Option<PathBuf>,
    /// Put this content in the place of a loaded version's
    #[arg(long)]
    pub(crate) replace: bool,
    /// Have the server pull it, by its own credentials
    #[arg(long, conflicts_with = "module")]
    pub(crate) by_server: bool,
    #[command(flatten)]
    pub(crate) registry: RegistryArguments,
    #[command(flatten)]
    pub(crate) server: ServerArguments,
    #[command(flatten)]
    pub(crate) json: JsonArgument,
}

/// Execute an agent that is loaded in a server
///
/// The output goes to stdout and nothing else does; the agent's log goes to stderr. The exit code is
/// the agent's own, or one of those listed by `mentat --help`. Limits given here can only lower those
/// of the agent's manifest. Ctrl-C cancels the execution.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n\
\x20 mentat execute mentatlab.metrics --input '[1, 2, 3.5]'\n\
\x20 mentat execute mentatlab.metrics@1.0.0 --input @values.json --json\n\
\x20 mentat execute mentatlab.metrics --input @values.json --receipt receipt.json")]
pub(crate) struct ExecuteArguments {
    /// Agent's id; its active version runs unless one is named
    #[arg(value_name = "ID[@VERSION]", value_parser = parse_agent_reference)]
    pub(crate) agent: AgentReference,
    #[command(flatten)]
    pub(crate) input: InputArgument,
    #[command(flatten)]
    pub(crate) limits: LimitArguments,
    /// Capability that is left to this execution; everything else is taken away. `none` leaves none at all
    #[arg(long = "only", value_name = "CAPABILITY", value_parser = parse_left)]
    pub(crate) only: Vec<Option<Capability>>,
    /// File for a receipt: what was executed, on what, with which powers and to what end, signed; `mentat verify-receipt`
    /// checks it. An execution that fails has one as well
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) receipt: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) stream: StreamArgument,
    #[command(flatten)]
    pub(crate) server: ServerArguments,
    #[command(flatten)]
    pub(crate) json: JsonArgument,
}

/// Follow what an execution of a server says
///
/// Everything that is kept of it, then the rest as it comes, until its end: the chunks of its streams go to stdout, and its
/// output at the end; its log goes to stderr. Works for executions of others of the same tenant, and for a while after the
/// end. Ctrl-C ends this command and not the execution.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n\
\x20 mentat stream 01890a5d-ac96-774b-bcce-b302099a8057\n\
\x20 mentat stream 01890a5d-ac96-774b-bcce-b302099a8057 --from 118 --json")]
pub(crate) struct StreamArguments {
    /// Execution's id
    #[arg(value_name = "ID")]
    pub(crate) id: ExecutionId,
    /// Number of the first event that is wanted; one more than that of the last one seen goes on
    #[arg(long, value_name = "SEQUENCE", default_value_t = 0)]
    pub(crate) from: u64,
    #[command(flatten)]
    pub(crate) server: ServerArguments,
    #[command(flatten)]
    pub(crate) json: JsonArgument,
}

/// List the agents of a server
///
/// One line for each version, in order of id; `*` marks the version that executes when none is named. Behind its module
/// stand how far its signer is trusted and who that is, or why it may not run.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n\
\x20 mentat list\n\
\x20 mentat list --json")]
pub(crate) struct ListArguments {
    #[command(flatten)]
    pub(crate) server: ServerArguments,
    #[command(flatten)]
    pub(crate) json: JsonArgument,
}

/// Remove an agent, or one version of it, from a server
///
/// Executions that are running finish. When the active version goes, the newest of the rest takes its
/// place.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n\
\x20 mentat unload mentatlab.metrics\n\
\x20 mentat unload mentatlab.metrics@1.0.0")]
pub(crate) struct UnloadArguments {
    /// Agent's id; all its versions go unless one is named
    #[arg(value_name = "ID[@VERSION]", value_parser = parse_agent_reference)]
    pub(crate) agent: AgentReference,
    #[command(flatten)]
    pub(crate) server: ServerArguments,
    #[command(flatten)]
    pub(crate) json: JsonArgument,
}

/// Make another loaded version of an agent the active one
///
/// Takes effect with the next execution, without a compile. Rolls forward as well as back.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n\
\x20 mentat rollback mentatlab.metrics 1.0.0")]
pub(crate) struct RollbackArguments {
    /// Agent's id
    pub(crate) id: AgentId,
    /// Version that becomes active
    pub(crate) version: AgentVersion,
    #[command(flatten)]
    pub(crate) server: ServerArguments,
    #[command(flatten)]
    pub(crate) json: JsonArgument,
}
