//! Files by the calls of Rust's own library.

use std::fs;
use std::io::{self, BufRead, Write};
use std::process::ExitCode;

fn step(line: &str) -> Result<(), String> {
    let mut words = line.splitn(3, ' ');
    let (what, name, text) = (words.next(), words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let told = |error: io::Error| format!("{name}: {error}");
    match what {
        Some("read") => io::stdout().write_all(&fs::read(name).map_err(told)?).map_err(told),
        Some("write") => fs::write(name, text).map_err(told),
        _ => {
            println!("{}", std::env::var(name).unwrap_or("unset".into()));
            Ok(())
        }
    }
}

fn main() -> ExitCode {
    for line in io::stdin().lock().lines() {
        let done = line.map_err(|error| error.to_string()).and_then(|line| step(&line));
        if let Err(error) = done {
            println!("{error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
