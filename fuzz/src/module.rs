//! Modules: reading and checking any bytes ends, in an answer or in errors that name what is wrong.
//! What passes the check is not compiled here: Cranelift has fuzzers of its own, and a compile of a
//! stranger's module takes longer than a fuzzer waits.

use std::sync::Arc;

use mentat_manifest::Metering;
use mentat_runtime::ModuleInfo;

use crate::abi::runtime;

/// Reads the bytes as a module, and checks it as loading does.
pub fn run(bytes: &[u8]) {
    match ModuleInfo::read(bytes) {
        Ok(info) => {
            assert_eq!(info.size.0, bytes.len() as u64);
            assert!(!info.shape_reason().is_empty());
            // What `inspect` shows of it.
            let _ = info.warnings();
        }
        Err(error) => super::check_error(&error),
    }
    if let Err(error) = Arc::clone(runtime()).check(bytes, Metering::Fuel) {
        super::check_error(&error);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_and_components_and_their_neighbours_hold() {
        let texts = [
            crate::abi::GUEST,
            "(component)",
            r#"(module (import "a\u{202e}" "b\00" (func)) (memory 65536) (table 4294967295 funcref) (func $f) (start $f))"#,
            r#"(component (core module (memory (export "m") 1) (func (export "f"))) (import "wasi:cli/exit@0.2.0" (instance)))"#,
        ];
        let seeds = texts.map(|text| wat::parse_str(text).unwrap());
        for bytes in crate::variations(&seeds, 500) {
            run(&bytes);
        }
    }
}
