//! The one binary: parses the arguments, hands them to the verb, and turns what comes back into an
//! exit code. Holds no logic of its own.

mod args;
mod client;
mod commands;
mod environment;
mod examples;
mod files;
mod local;
mod output;
mod passphrase;
mod progress;
#[cfg(test)]
mod reference;
mod registry;
mod report;
mod source;
mod values;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Arguments, Verb};

/// Executions make much that is small on one thread, and audit records of it are freed on another.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let verb = Arguments::parse().verb;
    let json = verb.wants_json();
    let result = match verb {
        Verb::Compile(arguments) => return commands::compile::run(&arguments),
        Verb::Completions(arguments) => commands::completions::run(&arguments),
        Verb::Run(arguments) => commands::run::run(&arguments),
        Verb::Inspect(arguments) => commands::inspect::run(&arguments),
        Verb::Analyze(arguments) => commands::analyze::run(&arguments),
        Verb::Bench(verb) => commands::bench::run(&verb),
        Verb::Validate(arguments) => commands::validate::run(&arguments),
        Verb::Serve(arguments) => commands::serve::run(&arguments),
        Verb::Load(arguments) => commands::load::run(&arguments),
        Verb::Execute(arguments) => commands::execute::run(&arguments),
        Verb::List(arguments) => commands::list::run(&arguments),
        Verb::Unload(arguments) => commands::unload::run(&arguments),
        Verb::Audit(verb) => commands::audit::run(&verb),
        Verb::Policy(verb) => commands::policy::run(&verb),
        Verb::Keygen(arguments) => commands::keygen::run(&arguments),
        Verb::Sign(arguments) => commands::sign::run(&arguments),
        Verb::Verify(arguments) => commands::verify::run(&arguments),
        Verb::Pki(verb) => commands::pki::run(&verb),
        Verb::VerifyReceipt(arguments) => commands::verify_receipt::run(&arguments),
        Verb::Rollback(arguments) => commands::rollback::run(&arguments),
        Verb::Stream(arguments) => commands::stream::run(&arguments),
        Verb::Push(arguments) => commands::push::run(&arguments),
        Verb::Pull(arguments) => commands::pull::run(&arguments),
    };
    result.unwrap_or_else(|failure| {
        failure.write(json);
        failure.exit_code()
    })
}
