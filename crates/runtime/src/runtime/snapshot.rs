//! `init: snapshot`: a module's initialisation is run once, where it is compiled, and what its memories and globals hold by
//! then is where every execution starts. Works on bytes; the snapshot is a module again, and is compiled as any other.
//!
//! Invariant: nothing of the host gets into a snapshot, since all executions of all tenants would have it. Initialisation
//! has no powers: it is linked to nothing but [`HARMLESS`], whose answers are the same on every machine; whatever else it
//! calls ends it, and with it the load.

use std::collections::HashMap;
use std::sync::Arc;

use mentat_manifest::{ByteCount, escape_untrusted};
use wasmparser::{Parser, Payload, TypeRef};
use wasmtime::component::{
    Component, Instance as ComponentInstance, Lift, Linker as ComponentLinker, WasmList,
};
use wasmtime::{Caller, Engine, ExternType, Instance, Linker, Module, OptLevel, Store, Val};
use wasmtime_wizer::{ComponentInstanceState, InstanceState, SnapshotVal, ValType, Wizer};

use super::code::{CodeConfig, Tier};
use super::engine::EngineConfig;
use super::inspect::invalid;
use super::limits::ExecutionLimiter;
use super::memory::{MemoryBudget, MemoryShare};
use crate::error::{Error, ModuleProblemKind};
use crate::host::calls::CORE_WASI;

/// Fuel of an initialisation at most: some ten seconds of computing.
const MAX_INIT_FUEL: u64 = 20_000_000_000;
/// Bytes of all memories after an initialisation at most: the artifact holds them.
pub(crate) const MAX_INIT_MEMORY: ByteCount = ByteCount(256 << 20);
/// What initialises a module, in this order, where it exports it.
const INITIALISERS: [&str; 2] = ["_initialize", "init"];

/// Functions that initialisation may call, by name, and what each answers. There are no arguments, variables, directories
/// or open files yet; nothing is written.
const HARMLESS: [(&str, Answer); 10] = [
    ("args_sizes_get", Answer::Sizes),
    ("args_get", Answer::Errno(0)),
    ("environ_sizes_get", Answer::Sizes),
    ("environ_get", Answer::Errno(0)),
    ("fd_prestat_get", Answer::Errno(BADF)),
    ("fd_prestat_dir_name", Answer::Errno(BADF)),
    ("fd_fdstat_get", Answer::Errno(BADF)),
    ("fd_filestat_get", Answer::Errno(BADF)),
    ("fd_close", Answer::Errno(BADF)),
    ("sched_yield", Answer::Errno(0)),
];
/// WASI's error number for a descriptor that is none.
const BADF: i32 = 8;

/// What a harmless function answers.
#[derive(Clone, Copy)]
enum Answer {
    /// This error number.
    Errno(i32),
    /// Success, and two sizes of nothing where its arguments point to.
    Sizes,
}

/// The store's data while a module is initialised.
struct Initialization {
    limits: ExecutionLimiter,
}

/// The module as it is after its initialisation.
///
/// # Errors
/// `INVALID_MODULE` when it has none, when that fails or calls the host, or when its state cannot be kept.
pub(crate) fn initialised(module: &[u8], code: &CodeConfig) -> Result<Vec<u8>, Error> {
    let snapshot = if Parser::is_component(module) {
        prescan(module).and_then(|()| of_component(module, code))
    } else {
        of_module(module, code)
    };
    snapshot.map_err(|error| {
        let said: Vec<String> = error
            .chain()
            .map(ToString::to_string)
            .filter(|text| !text.starts_with("error while executing at wasm backtrace"))
            .collect();
        invalid(
            ModuleProblemKind::Initialization,
            "init",
            format!("`init: snapshot` cannot be done: {}", escape_untrusted(&said.join(": "), 512)),
        )
    })
}

fn of_module(bytes: &[u8], code: &CodeConfig) -> wasmtime::Result<Vec<u8>> {
    let engine = engine(code)?;
    Module::validate(&engine, bytes)?;
    let wizer = wizer();
    let (context, instrumented) = wizer.instrument(bytes)?;
    let module = Module::new(&engine, &instrumented)?;
    let is_initialiser = |name: &&str| matches!(module.get_export(name), Some(ExternType::Func(_)));
    let initialisers: Vec<&str> = INITIALISERS.into_iter().filter(is_initialiser).collect();
    if module.get_export("_start").is_some() {
        wasmtime::bail!("a command is initialised by its `_start`, each time; export `process` instead");
    }
    let has_start =
        Parser::new(0).parse_all(bytes).any(|payload| matches!(payload, Ok(Payload::StartSection { .. })));
    if initialisers.is_empty() && !has_start {
        wasmtime::bail!(
            "the module has nothing that initialises it: no `_initialize`, no `init`, no start function"
        );
    }
    let mut store = store(&engine)?;
    let instance = linker(&engine, &module)?.instantiate(&mut store, &module)?;
    for name in &initialisers {
        let function = instance.get_typed_func::<(), ()>(&mut store, name)?;
        function.call(&mut store, ())?;
    }
    refuse_shortage(&store)?;
    block_on(wizer.snapshot(&context, &mut ModuleState { store: &mut store, instance }))?
}

fn of_component(bytes: &[u8], code: &CodeConfig) -> wasmtime::Result<Vec<u8>> {
    let engine = engine(code)?;
    let wizer = wizer();
    let (context, instrumented) = wizer.instrument_component(bytes)?;
    let component = Component::new(&engine, &instrumented)?;
    let mut linker = ComponentLinker::new(&engine);
    linker.define_unknown_imports_as_traps(&component)?;
    let mut store = store(&engine)?;
    // That runs the `_initialize` of the modules inside it.
    let instance = linker.instantiate(&mut store, &component)?;
    if let Some(function) = instance.get_func(&mut store, "init") {
        function.typed::<(), ()>(&store)?.call(&mut store, ())?;
    }
    // What reads the state are functions that were put in, and they take a page of each memory for their answers.
    refuse_shortage(&store)?;
    store.data_mut().limits.raise(ByteCount(u64::MAX));
    store.set_fuel(u64::MAX)?;
    store.set_hostcall_fuel(usize::MAX);
    let mut state = ComponentState { store: &mut store, instance, memories: HashMap::new(), failed: None };
    let snapshot = block_on(wizer.snapshot_component(&context, &mut state))??;
    match state.failed {
        Some(error) => Err(error),
        None => Ok(snapshot),
    }
}

fn wizer() -> Wizer {
    let mut wizer = Wizer::new();
    // Removing exports of a component would change the numbers of others.
    wizer.init_func("init").keep_init_func(true);
    wizer
}

/// For code that runs once: soon made, and with no address space reserved, of which the compiling process has little.
fn engine(code: &CodeConfig) -> wasmtime::Result<Engine> {
    let mut config = CodeConfig { tier: Tier::Optimized, ..*code }.engine();
    config
        .cranelift_opt_level(OptLevel::None)
        .consume_fuel(true)
        .memory_reservation(0)
        .memory_guard_size(0)
        .memory_reservation_for_growth(0);
    Engine::new(&config)
}

fn store(engine: &Engine) -> wasmtime::Result<Store<Initialization>> {
    let share = MemoryShare::of(Arc::new(MemoryBudget::new(ByteCount(u64::MAX))));
    let limits = ExecutionLimiter::new(MAX_INIT_MEMORY, EngineConfig::default().table_elements, share);
    let mut store = Store::new(engine, Initialization { limits });
    store.limiter(|initialization| &mut initialization.limits);
    store.set_fuel(MAX_INIT_FUEL)?;
    // There is no ticker: this engine's epoch stays where it is.
    store.set_epoch_deadline(1);
    Ok(store)
}

/// What went on with less memory than it wanted is not what was asked for.
fn refuse_shortage(store: &Store<Initialization>) -> wasmtime::Result<()> {
    match store.data().limits.refused() {
        Some(shortage) => Err(wasmtime::Error::msg(format!("it could not grow: it needs more {shortage}"))),
        None => Ok(()),
    }
}

fn linker(engine: &Engine, module: &Module) -> wasmtime::Result<Linker<Initialization>> {
    let mut linker = Linker::new(engine);
    // A module may import one function several times.
    linker.allow_shadowing(true);
    linker.func_wrap("mentat", "log", |_: i32, _: i32, _: i32| ())?;
    for import in module.imports() {
        let (from, name) = (import.module().to_owned(), import.name().to_owned());
        let Some(kind) = import.ty().func().cloned() else { continue };
        if from == "mentat" && name == "log" {
            continue;
        }
        let harmless =
            HARMLESS.iter().find(|(known, _)| *known == name && CORE_WASI.contains(&from.as_str()));
        let answer = harmless.map(|(_, answer)| *answer);
        let label = format!("{from}.{name}");
        linker.func_new(&from, &name, kind, move |caller, arguments, results| match answer {
            Some(answer) => give(answer, caller, arguments, results),
            None => Err(wasmtime::Error::msg(format!(
                "initialisation called `{label}`: it runs once for all executions, and may see no input, randomness, time or \
                 anything else of the host's; leave that to `process`"
            ))),
        })?;
    }
    Ok(linker)
}

fn give(
    answer: Answer,
    mut caller: Caller<'_, Initialization>,
    arguments: &[Val],
    results: &mut [Val],
) -> wasmtime::Result<()> {
    let errno = match answer {
        Answer::Errno(errno) => errno,
        Answer::Sizes => {
            let memory = caller.get_export("memory").and_then(wasmtime::Extern::into_memory);
            let memory = memory.ok_or_else(|| wasmtime::Error::msg("the module exports no memory"))?;
            for pointer in arguments.iter().filter_map(Val::i32) {
                memory.write(&mut caller, usize::try_from(pointer.cast_unsigned())?, &[0; 4])?;
            }
            0
        }
    };
    if let Some(result) = results.first_mut() {
        *result = Val::I32(errno);
    }
    Ok(())
}

/// Refuses what the library for snapshots has no errors for: inside components, tags that are imported, and modules that
/// have state and export nothing.
fn prescan(component: &[u8]) -> wasmtime::Result<()> {
    let (mut has_state, mut has_exports) = (false, false);
    for payload in Parser::new(0).parse_all(component) {
        match payload? {
            Payload::Version { .. } => (has_state, has_exports) = (false, false),
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    if matches!(import?.ty, TypeRef::Tag(_) | TypeRef::FuncExact(_)) {
                        wasmtime::bail!("a module inside it imports a tag, or a function of an exact type");
                    }
                }
            }
            Payload::MemorySection(_) | Payload::GlobalSection(_) => has_state = true,
            Payload::ExportSection(_) => has_exports = true,
            Payload::End(_) if has_state && !has_exports => {
                wasmtime::bail!("a module inside it has a memory, and exports nothing");
            }
            _ => {}
        }
    }
    Ok(())
}

/// What the library waits for is ready at once.
fn block_on<T>(future: impl Future<Output = T>) -> wasmtime::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    Ok(runtime.block_on(future))
}

/// Reads the state of a core module by exports that were put in.
struct ModuleState<'a> {
    store: &'a mut Store<Initialization>,
    instance: Instance,
}

impl InstanceState for ModuleState<'_> {
    async fn global_get(&mut self, name: &str, _: ValType) -> SnapshotVal {
        let value =
            self.instance.get_global(&mut *self.store, name).map(|global| global.get(&mut *self.store));
        match value {
            Some(Val::I32(value)) => SnapshotVal::I32(value),
            Some(Val::I64(value)) => SnapshotVal::I64(value),
            Some(Val::F32(bits)) => SnapshotVal::F32(bits),
            Some(Val::F64(bits)) => SnapshotVal::F64(bits),
            Some(Val::V128(value)) => SnapshotVal::V128(value.as_u128()),
            // Modules with other globals that can change are refused before they are instrumented.
            _ => SnapshotVal::I32(0),
        }
    }

    async fn memory_contents(&mut self, name: &str, contents: impl FnOnce(&[u8]) + Send) {
        match self.instance.get_memory(&mut *self.store, name) {
            Some(memory) => contents(memory.data(&self.store)),
            None => contents(&[]),
        }
    }
}

/// Reads the state of a component by functions that were put in.
struct ComponentState<'a> {
    store: &'a mut Store<Initialization>,
    instance: ComponentInstance,
    /// What each memory held when it was first asked for: asking makes it grow.
    memories: HashMap<String, Vec<u8>>,
    /// Why something could not be read; the snapshot is of no use then.
    failed: Option<wasmtime::Error>,
}

impl ComponentState<'_> {
    fn read<R, T>(
        &mut self,
        instance: &str,
        function: &str,
        used: impl FnOnce(&Store<Initialization>, R) -> T,
    ) -> Option<T>
    where
        R: Lift + 'static,
    {
        let Self { store, instance: component, .. } = self;
        let mut read = || {
            let missing = || wasmtime::Error::msg(format!("`{instance}.{function}` is missing"));
            let (_, instance) = component.get_export(&mut **store, None, instance).ok_or_else(missing)?;
            let (_, function) =
                component.get_export(&mut **store, Some(&instance), function).ok_or_else(missing)?;
            let function = component.get_typed_func::<(), (R,)>(&mut **store, function)?;
            function.call(&mut **store, ())
        };
        match read() {
            Ok((value,)) => Some(used(store, value)),
            Err(error) => {
                self.failed.get_or_insert_with(|| {
                    error.context("its state cannot be read; a memory may be at its maximum")
                });
                None
            }
        }
    }
}

impl ComponentInstanceState for ComponentState<'_> {
    async fn call_func_ret_list_u8(
        &mut self,
        instance: &str,
        function: &str,
        contents: impl FnOnce(&[u8]) + Send,
    ) {
        let name = format!("{instance}.{function}");
        if !self.memories.contains_key(&name) {
            let held =
                self.read(instance, function, |store, bytes: WasmList<u8>| bytes.as_le_slice(store).to_vec());
            self.memories.insert(name.clone(), held.unwrap_or_default());
        }
        contents(self.memories.get(&name).map_or(&[], Vec::as_slice));
    }

    async fn call_func_ret_s32(&mut self, instance: &str, function: &str) -> i32 {
        self.read(instance, function, |_, value| value).unwrap_or_default()
    }

    async fn call_func_ret_s64(&mut self, instance: &str, function: &str) -> i64 {
        self.read(instance, function, |_, value| value).unwrap_or_default()
    }

    async fn call_func_ret_f32(&mut self, instance: &str, function: &str) -> u32 {
        self.read(instance, function, |_, value: f32| value.to_bits()).unwrap_or_default()
    }

    async fn call_func_ret_f64(&mut self, instance: &str, function: &str) -> u64 {
        self.read(instance, function, |_, value: f64| value.to_bits()).unwrap_or_default()
    }
}
