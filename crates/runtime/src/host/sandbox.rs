//! The WASI context of one execution, made out of its grant and nothing else: no files, no network
//! and no environment beyond what was granted; clocks and randomness; its own input and output.

use wasmtime_wasi::p2::pipe::MemoryInputPipe;
use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

use super::context::HostContext;
use super::stdio::{LogStdio, OutputStdio};
use crate::error::Error;
use crate::model::LogLevel;
use crate::security::policy::{Grant, MountAccess};

/// Random bytes in one call at most; the host holds them in memory while it copies them.
const MAX_RANDOM_BYTES: u64 = 16 << 20;
/// What a WASI command finds as its own name in `argv[0]`.
const PROGRAM_NAME: &str = "agent";

/// Where a guest's standard streams lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stdio {
    /// A command: input on stdin, stdout is the output, stderr the log.
    Command,
    /// An agent that has its own calls for input and output: stdin is empty, stdout and stderr are logs.
    Logged,
}

/// The log streams whose last, unfinished lines must be logged when the guest has ended.
#[derive(Debug, Default)]
pub(crate) struct OpenLines(Vec<LogStdio>);

impl OpenLines {
    /// Logs what was left unfinished.
    pub(crate) fn finish(&self) {
        for stream in &self.0 {
            stream.finish();
        }
    }
}

/// Builds the sandbox of `grant`.
///
/// # Errors
/// `INVALID_REQUEST` when a mounted directory cannot be opened.
pub(crate) fn build(
    grant: &Grant,
    context: &HostContext,
    stdio: Stdio,
) -> Result<(WasiCtxBuilder, OpenLines), Error> {
    let mut wasi = WasiCtxBuilder::new();
    let mut open = Vec::new();
    wasi.max_random_size(MAX_RANDOM_BYTES);
    match stdio {
        Stdio::Command => {
            wasi.arg(PROGRAM_NAME).args(&grant.powers().args);
            wasi.stdin(MemoryInputPipe::new(context.input.clone()));
            wasi.stdout(OutputStdio(context.output.clone()));
        }
        Stdio::Logged => {
            let stdout = LogStdio::new(LogLevel::Info, context.logs.clone());
            wasi.stdout(stdout.clone());
            open.push(stdout);
        }
    }
    let stderr = LogStdio::new(LogLevel::Warn, context.logs.clone());
    wasi.stderr(stderr.clone());
    open.push(stderr);
    wasi.envs(&grant.powers().env);
    for mount in &grant.powers().mounts {
        let access = match mount.access {
            MountAccess::ReadOnly => FsPerms::ReadOnly,
            MountAccess::ReadWrite => FsPerms::ReadWrite,
        };
        wasi.preopened_dir(&mount.host, &mount.guest, access).map_err(|error| Error::InvalidRequest {
            message: format!("directory `{}` cannot be mounted: {error:#}", mount.host.display()),
        })?;
    }
    Ok((wasi, OpenLines(open)))
}
