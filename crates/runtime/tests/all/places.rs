//! How many places of the pool an execution takes: more for a module that takes more of its slots.

use mentat_manifest::Metering;

use crate::harness::runtime;

async fn places(text: &str) -> u32 {
    let module = wat::parse_str(text).unwrap().into();
    runtime().load(module, Metering::Fuel).await.unwrap().module.places()
}

/// A command whose component makes this many core instances of its own, some of them in a component within it.
fn component(instances: usize, nested: &str) -> String {
    let small = "(core instance (instantiate $small))".repeat(instances.saturating_sub(1));
    format!(
        r#"(component
          {nested}
          (core module $small)
          {small}
          (core module $code (func (export "run") (result i32) i32.const 0))
          (core instance $main (instantiate $code))
          (func $run (result (result)) (canon lift (core func $main "run")))
          (instance (export "wasi:cli/run@0.2.0") (export "run" (func $run))))"#
    )
}

#[tokio::test]
async fn a_module_of_the_usual_size_takes_one_place() {
    let module = r#"(module (memory (export "memory") 1) (table 1 funcref)
      (func (export "process") (result i32) (i32.const 0)))"#;
    assert_eq!(places(module).await, 1);
    assert_eq!(places(&component(2, "")).await, 1);
}

#[tokio::test]
async fn a_module_of_many_memories_tables_or_instances_takes_more() {
    let memories = r#"(module (memory (export "memory") 1) (memory 1) (memory 1)
      (func (export "process") (result i32) (i32.const 0)))"#;
    assert_eq!(places(memories).await, 3);
    let tables = format!(
        r#"(module (memory (export "memory") 1) {} (func (export "process") (result i32) (i32.const 0)))"#,
        "(table 1 funcref)".repeat(9)
    );
    assert_eq!(places(&tables).await, 9);
    assert_eq!(places(&component(39, "")).await, 10);
    // What is made within another component could be made many times.
    let nested = "(component (core module $m) (core instance (instantiate $m)))";
    assert_eq!(places(&component(1, nested)).await, 16);
}
