//! Feeds bytes to `mentat_fuzz::egress`: the fuzzer's under `cargo fuzz`, else those of the files named.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mentat_fuzz::egress::run(bytes));

#[cfg(not(fuzzing))]
fn main() -> std::io::Result<()> {
    mentat_fuzz::replay(mentat_fuzz::egress::run)
}
