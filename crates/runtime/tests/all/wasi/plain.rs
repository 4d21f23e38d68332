//! Wasmtime with its own WASI and nothing else: what a guest gets where nobody stands between.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, OnceLock};

use wasmtime::component::{Component, Linker as ComponentLinker, ResourceTable};
use wasmtime::{Engine, Linker, Module, Store};
use wasmtime_wasi::p1::{self, WasiP1Ctx};
use wasmtime_wasi::p2::bindings::{Command, CommandPre};
use wasmtime_wasi::p2::pipe::{MemoryInputPipe, MemoryOutputPipe};
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView, p0, p2};

use super::calls::{Shape, guest};

/// Code of the guest in each shape.
enum Code {
    Core(Module),
    Component(Component),
}

struct State {
    context: WasiCtx,
    table: ResourceTable,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.context, table: &mut self.table }
    }
}

fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(Engine::default)
}

fn with_code<T>(shape: Shape, then: impl FnOnce(&Code) -> T) -> T {
    static CODE: OnceLock<Mutex<HashMap<Shape, Code>>> = OnceLock::new();
    let mut code = CODE.get_or_init(Mutex::default).lock().unwrap();
    then(code.entry(shape).or_insert_with(|| {
        let guest = guest(shape);
        match shape {
            Shape::Component => Code::Component(Component::new(engine(), guest).unwrap()),
            Shape::Preview1 | Shape::Preview0 => Code::Core(Module::new(engine(), guest).unwrap()),
        }
    }))
}

/// Runs the guest with a directory at `/data`; its output.
pub async fn run(
    shape: Shape,
    directory: &Path,
    access: FsPerms,
    env: &[(String, String)],
    input: Vec<u8>,
) -> Vec<u8> {
    let output = MemoryOutputPipe::new(64 << 20);
    let mut context = WasiCtxBuilder::new();
    context.stdin(MemoryInputPipe::new(input)).stdout(output.clone());
    context.preopened_dir(directory, "/data", access).unwrap();
    for (name, value) in env {
        context.env(name, value);
    }
    enum Linked {
        Core(wasmtime::InstancePre<WasiP1Ctx>),
        Component(wasmtime::component::InstancePre<State>),
    }
    let linked = with_code(shape, |code| match code {
        Code::Core(module) => {
            let mut linker = Linker::new(engine());
            match shape {
                Shape::Preview0 => p0::add_to_linker_async(&mut linker, |state| state).unwrap(),
                _ => p1::add_to_linker_async(&mut linker, |state| state).unwrap(),
            }
            Linked::Core(linker.instantiate_pre(module).unwrap())
        }
        Code::Component(component) => {
            let mut linker = ComponentLinker::new(engine());
            p2::add_to_linker_async(&mut linker).unwrap();
            Linked::Component(linker.instantiate_pre(component).unwrap())
        }
    });
    match linked {
        Linked::Core(linked) => {
            let mut store = Store::new(engine(), context.build_p1());
            let instance = linked.instantiate_async(&mut store).await.unwrap();
            let start = instance.get_typed_func::<(), ()>(&mut store, "_start").unwrap();
            start.call_async(&mut store, ()).await.unwrap();
        }
        Linked::Component(linked) => {
            let state = State { context: context.build(), table: ResourceTable::new() };
            let mut store = Store::new(engine(), state);
            let command = CommandPre::new(linked).unwrap();
            let command: Command = command.instantiate_async(&mut store).await.unwrap();
            command.wasi_cli_run().call_run(&mut store).await.unwrap().unwrap();
        }
    }
    output.contents().to_vec()
}
