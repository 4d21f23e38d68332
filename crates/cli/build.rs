//! Has the linker put the functions that an execution runs side by side, and such that the start runs (`requests.ld`, which
//! `cargo xtask order` writes).
//! Only for what is optimised, and only where no linker is named, which could be one that does not read such scripts: the one
//! that Rust brings along does, and GNU's as well. Without it, the program is slower and otherwise the same.

#![allow(clippy::disallowed_methods, reason = "cargo tells a build script all that it tells by variables")]

use std::env;
use std::path::Path;

const SCRIPT: &str = "requests.ld";

fn main() {
    println!("cargo::rerun-if-changed={SCRIPT}");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found == value);
    let is_optimised = is("PROFILE", "release");
    let has_linker = is("TARGET", "x86_64-unknown-linux-gnu") && !names_linker();
    if let (true, true, Ok(folder)) = (is_optimised, has_linker, env::var("CARGO_MANIFEST_DIR")) {
        let script = Path::new(&folder).join(SCRIPT);
        println!("cargo::rustc-link-arg-bins=-T{}", script.display());
    }
}

/// Whether whoever builds has named a linker of their own, which may not know such scripts.
fn names_linker() -> bool {
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    let names = ["linker", "-fuse-ld", "--ld-path", "link-arg=-B"];
    env::var("RUSTC_LINKER").is_ok() || names.iter().any(|name| flags.contains(name))
}
