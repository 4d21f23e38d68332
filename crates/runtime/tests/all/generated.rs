//! Modules that are bytes rather than text: cut off, empty, not WebAssembly at all.

use mentat_manifest::Metering;
use mentat_runtime::ModuleInfo;
use mentat_runtime::error::{Error, ModuleProblemKind};
use proptest::prelude::*;

use crate::harness::{Test, runtime};

fn valid() -> Vec<u8> {
    wat::parse_str(
        r#"(module (import "mentat" "log" (func (param i32 i32 i32)))
          (memory (export "memory") 1) (func (export "process") (result i32) (i32.const 0))
          (@custom "note" "some text"))"#,
    )
    .unwrap()
}

fn kind(module: &[u8]) -> ModuleProblemKind {
    match runtime().check(module, Metering::Fuel) {
        Err(Error::InvalidModule { problems }) => problems[0].kind,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_module_cut_off_anywhere_is_refused_or_whole() {
    let module = valid();
    assert!(runtime().check(&module, Metering::Fuel).is_ok());
    for end in 0..module.len() - 20 {
        assert!(runtime().check(&module[..end], Metering::Fuel).is_err(), "cut at {end}");
    }
}

#[test]
fn what_is_not_webassembly_is_named_for_what_it_is() {
    assert_eq!(kind(b""), ModuleProblemKind::Malformed);
    assert_eq!(kind(b"(module)"), ModuleProblemKind::Malformed);
    assert_eq!(kind(b"#!/bin/sh\n"), ModuleProblemKind::Malformed);
    assert_eq!(kind(&std::fs::read("/proc/self/exe").unwrap()[..4096]), ModuleProblemKind::Precompiled);
    let artifact = wasmtime::Engine::default().precompile_module(&valid()).unwrap();
    assert_eq!(kind(&artifact), ModuleProblemKind::Precompiled);
    let text = runtime().check(b"  (module)", Metering::Fuel).unwrap_err().to_string();
    assert!(text.contains("text format"), "{text}");
}

#[tokio::test]
async fn a_body_that_does_not_validate_is_refused_by_the_compiler() {
    let mut module = valid();
    // `i32.const 0` of `process` becomes `i64.const 0`.
    let body = module.windows(4).position(|bytes| bytes == [0x00, 0x41, 0x00, 0x0b]).unwrap();
    module[body + 1] = 0x42;
    let error = Test::module(module).load().await.unwrap_err();
    assert!(error.to_string().contains("type mismatch"), "{error}");
}

#[test]
fn a_module_over_the_size_limit_is_refused_before_it_is_read() {
    let limit = usize::try_from(runtime().config().compile.max_module.0).unwrap();
    let error = runtime().check(&vec![0; limit + 1], Metering::Fuel).unwrap_err();
    assert!(error.to_string().contains("the limit is"), "{error}");
}

proptest! {
    #[test]
    fn reading_any_bytes_ends_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let mut module = b"\0asm\x01\0\0\0".to_vec();
        module.extend(bytes);
        let _ = ModuleInfo::read(&module);
    }

    #[test]
    fn reading_a_damaged_module_ends_without_a_panic(place in 0usize..100, value in any::<u8>()) {
        let mut module = valid();
        let place = place % module.len();
        module[place] = value;
        let _ = runtime().check(&module, Metering::Fuel);
    }
}
