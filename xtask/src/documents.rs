//! Does what the documents say: writes the files they show, runs the commands they give, and compares
//! what comes out with what they promise. A page follows three rules: a block with `title="PATH"` is a
//! file, a `sh` block is run, and a `text` block right after one is its output. All else is only read.
//!
//! Invariant: a page runs in an empty folder of its own, outside the tree.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use crate::process::{run, workspace};
use crate::toolchains::Toolchains;

/// One fenced block of a page.
#[derive(Debug, PartialEq, Eq)]
struct Block<'a> {
    /// What stands after the backticks.
    info: &'a str,
    body: String,
    /// Of its opening line, from 1.
    line: usize,
}

/// Follows every page; `program` is the `mentat` that they call.
///
/// # Errors
/// The first command that fails, or that prints something else than its page says.
pub(crate) fn follow(toolchains: &Toolchains, program: &Path) -> anyhow::Result<()> {
    let scratch = Scratch::new("pages")?;
    let shims = scratch.0.join("bin");
    fs::create_dir(&shims)?;
    write_shim(&shims, "mentat", &Command::new(program))?;
    write_shim(&shims, "go", &toolchains.go())?;
    write_shim(&shims, "zig", &toolchains.zig())?;
    write_shim(&shims, "componentize-py", &toolchains.program("componentize-py"))?;
    for page in pages()? {
        let text = fs::read_to_string(workspace().join(&page))?;
        let folder = scratch.0.join(page.replace('/', "-"));
        let commands = follow_page(&page, &text, &folder, &shims)?;
        if commands > 0 {
            println!("{page}: {commands} blocks of commands do what it says");
        }
    }
    Ok(())
}

/// A folder among the temporary ones of the system; it goes with this value.
struct Scratch(PathBuf);

impl Scratch {
    fn new(purpose: &str) -> anyhow::Result<Self> {
        let folder = std::env::temp_dir().join(format!("mentat-{purpose}-{}", std::process::id()));
        fs::create_dir(&folder).with_context(|| format!("cannot create `{}`", folder.display()))?;
        Ok(Self(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is left to the system, which clears such folders.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Every page that git knows of, agents' aside: those are run by their cases.
fn pages() -> anyhow::Result<Vec<String>> {
    let mut git = Command::new("git");
    git.args(["ls-files", "--cached", "--others", "--exclude-standard", "README.md", "docs/*.md"]);
    let listing = run(git.current_dir(workspace()))?;
    Ok(String::from_utf8(listing)?.lines().map(str::to_owned).collect())
}

fn follow_page(page: &str, text: &str, folder: &Path, shims: &Path) -> anyhow::Result<usize> {
    fs::create_dir(folder)?;
    let mut printed: Option<String> = None;
    let mut commands = 0;
    for block in blocks(text) {
        let place = format!("{page}:{}", block.line);
        let before = printed.take();
        if let Some(title) = block.title() {
            let file = folder.join(title);
            fs::create_dir_all(file.parent().unwrap_or(folder))?;
            fs::write(&file, &block.body).with_context(|| format!("{place}: cannot write `{title}`"))?;
        } else if block.info == "sh" {
            let mut shell = Command::new("bash");
            shell.args(["-euo", "pipefail", "-c", &block.body]).current_dir(folder).stdin(Stdio::null());
            shell.env("PATH", path_with(shims)?).env("MENTAT", workspace());
            let output = run(&mut shell).with_context(|| place)?;
            printed = Some(String::from_utf8_lossy(&output).into_owned());
            commands += 1;
        } else if let Some(printed) = before.filter(|_| block.info == "text")
            && printed.trim_end() != block.body.trim_end()
        {
            bail!("{place}: the commands above print\n{printed}\nand the page says\n{}", block.body);
        }
    }
    Ok(commands)
}

fn blocks(text: &str) -> Vec<Block<'_>> {
    let mut blocks: Vec<Block<'_>> = Vec::new();
    let mut open = false;
    for (line, text) in (1..).zip(text.lines()) {
        match text.trim_start().strip_prefix("```") {
            Some(_) if open => open = false,
            Some(info) => {
                open = true;
                blocks.push(Block { info: info.trim(), body: String::new(), line });
            }
            None if open => {
                if let Some(block) = blocks.last_mut() {
                    block.body.push_str(text);
                    block.body.push('\n');
                }
            }
            None => {}
        }
    }
    blocks
}

impl Block<'_> {
    fn title(&self) -> Option<&str> {
        self.info.split_once("title=\"")?.1.split('"').next()
    }
}

/// A script that calls the program as the command has it: with its first arguments and its environment.
fn write_shim(folder: &Path, name: &str, command: &Command) -> anyhow::Result<()> {
    let mut script = String::from("#!/bin/sh\n");
    for (key, value) in command.get_envs() {
        if let Some(value) = value {
            script.push_str(&format!("export {}={}\n", key.display(), quote(&value.to_string_lossy())));
        }
    }
    script.push_str(&format!("exec {}", quote(&command.get_program().to_string_lossy())));
    for argument in command.get_args() {
        script.push_str(&format!(" {}", quote(&argument.to_string_lossy())));
    }
    script.push_str(" \"$@\"\n");
    let file = folder.join(name);
    fs::write(&file, script)?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[allow(
    clippy::disallowed_methods,
    reason = "a developer's tool; the commands of a page need the user's programs"
)]
fn path_with(folder: &Path) -> anyhow::Result<std::ffi::OsString> {
    let path = std::env::var("PATH").unwrap_or_default();
    let folders = std::iter::once(PathBuf::from(folder)).chain(std::env::split_paths(&path));
    std::env::join_paths(folders).context("the workspace's path has a `:` in it")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn follow_text(name: &str, text: &str) -> anyhow::Result<usize> {
        let scratch = Scratch::new(name)?;
        follow_page(name, text, &scratch.0.join("page"), &scratch.0)
    }

    #[test]
    fn files_are_written_commands_run_and_outputs_compared() {
        let page =
            "```text title=\"a/b.txt\"\nhello\n```\n```sh\ncd a\ncat b.txt\n```\n```text\nhello\n```\n";
        assert_eq!(follow_text("test-good.md", page).unwrap(), 1);
    }

    #[test]
    fn another_output_than_promised_is_an_error_with_the_line() {
        let error =
            follow_text("test-other.md", "# x\n```sh\necho hello\n```\n\n```text\nbye\n```\n").unwrap_err();
        assert!(
            error.to_string().contains("test-other.md:6: ") && error.to_string().contains("hello"),
            "{error}"
        );
    }

    #[test]
    fn a_command_that_fails_is_an_error_with_the_line() {
        let error = follow_text("test-fails.md", "```sh\nfalse\ntrue\n```\n").unwrap_err();
        assert!(format!("{error:#}").contains("test-fails.md:1"), "{error:#}");
    }

    #[test]
    fn blocks_of_other_kinds_are_only_read() {
        assert_eq!(follow_text("test-read.md", "```console\n$ false\n```\n```text\nx\n```\n").unwrap(), 0);
    }
}
