//! `mentat completions`: a shell's completion script, made from the command line's own description.

use std::process::ExitCode;

use clap::CommandFactory;

use crate::args::{Arguments, CompletionsArguments};
use crate::output::{self, Failure};

pub(crate) fn run(arguments: &CompletionsArguments) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Arguments::command(), "mentat", &mut script);
    output::write_stdout(&script)?;
    Ok(ExitCode::SUCCESS)
}
