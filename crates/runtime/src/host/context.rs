//! The data of one execution's store: everything its host calls may touch. Made fresh for each
//! execution, dropped with it; nothing in it is shared with another one.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mentat_manifest::ByteCount;
use wasmtime::component::ResourceTable;
use wasmtime::{Memory, ModuleExport};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::abi::AbiError;
use super::budget::Sleep;
use super::capabilities::{CallError, CapabilitySet};
use super::descriptors::{Descriptors, FileLimits};
use super::exchanges::Exchanges;
use super::gate::Gate;
use super::http::{self, OutboundHttp};
use super::media::{MediaStore, ObjectStdin, OpenMedia, OpenObject};
use super::network::Network;
use super::outbound::Outbound;
use super::preview1::Preview1;
use super::quota::Storage;
use super::sockets::SocketPlaces;
use super::stdio::{LogSink, OutputSink, words};
use super::streams::Streams;
use super::volumes::Volumes;
use crate::events::EventBuffer;
use crate::model::{HostCallKind, HostCalls};
use crate::runtime::limits::ExecutionLimiter;
use crate::runtime::memory::{MemoryBudget, MemoryShare};
use crate::security::policy::Grant;

/// Live resources (streams, pollables, sockets, requests) of one component at most; each costs host memory.
const MAX_RESOURCES: usize = 2_000;

/// What the host functions of all executions are given.
#[derive(Clone, Debug, Default)]
pub(crate) struct HostConfig {
    /// Elements of all tables of an execution.
    pub(crate) table_elements: u32,
    /// Where scratch directories are made; the system's own place where `None`.
    pub(crate) scratch: Option<PathBuf>,
    /// What a sandbox may take of the machine.
    pub(crate) sandbox: SandboxLimits,
    /// The network.
    pub(crate) network: Arc<Network>,
    /// What executions know of the directories that they share.
    pub(crate) storage: Storage,
    /// The memory of all executions.
    pub(crate) memory: Arc<MemoryBudget>,
    /// Objects, where there is a store for them.
    pub(crate) media: Option<Arc<MediaStore>>,
}

/// What the sandbox of one execution may take of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxLimits {
    /// Bytes that it may add to a directory whose mount says nothing else, and to its scratch directory.
    pub quota: ByteCount,
    /// Files and directories that it may have open at one time by way of WASI.
    pub open_files: u32,
    /// Entries of a directory that it may list.
    pub directory_entries: u32,
    /// Time that it may spend asleep, in all.
    pub sleep: Duration,
}

impl Default for SandboxLimits {
    fn default() -> Self {
        Self {
            // Enough to unpack an archive, little enough for a thousand executions on one disk.
            quota: ByteCount(64 << 20),
            // What POSIX promises a process is 20; a thousand executions have to share the system's.
            open_files: 128,
            directory_entries: 10_000,
            sleep: Duration::from_secs(60),
        }
    }
}

impl SandboxLimits {
    pub(crate) fn files(&self) -> FileLimits {
        let count = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
        FileLimits { open: count(self.open_files), entries: count(self.directory_entries) }
    }
}

/// What the host functions of one execution see.
pub(crate) struct HostContext {
    pub(crate) input: Bytes,
    /// What a command reads in place of that.
    pub(crate) stdin: Option<ObjectStdin>,
    pub(crate) output: OutputSink,
    pub(crate) logs: LogSink,
    /// What it says besides.
    pub(crate) streams: Streams,
    pub(crate) limiter: ExecutionLimiter,
    /// Where every power is asked for; it has the budget.
    pub(crate) gate: Arc<Gate>,
    /// What was granted by handles.
    pub(crate) capabilities: CapabilitySet,
    /// HTTP exchanges by a grant that are not over.
    pub(crate) exchanges: Exchanges,
    /// Objects of the media store that are read or stored in parts.
    pub(crate) media: OpenMedia,
    /// What all executions share.
    pub(crate) host: Arc<HostConfig>,
    /// Its way onto the network, made when it is first asked for.
    outbound: Option<Arc<Outbound>>,
    /// Bytes and elements that baseline code was charged for since it yielded last.
    pub(crate) charged: u64,
    /// What is to be charged with the next call, as bytes that are moved.
    pub(crate) owed: u64,
    /// How often it called the host.
    pub(crate) calls: HostCalls,
    /// Result of the last call that makes one, for `result_read`.
    pub(crate) result: Option<GuestResult>,
    /// Directories that were opened.
    pub(crate) volumes: Volumes,
    /// The core module's exported memory, once found, and where it is.
    pub(crate) memory: Option<Memory>,
    pub(crate) memory_export: Option<ModuleExport>,
    /// Text of the last error, for `last_error`.
    pub(crate) last_error: Bytes,
    /// For core modules that import WASI, or its forerunner; made from the grant before the guest starts.
    pub(crate) preview1: Option<Box<Preview1>>,
    /// For components; made from the grant before the guest starts.
    pub(crate) preview2: Option<Box<Preview2>>,
}

/// What a call left behind for the guest to read.
#[derive(Debug)]
pub(crate) enum GuestResult {
    /// All of it.
    Whole(Bytes),
    /// An object that comes as it is read.
    Object(Box<OpenObject>),
}

/// The WASI 0.2 state of a component.
pub(crate) struct Preview2 {
    pub(crate) context: WasiCtx,
    pub(crate) table: ResourceTable,
    pub(crate) http: WasiHttpCtx,
    pub(crate) hooks: OutboundHttp,
    /// Places of open sockets.
    pub(crate) sockets: SocketPlaces,
    pub(crate) files: Descriptors,
    pub(crate) sleep: Sleep,
}

impl HostContext {
    pub(crate) fn new(
        input: Bytes,
        grant: &Grant,
        host: &Arc<HostConfig>,
        events: Option<Arc<EventBuffer>>,
    ) -> Self {
        let limits = grant.limits();
        let (output, logs) = words(limits, events.clone());
        let share = MemoryShare::of(Arc::clone(&host.memory));
        Self {
            input,
            stdin: None,
            output,
            logs: logs.clone(),
            streams: Streams::new(events),
            limiter: ExecutionLimiter::new(limits.memory_bytes, host.table_elements, share),
            gate: Arc::new(Gate::new(grant.clone(), logs)),
            host: Arc::clone(host),
            volumes: Volumes::default(),
            capabilities: CapabilitySet::default(),
            exchanges: Exchanges::default(),
            media: OpenMedia::default(),
            outbound: None,
            charged: 0,
            owed: 0,
            calls: HostCalls::default(),
            result: None,
            memory: None,
            memory_export: None,
            last_error: Bytes::new(),
            preview1: None,
            preview2: None,
        }
    }

    /// Leaves nothing of an execution but what the guest has of memory, for an instance that waits for another one.
    pub(crate) fn leave(&mut self, host: &Arc<HostConfig>) {
        let mut nobody = Self::new(Bytes::new(), &Grant::nothing(), host, None);
        let share = MemoryShare::of(Arc::clone(&host.memory));
        nobody.limiter = ExecutionLimiter::new(self.limiter.limit(), host.table_elements, share);
        nobody.limiter.inherit(&mut self.limiter);
        *self = nobody;
    }

    /// Remembers the error for `last_error` and answers its code.
    pub(crate) fn fail(&mut self, error: AbiError) -> i32 {
        self.last_error = Bytes::from_static(error.text().as_bytes());
        error.code()
    }

    /// The same, with a text of its own.
    pub(crate) fn refuse(&mut self, error: CallError) -> i32 {
        self.last_error = error.message.into();
        error.code.code()
    }

    /// The WASI 0.1 state; an empty sandbox where none was made.
    pub(crate) fn preview1(&mut self) -> &mut Preview1 {
        let gate = &self.gate;
        self.preview1.get_or_insert_with(|| {
            Box::new(Preview1 {
                wasi: WasiCtxBuilder::new().build_p1(),
                files: Descriptors::nothing(Arc::clone(gate)),
                sleep: Sleep::new(Duration::ZERO),
            })
        })
    }

    /// The WASI 0.2 state; an empty sandbox where none was made.
    pub(crate) fn preview2(&mut self) -> &mut Preview2 {
        let Self { preview2, outbound, host, gate, logs, .. } = self;
        preview2.get_or_insert_with(|| {
            let files = Descriptors::nothing(Arc::clone(gate));
            let nothing = WasiCtxBuilder::new().build();
            let outbound = Arc::clone(way_out(outbound, &host.network, gate, logs));
            Box::new(Preview2::new(nothing, files, Sleep::new(Duration::ZERO), outbound))
        })
    }

    /// Whether it has connections.
    pub(crate) fn is_online(&self) -> bool {
        self.outbound.as_ref().is_some_and(|outbound| outbound.is_open())
    }

    /// The way onto the network, and the secrets that may be taken along.
    pub(crate) fn outbound(&mut self) -> &Arc<Outbound> {
        way_out(&mut self.outbound, &self.host.network, &self.gate, &self.logs)
    }
}

fn way_out<'a>(
    outbound: &'a mut Option<Arc<Outbound>>,
    network: &Arc<Network>,
    gate: &Arc<Gate>,
    logs: &LogSink,
) -> &'a Arc<Outbound> {
    outbound
        .get_or_insert_with(|| Arc::new(Outbound::new(Arc::clone(network), Arc::clone(gate), logs.clone())))
}

impl Preview2 {
    pub(crate) fn new(context: WasiCtx, files: Descriptors, sleep: Sleep, outbound: Arc<Outbound>) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_RESOURCES);
        let (http, hooks) = (http::context(), OutboundHttp(outbound));
        Self { context, table, http, hooks, sockets: SocketPlaces::default(), files, sleep }
    }
}

impl HostContext {
    /// The WASI 0.2 state, for a call of that kind.
    pub(super) fn wasi(&mut self, kind: HostCallKind) -> WasiCtxView<'_> {
        self.calls.count(kind);
        let wasi = self.preview2();
        WasiCtxView { ctx: &mut wasi.context, table: &mut wasi.table }
    }
}

impl WasiView for HostContext {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.wasi(HostCallKind::WasiOther)
    }
}

impl WasiHttpView for HostContext {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        self.calls.count(HostCallKind::WasiHttp);
        let wasi = self.preview2();
        WasiHttpCtxView { hooks: &mut wasi.hooks, table: &mut wasi.table, ctx: &mut wasi.http }
    }
}
