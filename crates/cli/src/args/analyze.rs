//! The verb that says whether something could be a module, with its arguments and its help.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueHint};
use mentat_manifest::parse_duration;

use super::{InputArgument, JsonArgument};

/// Say whether a program could move to WebAssembly, and what it would need
///
/// TARGET is a folder of source, or an image of a container engine on this machine. Of source, languages, dependencies and
/// what stands in the text are looked at, each with its place; of an image, what it says of itself, and its program. With
/// `--record` an image's program is executed once, in a container without network and files, and what it asks the kernel for
/// is looked at by `strace`, as root. Nothing of it is proof: a text search finds words, and a run shows what that run did.
/// See docs/move-to-wasm.md.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n\
\x20 mentat analyze ./summary\n\
\x20 mentat analyze ./summary --write summary/manifest.yaml\n\
\x20 mentat analyze localhost/summary:1 --record --input @question.json --json")]
pub(crate) struct AnalyzeArguments {
    /// Folder of source, or name of an image
    #[arg(value_hint = ValueHint::AnyPath)]
    pub(crate) target: String,
    /// Execute the image's program once on the input, and look at what it does
    #[arg(long)]
    pub(crate) record: bool,
    #[command(flatten)]
    pub(crate) input: InputArgument,
    /// Time that the recorded run may take
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration)]
    pub(crate) timeout: Duration,
    /// Socket of the container engine that has the image
    #[arg(long, value_name = "PATH", default_value = "/run/podman/podman.sock", value_hint = ValueHint::FilePath)]
    pub(crate) socket: PathBuf,
    /// Manifest that the `wasm` part is put into; one that has such a part is left as it is. A file that is not there is made,
    /// with that part alone
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) write: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) json: JsonArgument,
}
