//! `cargo xtask agents`: compiles the example agents, and the programs that tests run, each by its own language's compiler,
//! to `agent.wasm` beside its manifest. How an agent is built follows from the one file that its language requires; there
//! is no list of agents to keep.

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, bail};

use crate::process::{run, workspace};
use crate::toolchains::{self, Toolchains};

/// An agent whose module is there and as new as its source.
pub(crate) struct BuiltAgent {
    /// Where `manifest.yaml` and `agent.wasm` are; the folder's name is the agent's.
    pub(crate) folder: PathBuf,
    /// Whether it had to be compiled, and how long that took.
    pub(crate) build: Build,
    language: Language,
    size_bytes: u64,
}

/// What had to be done for an agent.
pub(crate) enum Build {
    /// It was compiled, in this time.
    Compiled(Duration),
    /// Its module is newer than everything that it is made from.
    UpToDate,
}

/// What an agent is written in.
#[derive(Clone, Copy)]
enum Language {
    Rust,
    AssemblyScript,
    Go,
    C,
    /// A WASI command of C.
    CCommand,
    Python,
}

/// Builds the named agents, or all of them when none is named, and prints a line for each.
///
/// # Errors
/// A name that is no agent; a toolchain that cannot be installed; a compiler that failed, with all
/// that it printed.
pub(crate) fn build(names: &[String]) -> anyhow::Result<Vec<BuiltAgent>> {
    let folders = select(&roots(), names)?;
    let toolchains = Toolchains::install()?;
    let lock = compiled_folder().join("lock");
    fs::create_dir_all(compiled_folder())?;
    // Two tasks at the same time would write to the same files; the second finds the work done.
    let lock = File::create(&lock).with_context(|| format!("cannot make `{}`", lock.display()))?;
    lock.lock()?;
    let mut built = Vec::new();
    for (name, folder) in folders {
        let agent = build_one(&name, folder, &toolchains)?;
        println!("{agent}");
        built.push(agent);
    }
    Ok(built)
}

/// Where there are agents.
fn roots() -> [PathBuf; 2] {
    [workspace().join("agents"), workspace().join("tests/programs")]
}

/// The agents asked for, by name, in the order of their names.
fn select(roots: &[PathBuf], names: &[String]) -> anyhow::Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for root in roots {
        for entry in fs::read_dir(root).with_context(|| format!("cannot read `{}`", root.display()))? {
            let folder = entry?.path();
            if let Some(name) = folder.file_name().and_then(|name| name.to_str())
                && folder.join("manifest.yaml").is_file()
            {
                found.push((name.to_owned(), folder));
            }
        }
    }
    found.sort();
    let unknown: Vec<&str> = names
        .iter()
        .filter(|name| found.iter().all(|(known, _)| known != *name))
        .map(String::as_str)
        .collect();
    if !unknown.is_empty() {
        let known: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        bail!("no agent is called {}; there are {}", unknown.join(", "), known.join(", "));
    }
    found.retain(|(name, _)| names.is_empty() || names.contains(name));
    Ok(found)
}

fn build_one(name: &str, folder: PathBuf, toolchains: &Toolchains) -> anyhow::Result<BuiltAgent> {
    let language = Language::of(&folder)?;
    let module = folder.join("agent.wasm");
    let build = if is_up_to_date(&module, &folder)? {
        Build::UpToDate
    } else {
        let start = Instant::now();
        let compiled = language
            .compile(name, &folder, toolchains)
            .with_context(|| format!("agent `{name}` ({language}) does not build"))?;
        // By a rename, so that whoever loads the agent meanwhile never reads half a module.
        let incomplete = folder.join("agent.wasm.incomplete");
        fs::copy(&compiled, &incomplete).with_context(|| {
            format!("`{}` is not where the compiler should have left it", compiled.display())
        })?;
        fs::rename(&incomplete, &module)?;
        Build::Compiled(start.elapsed())
    };
    let size_bytes = fs::metadata(&module)?.len();
    Ok(BuiltAgent { folder, build, language, size_bytes })
}

/// Whether the module is newer than the agent's own files, the component contract, and the code
/// that builds it.
fn is_up_to_date(module: &Path, folder: &Path) -> anyhow::Result<bool> {
    let Ok(made) = fs::metadata(module).and_then(|metadata| metadata.modified()) else {
        return Ok(false);
    };
    let root = workspace();
    let sources =
        [folder, &root.join("wit"), &root.join("xtask/src/agents.rs"), &root.join("xtask/src/toolchains.rs")];
    for source in sources {
        if newest(source)? >= made {
            return Ok(false);
        }
    }
    Ok(true)
}

/// When the newest file at or below a path was changed, leaving out what compilers wrote, and what
/// no module is made from.
fn newest(path: &Path) -> anyhow::Result<SystemTime> {
    let metadata = fs::metadata(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    if !metadata.is_dir() {
        return Ok(metadata.modified()?);
    }
    let mut newest_time = SystemTime::UNIX_EPOCH;
    for entry in fs::read_dir(path)? {
        let entry = entry?.path();
        let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let ignored =
            ["target", "node_modules", "__pycache__", "cases", "README.md", "manifest.yaml", ".gitignore"];
        if !ignored.contains(&name.as_str()) && !name.starts_with("agent.wasm") {
            newest_time = newest_time.max(newest(&entry)?);
        }
    }
    Ok(newest_time)
}

impl Language {
    fn of(folder: &Path) -> anyhow::Result<Self> {
        let has = |file: &str| folder.join(file).is_file();
        Ok(match () {
            () if has("Cargo.toml") => Self::Rust,
            () if has("package.json") => Self::AssemblyScript,
            () if has("go.mod") => Self::Go,
            () if has("agent.c") => Self::C,
            () if has("main.c") => Self::CCommand,
            () if has("agent.py") => Self::Python,
            () => bail!(
                "`{}` has none of Cargo.toml, package.json, go.mod, agent.c, main.c and agent.py, so there is no \
                 telling how to build it",
                folder.display()
            ),
        })
    }

    /// Compiles, and answers where the module was left.
    fn compile(self, name: &str, folder: &Path, toolchains: &Toolchains) -> anyhow::Result<PathBuf> {
        let output = compiled_folder().join(format!("{name}.wasm"));
        match self {
            Self::Rust => return compile_rust(folder),
            Self::AssemblyScript => {
                toolchains::install_npm_packages(folder)?;
                let build = ["run", "--silent", "build", "--", "--outFile"];
                run(Command::new("npm").args(build).arg(&output).current_dir(folder))?;
            }
            Self::Go => {
                let build = ["build", "-buildmode=c-shared", "-trimpath", "-ldflags=-s -w", "-o"];
                let mut go = toolchains.go();
                go.args(build).arg(&output).arg(".").env("GOOS", "wasip1").env("GOARCH", "wasm");
                run(go.current_dir(folder))?;
            }
            Self::C | Self::CCommand => {
                let (source, model) = match self {
                    Self::CCommand => ("main.c", "-mexec-model=command"),
                    _ => ("agent.c", "-mexec-model=reactor"),
                };
                let mut zig = toolchains.zig();
                zig.args(["cc", "--target=wasm32-wasi", model, "-std=c17", "-Os", "-s"]);
                // Zig's default stack of 16 MiB would be the greater part of the agent's memory.
                zig.args(["-Wl,-z,stack-size=131072", "-Wall", "-Wextra", "-Werror", "-o"]);
                zig.arg(&output).arg(source);
                run(zig.current_dir(folder))?;
            }
            Self::Python => {
                let mut componentize = toolchains.program("componentize-py");
                componentize.arg("-d").arg(workspace().join("wit")).args(["-w", "agent", "componentize"]);
                run(componentize.args(["agent", "-o"]).arg(&output).current_dir(folder))?;
            }
        }
        Ok(output)
    }
}

/// Where compilers leave what becomes `agent.wasm`; the Rust agents share their dependencies here.
fn compiled_folder() -> PathBuf {
    workspace().join("target/agents")
}

/// The target is in the agent's own `.cargo/config.toml`, so that `cargo build --release` in its
/// folder does what this does; cargo then tells where the module is.
fn compile_rust(folder: &Path) -> anyhow::Result<PathBuf> {
    let mut cargo = Command::new("cargo");
    cargo
        .args(["build", "--release", "--locked", "--message-format=json-render-diagnostics", "--target-dir"])
        .arg(compiled_folder())
        .current_dir(folder)
        // Flags meant for this machine's processor would reach the guest's.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET");
    let messages = run(&mut cargo)?;
    let mut modules = Vec::new();
    for line in String::from_utf8_lossy(&messages).lines() {
        let message: serde_json::Value =
            serde_json::from_str(line).context("cargo printed a message that is not JSON")?;
        let files = message.get("filenames").and_then(serde_json::Value::as_array);
        let paths = files.into_iter().flatten().filter_map(serde_json::Value::as_str);
        modules.extend(paths.filter(|path| path.ends_with(".wasm")).map(PathBuf::from));
    }
    match (modules.pop(), modules.len()) {
        (Some(module), 0) => Ok(module),
        _ => bail!(
            "cargo made no module, or several, in `{}`; an agent is one `cdylib` or one binary, and its \
             target is set in `.cargo/config.toml`",
            folder.display()
        ),
    }
}

impl fmt::Display for Language {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Rust => "Rust",
            Self::AssemblyScript => "AssemblyScript",
            Self::Go => "Go",
            Self::C | Self::CCommand => "C",
            Self::Python => "Python",
        })
    }
}

impl fmt::Display for BuiltAgent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { folder, language, size_bytes, .. } = self;
        let folder = folder.strip_prefix(workspace()).unwrap_or(folder).display().to_string();
        write!(formatter, "{folder:<32}{language:<16}{:>6} KiB", size_bytes.div_ceil(1024))?;
        match self.build {
            Build::Compiled(took) => write!(formatter, "{:>9.1} s", took.as_secs_f64()),
            Build::UpToDate => write!(formatter, "  up to date"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_agent_folder_says_its_language() {
        let agents = select(&roots(), &[]).unwrap();
        assert!(agents.len() >= 6, "agents are missing: {agents:?}");
        for (name, folder) in agents {
            Language::of(&folder).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_known_ones() {
        let error = select(&roots(), &["word-statistic".into()]).unwrap_err().to_string();
        assert!(error.contains("no agent is called word-statistic;"), "{error}");
        assert!(error.contains("word-statistics"), "{error}");
    }
}
