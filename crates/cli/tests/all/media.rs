//! Media on the command line and in a service: an agent that reads an object and stores another, by references alone.

use std::time::{Duration, SystemTime};

use crate::guests::{ECHO, assemble, manifest_with};
use crate::program::{mentat, text};
use crate::server::{Server, eventually, execute};

/// Stores what its input refers to once more, as another media type, and answers the reference.
const COPY: &str = r#"(module
  (import "mentat" "read_input" (func $read_input (param i32 i32) (result i32)))
  (import "mentat" "write_output" (func $write_output (param i32 i32) (result i32)))
  (import "mentat" "download_media" (func $download (param i32 i32) (result i32)))
  (import "mentat" "upload_media" (func $upload (param i32 i32 i32 i32) (result i32)))
  (import "mentat" "result_read" (func $result_read (param i32 i32 i32) (result i32)))
  (import "mentat" "last_error" (func $last_error (param i32 i32) (result i32)))
  (memory (export "memory") 4)
  (data (i32.const 0) "text/plain")
  (func $fail (param $code i32) (result i32)
    (drop (call $write_output (i32.const 0x10000) (call $last_error (i32.const 0x10000) (i32.const 0x10000))))
    (local.get $code))
  (func (export "process") (result i32)
    (local $got i32)
    (local.set $got
      (call $download (i32.const 1024) (call $read_input (i32.const 1024) (i32.const 1024))))
    (if (i32.lt_s (local.get $got) (i32.const 0)) (then (return (call $fail (local.get $got)))))
    (local.set $got (call $upload
      (i32.const 0x10000) (call $result_read (i32.const 0) (i32.const 0x10000) (local.get $got))
      (i32.const 0) (i32.const 10)))
    (if (i32.lt_s (local.get $got) (i32.const 0)) (then (return (call $fail (local.get $got)))))
    (call $write_output (i32.const 0x10000)
      (call $result_read (i32.const 0) (i32.const 0x10000) (local.get $got)))))"#;
/// SHA-256 of `hello`.
const HELLO: &str = "sha256/2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

#[test]
fn a_users_directory_is_a_media_store_as_far_as_they_say() {
    let folder = tempfile::tempdir().unwrap();
    let (module, media) = (folder.path().join("copy.wasm"), folder.path().join("media"));
    std::fs::write(&module, assemble(COPY)).unwrap();
    std::fs::create_dir(&media).unwrap();
    std::fs::write(media.join("hello.txt"), "hello").unwrap();
    let run = |options: &[&str]| {
        let mut command = mentat();
        command.arg("run").arg(&module).args(["--input", "media://hello.txt"]).args(options);
        command.current_dir(folder.path()).output().unwrap()
    };
    let both = run(&["--media", "media:rw"]);
    assert_eq!((both.status.code(), text(&both.stdout)), (Some(0), format!("media://{HELLO}")));
    assert_eq!(std::fs::read(media.join(HELLO)).unwrap(), b"hello");
    for (options, says) in [
        (&["--media", "media"][..], "allow it with `--allow 'media:write:sha256/"),
        (&["--media", "media:wo"], "allow it with `--allow 'media:read:hello.txt'`"),
        (&[], "there is no media store here"),
    ] {
        let output = run(options);
        assert!(text(&output.stdout).contains(says), "{options:?}: {}", text(&output.stdout));
    }
    let wrong = run(&["--media", "nowhere:rw"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(text(&wrong.stderr).contains("`nowhere` is no directory"), "{}", text(&wrong.stderr));
}

#[tokio::test]
async fn agents_of_a_service_work_on_objects_of_its_data_directory() {
    let policies = tempfile::tempdir().unwrap();
    let policy = "@id(\"media\") permit (principal, action in Action::\"media\", resource);";
    std::fs::write(policies.path().join("media.cedar"), policy).unwrap();
    let server = Server::with(&[&format!("policy.dir={}", policies.path().display())]);
    let put = |name: &str, content: &str| {
        let path = server.data().join("media/objects/default").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    };
    put("texts/hello.txt", "hello");
    put("private/key.pem", "a key");
    let capabilities = "  capabilities: [\"media:read:texts/\", \"media:write:sha256/\"]\n";
    server.load_as(&manifest_with("a.copy", "1.0.0", capabilities), COPY).await.unwrap();
    let ask = async |input: &'static str| {
        let answer =
            server.client().await.execute_agent(execute("a.copy", input)).await.unwrap().into_inner();
        (answer.exit_code, text(&answer.output))
    };
    assert_eq!(ask("media://texts/hello.txt").await, (0, format!("media://{HELLO}")));
    assert!(server.data().join("media/objects/default").join(HELLO).exists());
    let (code, refusal) = ask("media://private/key.pem").await;
    assert_eq!((code, refusal.contains("is not in the manifest of `a.copy`")), (-1, true), "{refusal}");
    for (name, value) in
        [("media_objects_total{what=\"stored\"}", 1.0), ("media_bytes_total{what=\"read\"}", 5.0)]
    {
        assert_eq!(server.metric(name), value, "{name}");
    }
    // What was asked for is on record, each object by its own name.
    let audit = server.data().join("audit");
    for capability in ["media:read:texts/hello.txt", "media:read:private/key.pem"] {
        let recorded = async || {
            let records = mentat().args(["audit", "query"]).arg(&audit).output().unwrap();
            text(&records.stdout).contains(capability)
        };
        eventually(capability, recorded).await;
    }
}

#[tokio::test]
async fn callers_hand_objects_over_and_get_others_back_by_reference() {
    let policies = tempfile::tempdir().unwrap();
    let policy = "@id(\"media\") permit (principal, action in Action::\"media\", resource);";
    std::fs::write(policies.path().join("media.cedar"), policy).unwrap();
    let server = Server::with(&[&format!("policy.dir={}", policies.path().display())]);
    let object = server.data().join("media/objects/default/hello.txt");
    std::fs::create_dir_all(object.parent().unwrap()).unwrap();
    std::fs::write(object, "hello").unwrap();
    let manifest = manifest_with("a.echo", "1.0.0", "  capabilities: [\"media:read:\", \"media:write:\"]\n")
        + "inputs: [{ name: a, type: binary }]\noutputs: [{ name: b, type: binary }]\n";
    server.load_as(&manifest, ECHO).await.unwrap();
    let answer = server.client().await.execute_agent(execute("a.echo", "media://hello.txt")).await.unwrap();
    assert_eq!(text(&answer.into_inner().output), format!("media://{HELLO}"));
    let url = format!("{}/v1/agents/a.echo/execute", server.http);
    let answer = ureq::post(&url).send(&b"media://hello.txt"[..]).unwrap();
    assert_eq!(answer.into_body().read_to_string().unwrap(), format!("media://{HELLO}"));
    let answer = server.client().await.execute_agent(execute("a.echo", "itself")).await.unwrap();
    assert_eq!(text(&answer.into_inner().output), "itself");
    let refused =
        server.client().await.execute_agent(execute("a.echo", "media://gone.txt")).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    assert!(refused.message().contains("there is no object `media://gone.txt`"), "{refused}");
}

#[tokio::test]
async fn a_service_lets_go_of_what_it_has_kept_for_long_enough() {
    let server = Server::with(&["media.retain_days=1"]);
    let objects = server.data().join("media/objects/default");
    let put = |name: &str| {
        let path = objects.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "hello").unwrap();
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(48 * 60 * 60)).unwrap();
    };
    put(HELLO);
    put("texts/hello.txt");
    let server = server.restart();
    eventually("the end of the old object", async || !objects.join(HELLO).exists()).await;
    assert!(objects.join("texts/hello.txt").exists());
    assert!(!server.log().contains("sweeping"), "{}", server.log());
}

#[test]
fn credentials_are_not_in_what_is_printed_of_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let print = |credentials: &str| {
        let file = folder.path().join("mentat.toml");
        std::fs::write(&file, format!("[media]\nbucket = 'b'\ncredentials = [{credentials}]\n")).unwrap();
        let mut command = mentat();
        command.env("S3_SECRET", "hunter2hunter2").args(["serve", "--print-config", "--config"]).arg(file);
        let output = command.output().unwrap();
        (output.status.code(), text(&output.stdout) + &text(&output.stderr))
    };
    let (code, printed) = print("{ name = 'secret_access_key', from = 'S3_SECRET' }");
    assert_eq!((code, printed.contains("S3_SECRET")), (Some(0), true), "{printed}");
    assert!(!printed.contains("hunter2"), "{printed}");
    let (code, printed) = print("{ name = 'secret_access_key', value = 'hunter2hunter2' }");
    assert_eq!((code, printed.contains("needs `from` or `file`")), (Some(2), true), "{printed}");
    assert!(!printed.contains("hunter2"), "{printed}");
}
