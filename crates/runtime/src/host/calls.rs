//! Counting what a guest calls, by kind. The `mentat` functions count themselves; those of WASI, which are Wasmtime's, are
//! counted where each of them fetches the state that it works on.
//!
//! Invariant: every call counts once, before it does anything, and none is left out: what has no kind of its own counts
//! as `wasi_other`.

use wasmtime::Linker;
use wasmtime::component::{self, HasData, ResourceTable};
use wasmtime_wasi::WasiCtxView;
use wasmtime_wasi::cli::{WasiCli, WasiCliCtxView};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksCtxView};
use wasmtime_wasi::p0::wasi_unstable;
use wasmtime_wasi::p1::wasi_snapshot_preview1 as preview1;
use wasmtime_wasi::p2::bindings::{cli, clocks, random, sockets};
use wasmtime_wasi::random::{WasiRandom, WasiRandomCtx};
use wasmtime_wasi::sockets::{WasiSockets, WasiSocketsCtxView};
use wasmtime_wasi_io::bindings::wasi::io::{error, streams};

use super::context::HostContext;
use crate::model::HostCallKind;

/// The module name of WASI 0.1's forerunner, which old toolchains still emit.
const WASI_PREVIEW0: &str = "wasi_unstable";
/// The module name of WASI 0.1.
const WASI_PREVIEW1: &str = "wasi_snapshot_preview1";
/// The module names of both.
pub(crate) const CORE_WASI: [&str; 2] = [WASI_PREVIEW0, WASI_PREVIEW1];
/// What is put behind the names of those modules while their functions are sorted. No module can import from there.
const SORTED: &str = " (sorted)";

/// The functions of WASI 0.1 by kind, without `proc_exit`, which is ours.
const PREVIEW1: &[(HostCallKind, &[&str])] = &[
    (
        HostCallKind::WasiFiles,
        &[
            "fd_advise",
            "fd_allocate",
            "fd_close",
            "fd_datasync",
            "fd_fdstat_get",
            "fd_fdstat_set_flags",
            "fd_fdstat_set_rights",
            "fd_filestat_get",
            "fd_filestat_set_size",
            "fd_filestat_set_times",
            "fd_pread",
            "fd_prestat_dir_name",
            "fd_prestat_get",
            "fd_pwrite",
            "fd_read",
            "fd_readdir",
            "fd_renumber",
            "fd_seek",
            "fd_sync",
            "fd_tell",
            "fd_write",
            "path_create_directory",
            "path_filestat_get",
            "path_filestat_set_times",
            "path_link",
            "path_open",
            "path_readlink",
            "path_remove_directory",
            "path_rename",
            "path_symlink",
            "path_unlink_file",
        ],
    ),
    (HostCallKind::WasiPoll, &["poll_oneoff", "sched_yield"]),
    (HostCallKind::WasiClocks, &["clock_res_get", "clock_time_get"]),
    (HostCallKind::WasiRandom, &["random_get"]),
    (HostCallKind::WasiEnvironment, &["args_get", "args_sizes_get", "environ_get", "environ_sizes_get"]),
    (HostCallKind::WasiSockets, &["sock_accept", "sock_recv", "sock_send", "sock_shutdown"]),
];

/// Offers WASI 0.1 and its forerunner to core modules.
pub(super) fn add_wasi(linker: &mut Linker<HostContext>) -> wasmtime::Result<()> {
    // A linker takes all functions of a module with one way to their state. So they are put in once for each kind, each
    // time those of the kind are set aside, and in the end all are put where they belong.
    linker.allow_shadowing(true);
    for (kind, names) in PREVIEW1 {
        add_counted(linker, *kind)?;
        for (module, name) in offered(names) {
            linker.alias(module, name, &format!("{module}{SORTED}"), name)?;
        }
    }
    add_counted(linker, HostCallKind::WasiOther)?;
    for (_, names) in PREVIEW1 {
        for (module, name) in offered(names) {
            linker.alias(&format!("{module}{SORTED}"), name, module, name)?;
        }
    }
    linker.allow_shadowing(false);
    Ok(())
}

/// Whether a module name is one that only the linker knows.
pub(super) fn is_hidden(module: &str) -> bool {
    module.ends_with(SORTED)
}

fn add_counted(linker: &mut Linker<HostContext>, kind: HostCallKind) -> wasmtime::Result<()> {
    preview1::add_to_linker(linker, move |context: &mut HostContext| {
        context.calls.count(kind);
        context.preview1()
    })?;
    wasi_unstable::add_to_linker(linker, move |context: &mut HostContext| {
        context.calls.count(kind);
        context.preview1()
    })
}

/// What there is of these names: the forerunner has all but one.
fn offered(names: &'static [&'static str]) -> impl Iterator<Item = (&'static str, &'static str)> {
    let all = CORE_WASI.into_iter().flat_map(move |module| names.iter().map(move |name| (module, *name)));
    all.filter(|(module, name)| *module == WASI_PREVIEW1 || *name != "sock_accept")
}

struct HasTable;

impl HasData for HasTable {
    type Data<'a> = &'a mut ResourceTable;
}

/// Puts counted functions in the place of WASI 0.2's, but for files, polling and HTTP, which are counted where they are
/// guarded.
pub(super) fn count_wasi(linker: &mut component::Linker<HostContext>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    clocks::wall_clock::add_to_linker::<_, WasiClocks>(linker, wasi_clocks)?;
    clocks::monotonic_clock::add_to_linker::<_, WasiClocks>(linker, wasi_clocks)?;
    random::random::add_to_linker::<_, WasiRandom>(linker, wasi_random)?;
    random::insecure::add_to_linker::<_, WasiRandom>(linker, wasi_random)?;
    random::insecure_seed::add_to_linker::<_, WasiRandom>(linker, wasi_random)?;
    cli::exit::add_to_linker::<_, WasiCli>(linker, |context| wasi_cli(context, HostCallKind::WasiExit))?;
    cli::environment::add_to_linker::<_, WasiCli>(linker, wasi_environment)?;
    cli::stdin::add_to_linker::<_, WasiCli>(linker, wasi_environment)?;
    cli::stdout::add_to_linker::<_, WasiCli>(linker, wasi_environment)?;
    cli::stderr::add_to_linker::<_, WasiCli>(linker, wasi_environment)?;
    cli::terminal_input::add_to_linker::<_, WasiCli>(linker, wasi_environment)?;
    cli::terminal_output::add_to_linker::<_, WasiCli>(linker, wasi_environment)?;
    cli::terminal_stdin::add_to_linker::<_, WasiCli>(linker, wasi_environment)?;
    cli::terminal_stdout::add_to_linker::<_, WasiCli>(linker, wasi_environment)?;
    cli::terminal_stderr::add_to_linker::<_, WasiCli>(linker, wasi_environment)?;
    error::add_to_linker::<_, HasTable>(linker, wasi_streams)?;
    streams::add_to_linker::<_, HasTable>(linker, wasi_streams)?;
    sockets::instance_network::add_to_linker::<_, WasiSockets>(linker, wasi_sockets)?;
    sockets::network::add_to_linker::<_, WasiSockets>(
        linker,
        &sockets::network::LinkOptions::default(),
        wasi_sockets,
    )?;
    sockets::ip_name_lookup::add_to_linker::<_, WasiSockets>(linker, wasi_sockets)?;
    sockets::tcp::add_to_linker::<_, WasiSockets>(linker, wasi_sockets)?;
    sockets::tcp_create_socket::add_to_linker::<_, WasiSockets>(linker, wasi_sockets)?;
    sockets::udp::add_to_linker::<_, WasiSockets>(linker, wasi_sockets)?;
    sockets::udp_create_socket::add_to_linker::<_, WasiSockets>(linker, wasi_sockets)?;
    linker.allow_shadowing(false);
    Ok(())
}

fn wasi_clocks(context: &mut HostContext) -> WasiClocksCtxView<'_> {
    let WasiCtxView { ctx, table } = context.wasi(HostCallKind::WasiClocks);
    WasiClocksCtxView { ctx: ctx.clocks(), table }
}

fn wasi_random(context: &mut HostContext) -> &mut WasiRandomCtx {
    context.wasi(HostCallKind::WasiRandom).ctx.random()
}

fn wasi_environment(context: &mut HostContext) -> WasiCliCtxView<'_> {
    wasi_cli(context, HostCallKind::WasiEnvironment)
}

fn wasi_cli(context: &mut HostContext, kind: HostCallKind) -> WasiCliCtxView<'_> {
    let WasiCtxView { ctx, table } = context.wasi(kind);
    WasiCliCtxView { ctx: ctx.cli(), table }
}

fn wasi_streams(context: &mut HostContext) -> &mut ResourceTable {
    context.wasi(HostCallKind::WasiStreams).table
}

fn wasi_sockets(context: &mut HostContext) -> WasiSocketsCtxView<'_> {
    let WasiCtxView { ctx, table } = context.wasi(HostCallKind::WasiSockets);
    WasiSocketsCtxView { ctx: ctx.sockets(), table }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::api::HostInterface;

    #[test]
    fn every_function_of_wasi_has_its_kind_and_only_what_is_there_has_one() {
        let engine = wasmtime::Engine::default();
        let offered = HostInterface::new(&engine).unwrap().core_imports;
        let known = |name: &str| PREVIEW1.iter().any(|(_, names)| names.contains(&name));
        for (module, name) in offered.keys().filter(|(module, _)| module.starts_with("wasi")) {
            // One ends the guest, the other there is no more.
            let is_other = matches!(name.as_str(), "proc_exit" | "proc_raise");
            assert!(known(name) != is_other, "{module} {name}");
        }
        assert!(offered.keys().all(|(module, _)| !is_hidden(module)));
    }
}
