//! The WASI context of one execution: clocks and randomness, its own input and output, and of files and variables what
//! the gate permits. A denial here is no error of the guest's: it does not find what it was denied, as on any machine
//! that does not have it, and the log says why.

use std::collections::BTreeMap;
use std::os::fd::AsRawFd;

use mentat_manifest::{Capability, Events, FileAccess};
use wasmtime_wasi::p2::pipe::MemoryInputPipe;
use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

use super::context::HostContext;
use super::descriptors::Volume;
use super::gate::Gate;
use super::output::{OutputStdio, Reports};
use super::stdio::LogStdio;
use super::volumes::Location;
use crate::model::LogLevel;

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

/// The standard streams that are finished when the guest has ended.
#[derive(Debug, Default)]
pub(crate) struct OpenLines {
    /// Their last, unfinished lines are logged.
    logs: Vec<LogStdio>,
    output: Option<OutputStdio>,
}

impl OpenLines {
    /// Logs and tells what was left unfinished by a guest that ran to its end, or did not.
    pub(crate) fn finish(&self, whole: bool) {
        self.logs.iter().for_each(LogStdio::finish);
        self.output.iter().for_each(|output| output.finish(whole));
    }
}

/// Builds the sandbox of an execution: its context, and the directories that are open in it, in order.
pub(crate) fn build(context: &mut HostContext, stdio: Stdio) -> (WasiCtxBuilder, Vec<Volume>, OpenLines) {
    let (mut wasi, open_lines) = streams(context, stdio);
    if stdio == Stdio::Command {
        wasi.arg(PROGRAM_NAME).args(context.gate.grant().args());
    }
    for (name, value) in environment(context) {
        wasi.env(name, value);
    }
    let mut volumes = Vec::new();
    for location in directories(context) {
        let guest = location.path();
        match mount(&mut wasi, location, &context.gate) {
            Ok(volume) => volumes.push(volume),
            Err(error) => warn(context, &format!("the directory `{guest}` cannot be opened: {error:#}")),
        }
    }
    (wasi, volumes, open_lines)
}

/// A context with its standard streams and nothing else.
fn streams(context: &HostContext, stdio: Stdio) -> (WasiCtxBuilder, OpenLines) {
    let mut wasi = WasiCtxBuilder::new();
    let (mut open, mut output) = (Vec::new(), None);
    wasi.max_random_size(MAX_RANDOM_BYTES);
    let events = context.streams.events();
    let reports = context.gate.grant().reports() == Some(Events::Ndjson);
    match stdio {
        Stdio::Command => {
            match &context.stdin {
                Some(object) => wasi.stdin(object.clone()),
                None => wasi.stdin(MemoryInputPipe::new(context.input.clone())),
            };
            let reports = reports.then(|| Reports::new(context.logs.clone(), events.clone()));
            let stdout = OutputStdio::new(context.output.clone(), reports, events);
            wasi.stdout(stdout.clone());
            output = Some(stdout);
        }
        Stdio::Logged => {
            let stdout = LogStdio::new(LogLevel::Info, context.logs.clone());
            let stdout = stdout.with_reports(events.filter(|_| reports));
            wasi.stdout(stdout.clone());
            open.push(stdout);
        }
    }
    let stderr = LogStdio::new(LogLevel::Warn, context.logs.clone());
    wasi.stderr(stderr.clone());
    open.push(stderr);
    (wasi, OpenLines { logs: open, output })
}

/// What the manifest says, and of the operator's variables and secrets those that it asks for and may have. Of what is
/// sealed the guest finds the placeholder.
fn environment(context: &mut HostContext) -> BTreeMap<String, String> {
    let grant = context.gate.grant();
    let mut variables: BTreeMap<String, String> = grant.constants().iter().cloned().collect();
    let asked: Vec<Capability> = grant.variables().into_iter().chain(grant.secrets()).collect();
    for capability in asked {
        let (Capability::Env(name) | Capability::Secret(name)) = &capability else { continue };
        let permission = match context.gate.decide(&capability) {
            Ok(permission) => permission,
            Err(denial) => {
                warn(context, &denial.to_string());
                continue;
            }
        };
        let offers = context.gate.grant().offers();
        let value = if offers.sealed(&capability).is_some() {
            match context.outbound().secrets.issue(&permission) {
                Ok(placeholder) => Some(placeholder),
                Err(error) => {
                    warn(context, &error.message);
                    None
                }
            }
        } else {
            offers.env.get(name).filter(|_| matches!(capability, Capability::Env(_))).cloned()
        };
        if let Some(value) = value {
            variables.insert(name.clone(), value);
        }
    }
    variables
}

/// The directories that may be opened.
fn directories(context: &mut HostContext) -> Vec<Location> {
    let mut locations = Vec::new();
    for capability in context.gate.grant().preopens() {
        let permission = match context.gate.decide(&capability) {
            Ok(permission) => permission,
            Err(denial) => {
                warn(context, &denial.to_string());
                continue;
            }
        };
        let grant = context.gate.grant();
        let (offers, tenant) = (grant.offers(), grant.tenant());
        let mut opened = context.volumes.open_below(&context.host, &permission, offers, tenant);
        let itself = context.volumes.open(&context.host, &permission, offers, tenant);
        if itself.is_ok() || opened.is_empty() {
            opened.insert(0, itself);
        }
        for location in opened {
            match location {
                Ok(location) => locations.push(location),
                Err(error) => warn(context, &error.to_string()),
            }
        }
    }
    locations
}

fn mount(wasi: &mut WasiCtxBuilder, location: Location, gate: &Gate) -> wasmtime::Result<Volume> {
    let (name, volume) = location.into_volume(gate)?;
    let access = match volume.access {
        FileAccess::Read => FsPerms::ReadOnly,
        // That it may not be looked at is for the checks before Wasmtime's own.
        FileAccess::Write | FileAccess::ReadWrite => FsPerms::ReadWrite,
    };
    // A path that leads to the open directory, whatever has become of its name.
    let path = format!("/proc/self/fd/{}", volume.root.as_raw_fd());
    wasi.preopened_dir(path, name, access)?;
    Ok(volume)
}

fn warn(context: &HostContext, text: &str) {
    context.logs.log(LogLevel::Warn, text.as_bytes());
}
