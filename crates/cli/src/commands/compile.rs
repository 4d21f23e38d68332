//! `mentat compile`: the child process in which modules are compiled. Starts fast, without threads or
//! logging. What starts it relies on its exit code and on stderr holding the message alone.

use std::fs::File;
use std::io::{self, Read};
use std::process::ExitCode;

use mentat_manifest::{ByteCount, Init};
use mentat_runtime::error::{Error, Reason};
use mentat_runtime::{CodeConfig, CompileRequest, Priority, Tier, compile_here};

use crate::args::{CompileArguments, TierArgument};
use crate::output;

pub(crate) fn run(arguments: &CompileArguments) -> ExitCode {
    match compile(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err((reason, message)) => {
            output::write_stderr(&format!("{message}\n"));
            ExitCode::from(reason.exit_code())
        }
    }
}

fn compile(arguments: &CompileArguments) -> Result<(), (Reason, String)> {
    let request = CompileRequest {
        code: CodeConfig {
            tier: match arguments.tier {
                TierArgument::Baseline => Tier::Baseline,
                TierArgument::Optimized => Tier::Optimized,
            },
            metering: arguments.metering.into(),
            stack: ByteCount(arguments.stack),
            memory_reservation: ByteCount(arguments.memory_reservation),
        },
        init: arguments.snapshot.then_some(Init::Snapshot),
        output: arguments.output.clone(),
        priority: if arguments.behind { Priority::Behind } else { Priority::Awaited },
        cpu_seconds: arguments.cpu_seconds,
        memory: ByteCount(arguments.memory),
    };
    let mut input: Box<dyn Read> = if arguments.module.as_os_str() == "-" {
        Box::new(io::stdin().lock())
    } else {
        Box::new(File::open(&arguments.module).map_err(|error| {
            let message = format!("module `{}` cannot be read: {error}", arguments.module.display());
            (Reason::InvalidRequest, message)
        })?)
    };
    compile_here(&request, &mut *input).map_err(|error| (error.reason(), told(&error)))
}

/// The sentence, with the cause where it is the machine's: there is no log to put it in.
fn told(error: &Error) -> String {
    match error {
        Error::InvalidModule { problems } => {
            let messages: Vec<&str> = problems.iter().map(|problem| problem.message.as_str()).collect();
            messages.join("; ")
        }
        Error::Internal { source: Some(source), .. } => format!("{error}: {source}"),
        _ => error.to_string(),
    }
}
