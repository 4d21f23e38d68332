//! Running other programs for a task: their output is captured, and a failure carries it whole.
//! Knows nothing of what the programs do.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, bail};

/// Runs the command to its end and answers what it wrote to stdout.
///
/// # Errors
/// The program is not installed, could not be started, or failed; the error then holds the whole
/// command line and all that the program wrote.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<Vec<u8>> {
    let line = line(command);
    let program = command.get_program().to_string_lossy().into_owned();
    let output = match command.stdin(Stdio::null()).output() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            bail!("`{program}` was not found; install it, or put it on the PATH (needed for `{line}`)")
        }
        other => other.with_context(|| format!("`{line}` could not be started"))?,
    };
    if !output.status.success() {
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        bail!("`{line}` failed ({}):\n{}\n{}", output.status, out.trim_end(), err.trim_end());
    }
    Ok(output.stdout)
}

/// Does one slow thing, saying so before, and how long it took after.
///
/// # Errors
/// That of the work.
pub(crate) fn announced<T>(what: &str, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    eprintln!("{what} …");
    let start = Instant::now();
    let done = work().with_context(|| format!("{what} failed"))?;
    eprintln!("{what}: done in {:.1} s", start.elapsed().as_secs_f64());
    Ok(done)
}

/// The root of the workspace that this program was built in.
pub(crate) fn workspace() -> &'static Path {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask)
}

/// The command as one would type it, with its folder when it has one of its own.
fn line(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    match command.get_current_dir() {
        Some(folder) => format!("{line}` in `{}", folder.display()),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_program_is_reported_with_its_output() {
        let error = run(Command::new("sh").args(["-c", "echo out; echo err >&2; exit 3"])).unwrap_err();
        let text = error.to_string();
        for expected in ["exit 3", "out", "err", "status: 3"] {
            assert!(text.contains(expected), "{expected} is missing in {text}");
        }
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = run(&mut Command::new("no-such-program-anywhere")).unwrap_err();
        assert!(error.to_string().contains("`no-such-program-anywhere` was not found"), "{error}");
    }
}
