//! Sorts the lines of standard input, as the Unix tool does. Reads arguments, stdin and stdout like
//! any program: this is an agent only in that its output is of use to somebody.

mod sort;

use std::io::{self, Read, Write};
use std::process::ExitCode;

use sort::{Options, sorted};

/// Exit code for arguments that make no sense, as in the Unix tool.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let arguments = std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned());
    let options = match Options::parse(arguments) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("line-sort: {message}");
            return ExitCode::from(USAGE);
        }
    };
    match sort_stdin(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("line-sort: {error}");
            ExitCode::FAILURE
        }
    }
}

fn sort_stdin(options: &Options) -> io::Result<()> {
    let mut input = Vec::new();
    io::stdin().lock().read_to_end(&mut input)?;
    io::stdout().lock().write_all(&sorted(&input, options))
}
