//! `mentat run`: one agent, once, in this process, with the powers that the user gives.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mentat_manifest::{Capability, Manifest};
use mentat_runtime::error::Error;
use mentat_runtime::events::{BackPressure, EventBuffer, EventLimits, EventReader, EventRoom, RoomLimits};
use mentat_runtime::model::{ExecutionId, Invocation, Outcome};
use mentat_runtime::security::offers::Mount;
use mentat_runtime::security::policy::{Grant, Rules, UserPowers};
use mentat_runtime::security::secret::Secret;
use mentat_runtime::{CodeOrigin, ModuleInfo, Preparation, Runtime, Shape};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::telling::{Teller, Telling};
use crate::args::RunArguments;
use crate::environment;
use crate::files;
use crate::local;
use crate::output::{Failure, Stop};
use crate::progress;
use crate::report::{ExecutionReport, UsageReport};
use crate::source::AgentSource;
use crate::values::MediaDirectory;

/// Bytes of events that wait for a terminal at most.
const ROOM: RoomLimits =
    RoomLimits { tenant_bytes: 64 << 20, total_bytes: 64 << 20, retention: Duration::ZERO };

pub(crate) fn run(arguments: &RunArguments) -> Result<ExitCode, Failure> {
    let agent = AgentSource::open_or_pull(&arguments.agent, &arguments.registry)?;
    let rules = Rules::default();
    let powers = powers(arguments, &agent)?;
    let grant = rules.decide_for_user(agent.manifest(), &arguments.limits.request(), powers)?;
    let input = files::read_input(arguments.input.input.as_ref(), rules.max_input)?;
    let media = arguments.media.as_ref().map(|media| media.directory.as_path());
    let runtime = local::executing(grant.limits().memory_bytes, arguments.cache_dir.as_deref(), media)?;

    let telling = Telling::of(arguments.stream.stream, arguments.json.json);
    let execution_id = ExecutionId::new();
    let threads = super::threads()?;
    let (outcome, origin, stop) = threads.block_on(async {
        tokio::select! {
            // Asked first: Ctrl-C ends the compiling child as well, which is not then the module's fault.
            biased;
            () = super::interrupted() => (Outcome::failed(Error::Cancelled), None, None),
            ended = execute(&runtime, &agent, &grant, execution_id, input, telling) => ended,
        }
    });
    // A host call that is stuck in the file system must not keep a cancelled run from ending.
    threads.shutdown_background();

    match stop {
        // As with any result: `mentat … | head` is fine.
        Some(Stop::Unread) => return Ok(ExitCode::SUCCESS),
        Some(Stop::Failed(failure)) => return Err(failure),
        None => {}
    }
    let compile = match origin {
        Some(CodeOrigin::Compiled(duration)) => Some(duration),
        _ => None,
    };
    let report = ExecutionReport {
        execution_id: execution_id.to_string(),
        agent: agent.manifest().map(|manifest| manifest.id.to_string()),
        version: agent.manifest().map(|manifest| manifest.version.to_string()),
        runtime: None,
        usage: origin.map(|_| UsageReport::local(&outcome.usage, compile)),
        result: match outcome.result {
            Ok(answer) => Ok((answer.output, answer.exit_code)),
            Err(error @ Error::InvalidModule { .. }) => Err(Failure::from(error).in_file(&agent.module_path)),
            Err(error) => Err(error.into()),
        },
        logs: outcome.logs.into_iter().map(Into::into).collect(),
        logs_dropped: outcome.logs_dropped,
    };
    report.write(arguments.json.json)
}

async fn execute(
    runtime: &Arc<Runtime>,
    agent: &AgentSource,
    grant: &Grant,
    execution_id: ExecutionId,
    input: Bytes,
    telling: Telling,
) -> (Outcome, Option<CodeOrigin>, Option<Stop>) {
    let init = agent.manifest().and_then(Manifest::init);
    let how = Preparation { metering: grant.limits().metering, init };
    let load = runtime.load(agent.module.clone(), how);
    let loaded = match progress::spoken_of("compiling the module", load).await {
        Ok(loaded) => loaded,
        Err(error) => return (Outcome::failed(error), None, None),
    };
    let events = Arc::new(EventBuffer::alone(event_limits(grant), Arc::new(EventRoom::new(ROOM))));
    let invocation = Invocation { execution_id, events: Some(Arc::clone(&events)), ..Invocation::new(input) };
    let cancel = invocation.cancel.clone();
    let printer = (telling != Telling::Nothing).then(|| print(events.read_from(0), telling, cancel));
    let mut outcome = runtime.execute(&loaded.module, grant, invocation).await;
    events.close();
    let mut stop = None;
    if let Some(printer) = printer
        // It ends when it has written the last event.
        && let Ok(mut teller) = printer.await
    {
        if let Ok(answer) = &mut outcome.result {
            answer.output = teller.untold(&answer.output);
        }
        outcome.logs.clear();
        stop = teller.stop();
    }
    (outcome, Some(loaded.origin), stop)
}

/// What is kept for a terminal that is slower than the agent: all log lines that it may write, and some chunks, whose
/// writer then waits.
fn event_limits(grant: &Grant) -> EventLimits {
    let lines = usize::try_from(grant.limits().log_lines).unwrap_or(usize::MAX);
    EventLimits {
        bytes: ROOM.total_bytes,
        count: lines.saturating_add(EventLimits::default().count),
        back_pressure: BackPressure::Block(Duration::MAX),
    }
}

/// Tells what is said as it comes, on a thread of its own: a terminal that is held must not stop the guest's clock for what
/// does not wait for it.
///
/// Where it cannot be written, the agent works for nobody, and is ended.
fn print(mut events: EventReader, telling: Telling, cancel: CancellationToken) -> JoinHandle<Teller> {
    let threads = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || {
        let mut teller = Teller::new(telling);
        while let Some(delivery) = threads.block_on(events.next()) {
            if !teller.tell(&delivery) {
                cancel.cancel();
                break;
            }
        }
        teller
    })
}

/// What the user gives beyond the manifest; refused where the module could never see it.
fn powers(arguments: &RunArguments, agent: &AgentSource) -> Result<UserPowers, Failure> {
    let media = arguments.media.iter().flat_map(MediaDirectory::allowed);
    let powers = UserPowers {
        mounts: arguments.mounts.clone(),
        env: arguments.env.clone(),
        secrets: secrets(&arguments.secrets)?,
        extensions: arguments.extensions.iter().cloned().collect(),
        args: arguments.args.clone(),
        allow: arguments.allow.iter().cloned().chain(media).collect(),
    };
    if powers == UserPowers::default() {
        return Ok(powers);
    }
    let info = ModuleInfo::read(&agent.module)?;
    let name = agent.module_path.display();
    let is_command = matches!(info.shape, Some(Shape::WasiCommand | Shape::CommandComponent));
    if let (false, Some(shape)) = (is_command || powers.args.is_empty(), info.shape) {
        return Err(Failure::invalid(format!(
            "`{name}` is a {shape} and cannot see the arguments after `--`, which are for WASI commands; give it \
             its input with --input"
        )));
    }
    let gives = UserPowers { args: Vec::new(), ..powers.clone() } != UserPowers::default();
    if gives && !info.uses_wasi() && !info.asks_for_capabilities() {
        return Err(Failure::invalid(format!(
            "`{name}` imports nothing from WASI and no `request_capability`, so it cannot use what --mount, --env, \
             --secret, --extension, --media and --allow give"
        )));
    }
    check_mounts(&powers.mounts)?;
    if let Some(media) = arguments.media.as_ref().filter(|media| !media.directory.is_dir()) {
        let directory = media.directory.display();
        return Err(Failure::invalid(format!("--media: `{directory}` is no directory of this machine")));
    }
    Ok(powers)
}

/// The values of secrets, from the variables of their names.
fn secrets(asked: &[(String, String)]) -> Result<BTreeMap<String, Secret>, Failure> {
    let mut secrets = BTreeMap::new();
    for (name, hosts) in asked {
        let wrong = |what: &str| Failure::invalid(format!("--secret {name}: {what}"));
        format!("secret:{name}").parse::<Capability>().map_err(|error| wrong(&error.to_string()))?;
        let value = environment::secret(name).ok_or_else(|| {
            wrong("its value is taken from the environment variable of that name, which is not set")
        })?;
        let hosts: Vec<String> = hosts.split(',').map(str::to_owned).collect();
        let secret = Secret::new(value, &hosts).map_err(|error| wrong(&error.to_string()))?;
        if secrets.insert(name.clone(), secret).is_some() {
            return Err(wrong("it is given twice"));
        }
    }
    Ok(secrets)
}

fn check_mounts(mounts: &[Mount]) -> Result<(), Failure> {
    for (index, mount) in mounts.iter().enumerate() {
        let host = mount.host.display();
        if !mount.host.exists() {
            return Err(Failure::invalid(format!("--mount: the host's directory `{host}` does not exist")));
        }
        if !mount.host.is_dir() {
            return Err(Failure::invalid(format!(
                "--mount: `{host}` is not a directory; mount the directory that it is in"
            )));
        }
        if mounts.iter().take(index).any(|other| other.guest == mount.guest) {
            return Err(Failure::invalid(format!("--mount: `{}` is mounted twice", mount.guest)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Arguments, Verb};

    const CORE: &str =
        r#"(module (memory (export "memory") 1) (func (export "process") (result i32) i32.const 0))"#;
    const COMMAND: &str = r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))
        (memory (export "memory") 1) (func (export "_start")))"#;

    fn powers_of(module: &str, options: &[&str]) -> Result<UserPowers, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.wasm");
        std::fs::write(&path, wat::parse_str(module).unwrap()).unwrap();
        let start = ["mentat", "run", path.to_str().unwrap()];
        let words = start.iter().chain(options);
        let Verb::Run(arguments) = Arguments::try_parse_from(words).unwrap().verb else { panic!("not run") };
        powers(&arguments, &AgentSource::open(&path).unwrap()).map_err(|failure| failure.to_string())
    }

    #[test]
    fn a_wasi_command_gets_what_the_user_gives() {
        let given = powers_of(COMMAND, &["--mount", "/:/r:rw", "--env", "A=b", "--", "-x", "y"]).unwrap();
        assert_eq!(given.args, ["-x", "y"]);
        assert_eq!(given.env, [("A".to_owned(), "b".to_owned())]);
        assert_eq!(given.mounts.len(), 1);
    }

    #[test]
    fn powers_that_a_module_could_never_see_are_refused() {
        for (options, says) in [
            (vec!["--", "x"], "--input"),
            (vec!["--env", "A=b"], "imports nothing from WASI"),
            (vec!["--mount", "/:/r"], "imports nothing from WASI"),
        ] {
            let error = powers_of(CORE, &options).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
        assert_eq!(powers_of(CORE, &[]), Ok(UserPowers::default()));
    }

    #[test]
    fn a_mount_must_be_a_directory_that_is_there_and_its_place_free() {
        for (options, says) in [
            (vec!["--mount", "/nowhere/at/all:/r"], "does not exist"),
            (vec!["--mount", "/dev/null:/r"], "not a directory"),
            (vec!["--mount", "/:/r", "--mount", "/dev:/r"], "mounted twice"),
        ] {
            let error = powers_of(COMMAND, &options).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }
}
