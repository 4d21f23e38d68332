//! Streams on the terminal.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_writes_chunks_as_they_come() {
    let folder =
        agent_folder(&crate::guests::manifest("a.numbers", "1.0.0"), &crate::guests::assemble(&numbers(0)));
    let path = folder.path().to_str().unwrap();
    let lines: String = (1..=3).map(line).collect();
    let plain = run(&["run", path, "--input", "3"]);
    assert_eq!(text(&plain.stdout), line(3));
    let streamed = run(&["run", path, "--input", "3", "--stream"]);
    assert_eq!(text(&streamed.stdout), lines.clone() + &line(3), "{}", text(&streamed.stderr));
    let json = |output: &std::process::Output| -> Vec<Value> {
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let refused = mentat().args(["run", path, "--input", "3", "--stream"]).stdout(full).output().unwrap();
    assert_eq!(refused.status.code(), Some(70), "{}", text(&refused.stderr));
    let mut endless = mentat();
    endless.args(["run", path, "--input", "99999999", "--stream"]).stdout(std::process::Stdio::piped());
    let mut endless = endless.spawn().unwrap();
    drop(endless.stdout.take());
    assert_eq!(endless.wait().unwrap().code(), Some(0), "nobody reads it, as behind `head`");
    let events = json(&run(&["run", path, "--input", "3", "--stream", "--json"]));
    assert_eq!(events.len(), 6);
    assert_eq!((&events[1]["text"], &events[1]["sequence"]), (&json!(line(1)), &json!(1)));
    assert_eq!(events[5]["output"], line(3));

    let server = Server::start();
    server.load("a.numbers", &numbers(0)).await;
    let ask =
        |arguments: &[&str]| mentat().args(arguments).args(["--server", &server.grpc]).output().unwrap();
    let executed = ask(&["execute", "a.numbers", "--input", "3", "--stream"]);
    assert_eq!(text(&executed.stdout), lines + &line(3), "{}", text(&executed.stderr));
    let id = start(&server, "a.numbers", "3").await;
    let followed = ask(&["stream", &id, "--from", "3"]);
    assert_eq!(text(&followed.stdout), line(3) + &line(3), "{}", text(&followed.stderr));
    let seen = ask(&["stream", &id, "--from", "99"]);
    assert_eq!(
        (text(&seen.stdout).as_str(), seen.status.code()),
        ("", Some(0)),
        "who has seen the end is told nothing"
    );
    let events = json(&ask(&["stream", &id, "--json"]));
    assert_eq!((events.len(), &events[5]["exit_code"]), (6, &json!(0)));
    let unknown = ask(&["stream", "01890a5d-ac96-774b-bcce-b302099a8000"]);
    assert_eq!(unknown.status.code(), Some(3), "{}", text(&unknown.stderr));
}

/// A command that writes two lines.
const TWO_LINES: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\20\00\00\00\04\00\00\00\24\00\00\00\04\00\00\00")
  (data (i32.const 32) "one\0atwo\0a")
  (func (export "_start")
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))
    (drop (call $write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 16)))))"#;

#[tokio::test(flavor = "multi_thread")]
async fn the_output_of_a_command_is_written_once_from_wherever_it_is_followed() {
    let server = Server::start();
    server.load("a.command", TWO_LINES).await;
    let id = start(&server, "a.command", "").await;
    for (from, expected) in [("0", "one\ntwo\n"), ("1", "one\ntwo\n"), ("2", "two\n"), ("3", "")] {
        let followed =
            mentat().args(["stream", &id, "--from", from, "--server", &server.grpc]).output().unwrap();
        assert_eq!(text(&followed.stdout), expected, "from {from}: {}", text(&followed.stderr));
        assert_eq!(followed.status.code(), Some(0));
    }
}

/// A command that writes a line every fifty milliseconds, forty times.
const TICKS: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\20\00\00\00\05\00\00\00")
  (data (i32.const 32) "tick\0a")
  (func (export "_start")
    (local $left i32)
    (local.set $left (i32.const 40))
    ;; A subscription to the monotonic clock, in nanoseconds from now.
    (i32.store (i32.const 80) (i32.const 1))
    (i64.store (i32.const 88) (i64.const 50000000))
    (loop $again
      (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))
      (drop (call $poll (i32.const 64) (i32.const 128) (i32.const 1) (i32.const 20)))
      (local.set $left (i32.sub (local.get $left) (i32.const 1)))
      (br_if $again (local.get $left)))))"#;

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_late_to_a_command_that_was_not_detached_is_told_all_of_its_output() {
    let server = Server::start();
    server.load("a.ticks", TICKS).await;
    let execution_id = mentat_runtime::model::ExecutionId::new().to_string();
    let request = v1::ExecuteAgentRequest { execution_id: execution_id.clone(), ..execute("a.ticks", "") };
    let mut client = server.client().await;
    let executing = tokio::spawn(async move { client.execute_agent(request).await.unwrap().into_inner() });
    tokio::time::sleep(Duration::from_millis(700)).await;
    let mut events = follow(&server, &execution_id, 0).await.unwrap();
    let (mut told, mut chunks) = (Vec::new(), 0);
    while let Some(event) = events.next().await {
        match event.unwrap().event {
            Some(Event::StreamData(data)) => {
                told.extend_from_slice(&data.chunk);
                chunks += 1;
            }
            Some(Event::Response(response)) => assert_eq!(response.output, told),
            _ => {}
        }
    }
    assert_eq!(text(&told), "tick\n".repeat(40));
    assert!(chunks > 5, "as it is written: {chunks}");
    assert_eq!(executing.await.unwrap().output, told);
}
