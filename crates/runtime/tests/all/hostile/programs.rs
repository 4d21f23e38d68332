//! Guests that are clumsy to write as WebAssembly text: `tests/hostile/programs/*.{rs,c}`, each one file, compiled when a
//! test first needs it and kept under `target` until its source changes.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// The module, for WASI 0.1, that a program compiles to.
pub fn compiled(name: &str) -> Vec<u8> {
    compiled_for("wasm32-wasip1", name)
}

/// The component, for WASI 0.2.
pub fn component(name: &str) -> Vec<u8> {
    compiled_for("wasm32-wasip2", name)
}

fn compiled_for(target: &str, name: &str) -> Vec<u8> {
    let source = workspace().join("tests/hostile/programs").join(name);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("hostile");
    std::fs::create_dir_all(&folder).unwrap();
    // Tests are processes beside each other: one compiles, the others wait.
    let lock = File::create(folder.join(format!("{name}.{target}.lock"))).unwrap();
    lock.lock().unwrap();
    let module = folder.join(format!("{name}.{target}.wasm"));
    let changed = |path: &Path| path.metadata().and_then(|metadata| metadata.modified()).ok();
    if changed(&module) < changed(&source) {
        let made = folder.join(format!("{name}.{target}.new"));
        match source.extension().and_then(|extension| extension.to_str()) {
            Some("rs") => rust(target, &source, &made),
            Some("c") => c(&source, &made),
            other => panic!("no compiler for {other:?}"),
        }
        std::fs::rename(made, &module).unwrap();
    }
    std::fs::read(module).unwrap()
}

fn rust(target: &str, source: &Path, module: &Path) {
    let mut libraries = Command::new("rustc");
    libraries.args(["--print", "target-libdir", "--target", target]);
    let libraries = String::from_utf8(libraries.output().unwrap().stdout).unwrap();
    if !Path::new(libraries.trim()).exists() {
        run(Command::new("rustup").args(["target", "add", target]));
    }
    let mut rustc = Command::new("rustc");
    rustc.args(["--edition", "2024", "--target", target, "-C", "opt-level=s", "-C", "strip=symbols"]);
    run(rustc.arg(source).arg("-o").arg(module));
}

/// By the compiler that `cargo xtask` installs for the example agents.
fn c(source: &Path, module: &Path) {
    let tools = workspace().join(".tools");
    let python = tools.join("python/bin/python");
    assert!(python.exists(), "there is no C compiler yet; `cargo xtask agents csv-to-json` installs one");
    let mut zig = Command::new(python);
    zig.args(["-m", "ziglang", "cc", "--target=wasm32-wasi", "-std=c17", "-Os", "-s"])
        .env("ZIG_GLOBAL_CACHE_DIR", tools.join("zig/global"))
        .env("ZIG_LOCAL_CACHE_DIR", tools.join("zig/local"));
    run(zig.arg("-o").arg(module).arg(source));
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}:\n{}", String::from_utf8_lossy(&output.stderr));
}
