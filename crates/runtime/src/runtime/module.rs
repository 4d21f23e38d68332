//! A module that is ready to run: checked against the host's interface, compiled, linked. Checking
//! comes before compiling, so that a module which cannot run costs no compile.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use mentat_manifest::{ByteCount, Metering, ModuleDigest, escape_untrusted};
use parking_lot::Mutex;
use wasmtime::{InstancePre, ModuleExport};
use wasmtime_wasi::p2::bindings::CommandPre;

use super::brief::{self, Brevity, Expected};
use super::code::Tier;
use super::engine::{
    EngineConfig, MAX_MEMORIES, MAX_TABLES, MEMORIES_PER_EXECUTION, MeteredEngine, SLOTS_PER_EXECUTION,
    TABLES_PER_EXECUTION,
};
use super::inspect::{ImportKind, ModuleInfo, Shape, Signature, invalid};
use crate::error::{Error, ModuleProblem, ModuleProblemKind};
use crate::host::calls::CORE_WASI;
use crate::host::component::INTERFACES;
use crate::host::component::bindings::AgentPre;
use crate::host::context::HostContext;

/// Problems listed at most; the rest is counted.
const MAX_PROBLEMS: usize = 50;

/// A module ready to run; shared by all its executions.
pub struct Module {
    info: ModuleInfo,
    metering: Metering,
    /// Until there is better.
    baseline: Mutex<Option<Arc<Linked>>>,
    optimized: OnceLock<Arc<Linked>>,
}

/// Code of a module with all imports resolved, for an engine.
pub(crate) struct Linked {
    pub(super) engine: Arc<MeteredEngine>,
    pub(super) entry: Entry,
    pub(super) places: u32,
    /// Whether an instance can be called again.
    pub(super) is_reusable: bool,
    /// Whether executions are tried without a fibre, as long as they are brief.
    pub(super) brevity: Brevity,
    bytes: ByteCount,
}

/// What is called, with all imports resolved.
pub(super) enum Entry {
    Core {
        pre: InstancePre<HostContext>,
        call: CoreCall,
        /// The entry point, and what is called before it.
        function: ModuleExport,
        initialize: Option<ModuleExport>,
        memory: Option<ModuleExport>,
        /// Whether it imports WASI 0.1 or its forerunner; where it does not, none is made for it.
        wasi: bool,
    },
    Agent(AgentPre<HostContext>),
    Command(CommandPre<HostContext>),
}

impl Entry {
    /// Whether its input comes by standard input.
    pub(super) fn is_command(&self) -> bool {
        matches!(self, Self::Command(_) | Self::Core { call: CoreCall::Start, .. })
    }

    /// The memory that a core module exports.
    pub(super) fn memory(&self) -> Option<ModuleExport> {
        match self {
            Self::Core { memory, .. } => *memory,
            Self::Agent(_) | Self::Command(_) => None,
        }
    }
}

/// The entry point of a core module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CoreCall {
    /// `process: () -> i32` of the mentat ABI.
    Process,
    /// `_start: () -> ()` of a WASI command.
    Start,
}

/// Compiled code of either kind, not yet linked.
pub(crate) enum Code {
    Core(wasmtime::Module),
    Component(wasmtime::component::Component),
}

impl Module {
    /// What the module says of itself.
    #[must_use]
    pub fn info(&self) -> &ModuleInfo {
        &self.info
    }

    /// SHA-256 of the module's bytes.
    #[must_use]
    pub fn digest(&self) -> &ModuleDigest {
        &self.info.digest
    }

    /// How its executions are metered.
    #[must_use]
    pub fn metering(&self) -> Metering {
        self.metering
    }

    /// Places of the pool that one execution takes: one, or as many as its slots would serve, for a module of many
    /// memories, tables or instances.
    #[must_use]
    pub fn places(&self) -> u32 {
        self.code().places
    }

    /// The code that the next execution runs on.
    #[must_use]
    pub fn tier(&self) -> Tier {
        self.code().engine.tier
    }

    /// How long its next execution will take, by what the last ones did: see
    /// [`Runtime::execute_now`](super::Runtime::execute_now), which tries those that are not long.
    #[must_use]
    pub fn expected(&self) -> Expected {
        self.code().brevity.expected()
    }

    /// Bytes of its code, and of the images of its memories, that are mapped from files.
    #[must_use]
    pub fn mapped(&self) -> ByteCount {
        self.code().bytes
    }

    /// A module with its first code.
    pub(crate) fn new(info: ModuleInfo, code: Linked) -> Self {
        let module = Self {
            info,
            metering: code.engine.metering,
            baseline: Mutex::default(),
            optimized: OnceLock::new(),
        };
        match code.engine.tier {
            Tier::Baseline => *module.baseline.lock() = Some(Arc::new(code)),
            Tier::Optimized => module.improve(code),
        }
        module
    }

    /// Lets all executions from now on run on optimised code. Those that run keep what they began on.
    pub(crate) fn improve(&self, code: Linked) {
        // The first counts; there is no second.
        let _ = self.optimized.set(Arc::new(code));
        self.baseline.lock().take();
    }

    /// The best code that there is.
    pub(super) fn code(&self) -> Arc<Linked> {
        loop {
            if let Some(optimized) = self.optimized.get() {
                return Arc::clone(optimized);
            }
            // Taken away only after there is better.
            if let Some(baseline) = &*self.baseline.lock() {
                return Arc::clone(baseline);
            }
        }
    }

    /// Checks the module's memories against an agent's own budget.
    ///
    /// # Errors
    /// `INVALID_MODULE` when a memory starts larger than the budget.
    pub fn fits(&self, memory: ByteCount) -> Result<(), Error> {
        let problems = memory_problems(&self.info, memory);
        if problems.is_empty() { Ok(()) } else { Err(Error::InvalidModule { problems }) }
    }
}

impl Linked {
    /// Resolves the imports of compiled code.
    ///
    /// # Errors
    /// `INVALID_MODULE` when an import has another type than the host's.
    pub(crate) fn new(engine: &Arc<MeteredEngine>, info: &ModuleInfo, code: &Code) -> Result<Self, Error> {
        let mismatch = |error: wasmtime::Error| {
            invalid(
                ModuleProblemKind::UnsupportedImport,
                "imports",
                escape_untrusted(&format!("{error:#}"), 1024),
            )
        };
        let entry = match code {
            Code::Core(module) => {
                let (call, name) = match info.shape {
                    Some(Shape::WasiCommand) => (CoreCall::Start, "_start"),
                    _ => (CoreCall::Process, "process"),
                };
                let imports =
                    info.imports.iter().map(|import| (import.module.as_str(), import.name.as_str()));
                let missing = || {
                    let message = format!("the compiled module does not export `{name}`");
                    invalid(ModuleProblemKind::MissingExport, name, message)
                };
                Entry::Core {
                    pre: engine.host.core_for(imports).instantiate_pre(module).map_err(mismatch)?,
                    call,
                    function: module.get_export_index(name).ok_or_else(missing)?,
                    // A snapshot has been initialised.
                    initialize: module.get_export_index("_initialize"),
                    memory: module.get_export_index("memory"),
                    wasi: info.imports.iter().any(|import| CORE_WASI.contains(&import.module.as_str())),
                }
            }
            Code::Component(component) => {
                let pre = engine.host.component.instantiate_pre(component).map_err(mismatch)?;
                let wrong_export = |error: wasmtime::Error| {
                    invalid(
                        ModuleProblemKind::MissingExport,
                        "exports",
                        escape_untrusted(&format!("{error:#}"), 1024),
                    )
                };
                if info.shape == Some(Shape::AgentComponent) {
                    Entry::Agent(AgentPre::new(pre).map_err(wrong_export)?)
                } else {
                    Entry::Command(CommandPre::new(pre).map_err(wrong_export)?)
                }
            }
        };
        let places = places(info, code).saturating_mul(engine.places);
        let image = match code {
            Code::Core(module) => module.image_range(),
            Code::Component(component) => component.image_range(),
        };
        let bytes = ByteCount((image.end as usize).saturating_sub(image.start as usize) as u64);
        let is_reusable = match &entry {
            Entry::Core { call, .. } => *call == CoreCall::Process,
            // What a component holds of WASI, such as its standard streams, is of one execution.
            Entry::Agent(_) => !info.uses_wasi(),
            Entry::Command(_) => false,
        };
        let is_brief = match &entry {
            Entry::Core { call, .. } => brief::is_harmless(info, engine.tier, engine.metering, *call),
            Entry::Agent(_) | Entry::Command(_) => false,
        };
        let brevity = Brevity::new(is_brief);
        Ok(Self { engine: Arc::clone(engine), entry, places, is_reusable, brevity, bytes })
    }
}

impl std::fmt::Debug for Module {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Module").field("info", &self.info).finish_non_exhaustive()
    }
}

impl Signature {
    /// Of a function that the host offers.
    pub(crate) fn of(function: &wasmtime::FuncType) -> Self {
        Self::new(
            function.params().map(|kind| kind.to_string()),
            function.results().map(|kind| kind.to_string()),
        )
    }
}

/// What a module takes of the slots that executions share, counted in executions of the usual size.
fn places(info: &ModuleInfo, code: &Code) -> u32 {
    let needs = match code {
        Code::Core(module) => Some(module.resources_required()),
        Code::Component(component) => component.resources_required(),
    };
    let (memories, tables) =
        needs.map_or((MAX_MEMORIES, MAX_TABLES), |needs| (needs.num_memories, needs.num_tables));
    let instances = info.core_instances.div_ceil(SLOTS_PER_EXECUTION);
    let tables = tables.div_ceil(TABLES_PER_EXECUTION);
    instances.max(tables).max(memories.div_ceil(MEMORIES_PER_EXECUTION)).max(1)
}

/// Checks what can be known without compiling, and lists everything that is wrong.
///
/// # Errors
/// `INVALID_MODULE` with each unsupported import, missing export and memory fault by name.
pub(crate) fn check(info: &ModuleInfo, engine: &MeteredEngine, config: &EngineConfig) -> Result<(), Error> {
    let mut problems = if info.component {
        interface_problems(info)
    } else {
        import_problems(info, &engine.host.core_imports)
    };
    problems.extend(export_problems(info));
    problems.extend(memory_problems(info, config.max_memory));
    problems.extend(table_problems(info, config.table_elements));
    if problems.is_empty() {
        return Ok(());
    }
    if problems.len() > MAX_PROBLEMS {
        let more = problems.len() - MAX_PROBLEMS;
        problems.truncate(MAX_PROBLEMS);
        problems.push(ModuleProblem {
            kind: ModuleProblemKind::Malformed,
            subject: "module".into(),
            message: format!("and {more} more problems"),
        });
    }
    Err(Error::InvalidModule { problems })
}

fn import_problems(info: &ModuleInfo, offered: &BTreeMap<(String, String), Signature>) -> Vec<ModuleProblem> {
    let mut problems = Vec::new();
    for import in &info.imports {
        let label = import.label();
        let message = match &import.kind {
            ImportKind::Function(signature) => {
                match offered.get(&(import.module.clone(), import.name.clone())) {
                    Some(ours) if ours == signature => continue,
                    Some(ours) => {
                        format!("import `{label}` has the type {signature}, the host's has {ours}")
                    }
                    None if offered.keys().any(|(module, _)| *module == import.module) => format!(
                        "import `{label}` is not a function of `{}`; see docs/abi.md for those there are",
                        escape_untrusted(&import.module, 64)
                    ),
                    None => format!(
                        "import `{label}` is unknown: the host offers the modules `mentat`, \
                         `wasi_snapshot_preview1`, `wasi_unstable` and the function `env.abort`"
                    ),
                }
            }
            ImportKind::Memory => {
                problems.push(ModuleProblem {
                    kind: ModuleProblemKind::MemoryFault,
                    message: format!(
                        "memory `{label}` is imported; the module must have its own, exported as `memory`"
                    ),
                    subject: label,
                });
                continue;
            }
            ImportKind::Other(what) => {
                format!("import `{label}` is a {what}; the host offers functions only")
            }
            ImportKind::Interface => continue,
        };
        problems.push(ModuleProblem { kind: ModuleProblemKind::UnsupportedImport, subject: label, message });
    }
    problems
}

fn interface_problems(info: &ModuleInfo) -> Vec<ModuleProblem> {
    let mut problems = Vec::new();
    for import in &info.imports {
        let label = import.label();
        let (name, version) = import.name.split_once('@').unwrap_or((&import.name, ""));
        let message = if import.kind != ImportKind::Interface {
            format!("import `{label}` is not an interface; components may import interfaces only")
        } else if !INTERFACES.contains(&name) {
            format!(
                "interface `{label}` is unknown: the host offers `mentat:agent/…@1.0.0` and `wasi:…@0.2.x`"
            )
        } else if !is_offered_version(name, version) {
            format!(
                "interface `{label}` has a version that the host does not offer; it offers {}",
                offered_version(name)
            )
        } else {
            continue;
        };
        problems.push(ModuleProblem { kind: ModuleProblemKind::UnsupportedImport, subject: label, message });
    }
    problems
}

fn is_offered_version(name: &str, version: &str) -> bool {
    if name.starts_with("mentat:") {
        version.strip_prefix("1.").is_some_and(|rest| rest.starts_with("0."))
    } else {
        version.starts_with("0.2.")
    }
}

fn offered_version(name: &str) -> &'static str {
    if name.starts_with("mentat:") { "1.0.0" } else { "0.2.0 and its successors" }
}

fn export_problems(info: &ModuleInfo) -> Vec<ModuleProblem> {
    let mut problems = Vec::new();
    let mut missing = |subject: &str, message: String| {
        problems.push(ModuleProblem {
            kind: ModuleProblemKind::MissingExport,
            subject: subject.to_owned(),
            message,
        });
    };
    let Some(shape) = info.shape else {
        missing("process", format!("{}: there is nothing to execute", info.shape_reason()));
        return problems;
    };
    let mut wants = |name: &str, wanted: &str| match info.exported_function(name) {
        Some(signature) if signature.is(wanted) => {}
        Some(signature) => {
            missing(name, format!("export `{name}` has the type {signature}, it must be {wanted}"));
        }
        None => missing(name, format!("export `{name}` is not a function; it must be one of type {wanted}")),
    };
    match shape {
        Shape::CoreModule => wants("process", "() -> i32"),
        Shape::WasiCommand => wants("_start", "() -> ()"),
        Shape::AgentComponent | Shape::CommandComponent => return problems,
    }
    if info.exports.iter().any(|export| export.name == "_initialize") {
        wants("_initialize", "() -> ()");
    }
    // Without it no host call could reach the guest's data; commands without WASI need none.
    let needs_memory = shape == Shape::CoreModule || !info.imports.is_empty();
    let has_memory = info.exports.iter().any(|export| export.name == "memory" && export.kind == "memory");
    if needs_memory && !has_memory {
        missing("memory", "the module exports no memory called `memory`".into());
    }
    problems
}

fn memory_problems(info: &ModuleInfo, limit: ByteCount) -> Vec<ModuleProblem> {
    let fault = |subject: String, message: String| ModuleProblem {
        kind: ModuleProblemKind::MemoryFault,
        subject,
        message,
    };
    let mut problems = Vec::new();
    for (index, memory) in info.memories.iter().enumerate() {
        let subject = format!("memory {index}");
        if memory.memory64 {
            problems.push(fault(
                subject.clone(),
                format!("{subject} has 64-bit addresses; agents have 32-bit ones"),
            ));
        }
        if memory.shared {
            problems.push(fault(subject.clone(), format!("{subject} is shared; agents have no threads")));
        }
        if memory.minimum > limit {
            problems.push(fault(
                subject.clone(),
                format!("{subject} starts with {} and the limit is {limit}; lower it, or raise `wasm.memory.maximum` in the manifest", memory.minimum),
            ));
        }
    }
    let count = u32::try_from(info.memories.len()).unwrap_or(u32::MAX);
    if !info.component && count > MAX_MEMORIES {
        problems.push(fault(
            "memories".into(),
            format!("the module has {count} memories or more, the host allots at most {MAX_MEMORIES}"),
        ));
    }
    problems
}

fn table_problems(info: &ModuleInfo, limit: u32) -> Vec<ModuleProblem> {
    let mut problems = Vec::new();
    for (index, elements) in info.tables.iter().enumerate() {
        if *elements > u64::from(limit) {
            problems.push(ModuleProblem {
                kind: ModuleProblemKind::MemoryFault,
                subject: format!("table {index}"),
                message: format!("table {index} starts with {elements} elements, the limit is {limit}"),
            });
        }
    }
    let count = u32::try_from(info.tables.len()).unwrap_or(u32::MAX);
    if !info.component && count > MAX_TABLES {
        problems.push(ModuleProblem {
            kind: ModuleProblemKind::MemoryFault,
            subject: "tables".into(),
            message: format!("the module has {count} tables or more, the host allots at most {MAX_TABLES}"),
        });
    }
    problems
}
