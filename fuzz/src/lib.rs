//! What must hold for any bytes at all: one module for each thing that strangers' bytes reach first.
//! `cargo xtask fuzz <target>` runs one under libFuzzer; the tests here run all of them on seeds and
//! on seeds with bytes changed, on any compiler.
//!
//! Invariant: a `run` panics for a defect of ours and for nothing else.

#![allow(
    clippy::panic,
    clippy::expect_used,
    reason = "a panic is how a fuzz target says that something is wrong"
)]

pub mod abi;
pub mod capability;
pub mod certificate;
pub mod egress;
pub mod manifest;
pub mod module;
pub mod oci;
pub mod receipt;
pub mod reports;
pub mod sigstore;
pub mod statement;

use mentat_runtime::error::Error;

/// Runs `target` on each file that the command line names: how a fuzzer's find is made again without a
/// fuzzer.
///
/// # Errors
/// A file that cannot be read.
pub fn replay(target: impl Fn(&[u8])) -> std::io::Result<()> {
    for file in std::env::args_os().skip(1) {
        target(&std::fs::read(file)?);
    }
    Ok(())
}

/// An error that a stranger's bytes may cause is the stranger's.
fn check_error(error: &Error) {
    assert!(
        !matches!(error, Error::Internal { .. }),
        "bytes from outside became an internal error: {error:?}"
    );
    check_text(&error.to_string(), 256 << 10);
}

/// What is said about a stranger's bytes is bounded, and moves, hides and reverses nothing on a screen.
fn check_text(text: &str, max_bytes: usize) {
    assert!(text.len() <= max_bytes, "a message of {} bytes", text.len());
    // A tab only makes a space.
    let moves = |character: char| character.is_control() && !['\n', '\t'].contains(&character);
    let reverses = |character: char| ('\u{202a}'..='\u{202e}').contains(&character);
    assert!(!text.contains(moves) && !text.contains(reverses), "not escaped: {text:?}");
}

/// Seeds, and each of them with single bytes changed and with its end cut off, at places that a simple
/// generator chooses the same way each time.
#[cfg(test)]
fn variations(seeds: &[Vec<u8>], each: usize) -> Vec<Vec<u8>> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = move |below: usize| {
        // xorshift64 (Marsaglia 2003).
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % (below.max(1) as u64)).unwrap()
    };
    let mut all = seeds.to_vec();
    for seed in seeds {
        for turn in 0..each {
            let mut changed = seed.clone();
            if turn % 4 == 3 {
                changed.truncate(next(seed.len()));
            } else if !changed.is_empty() {
                let at = next(seed.len());
                changed[at] = u8::try_from(next(256)).unwrap();
            }
            all.push(changed);
        }
    }
    all
}
