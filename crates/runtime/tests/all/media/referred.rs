//! Inputs and outputs by reference: an agent that knows nothing of media is given an object, and makes one.

use mentat_manifest::{ByteCount, LimitsRequest};
use mentat_runtime::error::{Error, Reason};
use mentat_runtime::model::{Answer, Invocation, Outcome};
use mentat_runtime::security::policy::OnViolation;

use super::studio::Studio;
use super::{BOTH, content, peak_memory, reference_of};
use crate::harness::Test;

const IMAGES: &str = "inputs: [{ name: picture, type: image }]\n\
                      outputs: [{ name: smaller, type: image, metadata: { media_type: image/png } }]\n";

/// Gives its input out as it is.
const ECHO: &str = r#"(module
  (import "mentat" "read_input" (func $read_input (param i32 i32) (result i32)))
  (import "mentat" "write_output" (func $write_output (param i32 i32) (result i32)))
  (memory (export "memory") 32)
  (func (export "process") (result i32)
    (call $write_output (i32.const 0) (call $read_input (i32.const 0) (i32.const 0x200000)))))"#;

/// A command that reads all of its input, and gives out how many bytes it had; ends with the error where reading fails.
const COUNT: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 32)
  (data (i32.const 0) "\00\00\10\00\00\00\10\00\14\00\00\00\08\00\00\00")
  (func (export "_start")
    (local $error i32)
    (loop $next
      (local.set $error (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 16)))
      (if (local.get $error) (then (call $exit (local.get $error))))
      (i64.store (i32.const 20) (i64.add (i64.load (i32.const 20)) (i64.load32_u (i32.const 16))))
      (br_if $next (i32.load (i32.const 16))))
    (drop (call $write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 16)))))"#;

async fn run(studio: &Studio, guest: &str, input: &str) -> Outcome {
    let loaded = Test::wat(guest).load_in(&studio.runtime).await.unwrap();
    let grant = studio.world.grant("default");
    studio.runtime.execute(&loaded.module, &grant, Invocation::new(input.to_owned())).await
}

async fn answer(studio: &Studio, guest: &str, input: &str) -> Answer {
    run(studio, guest, input).await.result.unwrap_or_else(|error| panic!("{error}"))
}

async fn error(studio: &Studio, guest: &str, input: &str) -> Error {
    run(studio, guest, input).await.result.unwrap_err()
}

#[tokio::test]
async fn who_gives_a_reference_gets_one_back() {
    let mut studio = Studio::open(&BOTH).await;
    studio.world.pins = IMAGES.into();
    let content = content(100_000);
    studio.put("pictures/cat.png", &content);
    for input in ["media://pictures/cat.png", "media://pictures/cat.png\n"] {
        assert_eq!(answer(&studio, ECHO, input).await.output, reference_of(&content));
    }
    // What comes of one is what another begins with, and its type is what the manifest says.
    let reference = reference_of(&content);
    assert_eq!(answer(&studio, ECHO, &reference).await.output, reference);
    let opened = studio.ask_component(b'o', "", reference.as_bytes()).await.unwrap();
    assert_eq!(opened, [b"image/png", &content[..]].concat());
    // Who gives the thing itself gets the thing itself.
    assert_eq!(answer(&studio, ECHO, "a small cat").await.output, "a small cat");
    // A command has it on its standard input; its output is not of media here.
    studio.world.pins =
        "inputs: [{ name: video, type: video }]\noutputs: [{ name: length, type: number }]\n".into();
    assert_eq!(answer(&studio, COUNT, &reference).await.output[..], 100_000_u64.to_le_bytes());
}

#[tokio::test]
async fn a_command_reads_an_object_that_is_larger_than_all_memory() {
    let mut studio = Studio::open(&BOTH).await;
    studio.world.pins = "inputs: [{ name: video, type: video }]\n".into();
    studio.put("videos/long.mp4", b"");
    let file = std::fs::File::options().write(true).open(studio.path("videos/long.mp4")).unwrap();
    file.set_len(1 << 30).unwrap();
    let before = peak_memory();
    let counted = answer(&studio, COUNT, "media://videos/long.mp4").await;
    assert_eq!((counted.exit_code, &counted.output[..]), (0, &(1_u64 << 30).to_le_bytes()[..]));
    let grown = peak_memory() - before;
    assert!(grown < 64 << 20, "{grown} bytes");
    // A module that wants it whole is given no more than its memory could hold.
    let refused = error(&studio, ECHO, "media://videos/long.mp4").await;
    assert_eq!(refused.reason(), Reason::InvalidRequest);
    assert!(refused.to_string().contains("more than 64MB"), "{refused}");
}

#[tokio::test]
async fn a_command_never_comes_to_the_end_of_an_object_that_is_damaged() {
    let mut studio = Studio::open(&BOTH).await;
    studio.world.pins = "inputs: [{ name: video, type: video }]\n".into();
    let content = content(1_500_000);
    let reference = studio.store("video/mp4", &content).await;
    let mut damaged = content;
    damaged[10] ^= 1;
    std::fs::write(studio.path(&reference["media://".len()..]), damaged).unwrap();
    let ended = answer(&studio, COUNT, &reference).await;
    assert!(ended.exit_code != 0 && ended.output.is_empty(), "{ended:?}");
    let refused = error(&studio, ECHO, &reference).await;
    assert_eq!(refused.reason(), Reason::Overloaded);
    assert!(refused.to_string().contains("not what its digest says"), "{refused}");
}

#[tokio::test]
async fn what_the_agent_may_not_have_a_caller_cannot_give_it() {
    let mut studio = Studio::open(&["media:read:pictures/"]).await;
    studio.world.pins = IMAGES.into();
    studio.put("pictures/cat.png", b"a cat");
    studio.put("private/key.pem", b"a key");
    for (input, reason, says) in [
        (
            "media://private/key.pem",
            Reason::PolicyDenied,
            "`media:read:private/key.pem` is not in the manifest",
        ),
        // It may look, and not store.
        ("media://pictures/cat.png", Reason::PolicyDenied, "`media:write:sha256/"),
        ("media://pictures/dog.png", Reason::InvalidRequest, "there is no object"),
        ("media://pictures/", Reason::InvalidRequest, "ends with `/`"),
        ("s3://bucket/key", Reason::InvalidRequest, "is not the bucket"),
    ] {
        let refused = error(&studio, ECHO, input).await;
        assert_eq!(refused.reason(), reason, "{input}: {refused}");
        assert!(refused.to_string().contains(says), "{input}: {refused}");
    }
    studio.world.on_violation = OnViolation::Terminate;
    let refused = error(&studio, ECHO, "media://private/key.pem").await;
    assert_eq!(refused.reason(), Reason::SecurityViolation);
}

#[tokio::test]
async fn to_agents_that_take_no_media_a_reference_is_text() {
    let input = "media://pictures/cat.png";
    for (capabilities, pins) in [
        (&["media:read:"][..], "inputs: [{ name: text, type: string }]\n"),
        (&["media:read:"], "inputs: [{ name: a, type: image }, { name: b, type: image }]\n"),
        (&["media:read:"], ""),
        (&["media:write:"], IMAGES),
        (&[], IMAGES),
    ] {
        let mut studio = Studio::open(capabilities).await;
        studio.world.pins = pins.into();
        studio.put("pictures/cat.png", b"a cat");
        assert_eq!(answer(&studio, ECHO, input).await.output, input, "{capabilities:?} {pins}");
    }
}

#[tokio::test]
async fn an_output_that_is_too_large_is_no_object() {
    let mut studio = Studio::open(&BOTH).await;
    studio.world.pins = IMAGES.into();
    studio.put("pictures/cat.png", &content(1000));
    let limits = LimitsRequest { output_bytes: Some(ByteCount(999)), ..LimitsRequest::default() };
    studio.world.limits(&limits);
    let refused = error(&studio, ECHO, "media://pictures/cat.png").await;
    assert_eq!(refused.reason(), Reason::OutputTooLarge);
    assert_eq!(studio.runtime.media_counts().stored, 0);
}
