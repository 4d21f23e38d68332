//! `mentat serve`: the service. Gathers its configuration, opens its doors, and ends it when asked.

use std::process::ExitCode;

use mentat_runtime::Compiler;
use mentat_runtime::error::{Error, Reason};
use mentat_server::app::App;
use mentat_server::config::{ServerConfig, Sources};
use mentat_server::telemetry;
use rustix::process::{Resource, Rlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::args::ServeArguments;
use crate::environment;
use crate::output::{self, Failure};

pub(crate) fn run(arguments: &ServeArguments) -> Result<ExitCode, Failure> {
    let config =
        ServerConfig::load(&sources(arguments)).map_err(|error| Failure::invalid(error.to_string()))?;
    if arguments.print_config {
        let text = config.print().map_err(|error| Error::internal("writing the configuration", error))?;
        output::write_stdout(text.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    telemetry::init_logging(&config.log);
    use_small_pages();
    let program = environment::this_program()
        .map_err(|error| Failure::system("finding this program, which compiles modules", &error))?;
    raise_open_files();
    let threads = doors()?;
    let ended = threads.block_on(serve(&config, Compiler::Child(program)));
    // Whatever is still busy after the grace that the configuration gives is cut off.
    threads.shutdown_background();
    ended
}

/// The threads of the doors: two for each core, on which executions may begin, since the system can put one aside in the
/// middle of that; and one that never has a guest on it.
fn doors() -> Result<tokio::runtime::Runtime, Failure> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.saturating_mul(2).saturating_add(1))
        .thread_name("mentat-door")
        .enable_all()
        .build()
        .map_err(|error| Failure::system("starting threads", &error))
}

/// Has memory in pages of the usual size, and not in those of two megabytes that the system gives where it can: of ten
/// thousand guests, each that touches a few kilobytes would have a page of its own.
fn use_small_pages() {
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!(%error, "cannot do without huge pages; more memory is resident than is used");
    }
}

/// Takes all the files that the system lets this process open; many systems begin with a thousand, for programs of
/// another age, and every connection is one.
fn raise_open_files() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let all = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = rustix::process::setrlimit(Resource::Nofile, all) {
        tracing::warn!(%error, "cannot raise the number of open files");
    }
}

async fn serve(config: &ServerConfig, compiler: Compiler) -> Result<ExitCode, Failure> {
    let (mut first, mut second) = (Signals::new()?, Signals::new()?);
    let app = App::start(config, compiler).await?;
    // Programs that start a server wait for this line and read the addresses out of it.
    output::write_stderr(&format!("mentat is ready: grpc={} http={}\n", app.grpc_addr(), app.http_addr()));
    tokio::select! {
        () = app.run_until(first.next()) => Ok(ExitCode::SUCCESS),
        () = async { second.next().await; second.next().await } => {
            tracing::warn!("ended by a second signal");
            Ok(ExitCode::from(Reason::Cancelled.exit_code()))
        }
    }
}

/// The flags as the strongest layer; those with names of their own are stronger than `--set`.
fn sources(arguments: &ServeArguments) -> Sources {
    let mut flags = arguments.settings.clone();
    let named = [
        ("server.grpc_listen", arguments.grpc.clone()),
        ("server.http_listen", arguments.http.clone()),
        ("server.data_dir", arguments.data_dir.as_ref().map(|path| path.display().to_string())),
        ("server.insecure", arguments.insecure.then(|| "true".to_owned())),
    ];
    flags.extend(named.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))));
    Sources { file: arguments.config.clone(), flags }
}

/// The signals that ask the service to end.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(|error| Failure::system("listening for signals", &error));
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
