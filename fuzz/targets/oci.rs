//! Feeds bytes to `mentat_fuzz::oci`: the fuzzer's under `cargo fuzz`, else those of the files named.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mentat_fuzz::oci::run(bytes));

#[cfg(not(fuzzing))]
fn main() -> std::io::Result<()> {
    mentat_fuzz::replay(mentat_fuzz::oci::run)
}
