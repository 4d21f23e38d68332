//! What must not be lost between a container and its caller, or told too late: output, its end, an answer in time.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mentat_proto::v1;

use super::engine::{Engine, IMAGE};
use super::faults::{begin, failed};
use super::{load, manifest, reason, run};
use crate::server::{eventually, execute};

#[tokio::test(flavor = "multi_thread")]
async fn output_is_whole_of_an_agent_that_reads_none_of_its_input() {
    let engine = Engine::start();
    let server = engine.server(&[]);
    load(&server, "a.unread", "unread", "").await;
    for length in [0, 70_000, 3_000_000] {
        for _ in 0..3 {
            let answer = run(&server, "a.unread", &"x".repeat(length)).await.unwrap();
            assert_eq!((answer.exit_code, answer.output.len()), (0, 1_000_000), "{length} bytes of input");
        }
    }
    engine.is_empty();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_most_memory_that_a_container_had_is_told() {
    let engine = Engine::start();
    let server = engine.server(&[]);
    load(&server, "a.touch", "touch", "resources: { memory: 64Mi }\n").await;
    let peak = run(&server, "a.touch", "").await.unwrap().metrics.unwrap().peak_memory_bytes;
    assert!((24 << 20..=64 << 20).contains(&peak), "{peak}");
    engine.is_empty();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_has_files_where_containers_have_directories_of_their_own_starts() {
    let engine = Engine::start();
    for folder in ["tmp", "run", "var/tmp"] {
        let folder = engine.path("image").join(folder);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("large"), vec![b'x'; 300_000]).unwrap();
    }
    engine.import("localhost/full:1", &[]);
    let server = engine.server(&[]);
    let agent = manifest("a.full", "look", "").replace(IMAGE, "localhost/full:1");
    server.load_module(&agent, &[]).await.unwrap();
    let answer = run(&server, "a.full", "list /tmp\nlist /run\nlist /var/tmp").await.unwrap();
    let facts = String::from_utf8(answer.output.into()).unwrap();
    for folder in ["/tmp", "/var/tmp"] {
        assert!(facts.contains(&format!("list {folder}: 0 entries")), "{facts}");
    }
    // The engine has a file of its own there.
    assert!(
        facts.lines().any(|line| line.starts_with("list /run: ") && !line.ends_with("300000")),
        "{facts}"
    );
    engine.is_empty();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cancels_is_answered_at_once_while_the_engine_hangs_and_nothing_is_left() {
    let engine = Engine::start();
    let server = engine.server(&[]);
    load(&server, "a.sleep", "sleep", "").await;
    // In the middle of it, and while its container is made.
    let running = begin(&engine, &server, "a.sleep").await;
    engine.signal(rustix::process::Signal::STOP);
    let request = v1::ExecuteAgentRequest { detach: true, ..execute("a.sleep", "") };
    let making = server.client().await.execute_agent(request).await.unwrap().into_inner().execution_id;
    tokio::time::sleep(Duration::from_millis(300)).await;
    for id in [running, making] {
        let since = Instant::now();
        let request = v1::CancelExecutionRequest { execution_id: id.clone() };
        server.client().await.cancel_execution(request).await.unwrap();
        assert_eq!(failed(&server, &id).await, "CANCELLED");
        // A hundred milliseconds, and what a busy machine adds.
        assert!(since.elapsed() < Duration::from_secs(2), "{:?}", since.elapsed());
    }
    engine.signal(rustix::process::Signal::CONT);
    engine.is_empty();
}

/// Passes connections on to an engine, and cuts those on which containers are spoken with.
struct Cutter {
    attached: Arc<Mutex<Vec<UnixStream>>>,
}

impl Cutter {
    fn at(socket: &Path, engine: &Engine) -> Self {
        let listener = UnixListener::bind(socket).unwrap();
        let attached = Arc::<Mutex<Vec<UnixStream>>>::default();
        let (known, target) = (Arc::clone(&attached), engine.socket());
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(engine) = UnixStream::connect(&target) else { continue };
                let both = [client.try_clone().unwrap(), engine.try_clone().unwrap()];
                let known = Arc::clone(&known);
                let (mut from, mut to) = (client.try_clone().unwrap(), engine.try_clone().unwrap());
                std::thread::spawn(move || {
                    pass(&mut from, &mut to, |bytes| {
                        if bytes.windows(7).any(|window| window == b"/attach") {
                            known
                                .lock()
                                .unwrap()
                                .extend(both.iter().map(|stream| stream.try_clone().unwrap()));
                        }
                    });
                });
                let (mut from, mut to) = (engine, client);
                std::thread::spawn(move || pass(&mut from, &mut to, |_| {}));
            }
        });
        Self { attached }
    }

    fn cut(&self) {
        for stream in self.attached.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn pass(from: &mut UnixStream, to: &mut UnixStream, seen: impl Fn(&[u8])) {
    let mut buffer = [0; 16 << 10];
    while let Ok(length) = from.read(&mut buffer) {
        seen(&buffer[..length]);
        if length == 0 || to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_while_the_agent_goes_on_is_no_end_of_the_agent() {
    let engine = Engine::start();
    let socket = engine.path("cut.sock");
    let cutter = Cutter::at(&socket, &engine);
    let server = engine.server_by(&socket, &[]);
    load(&server, "a.sleep", "sleep", "wasm: { timeout_ms: 2500 }\n").await;
    load(&server, "a.count", "count", "").await;
    load(&server, "a.echo", "echo", "").await;
    // Whole, it passes everything.
    assert_eq!(run(&server, "a.echo", "whole").await.unwrap().output, "whole");
    let id = begin(&engine, &server, "a.count").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    cutter.cut();
    assert_eq!(failed(&server, &id).await, "UNAVAILABLE");
    engine.is_empty();
    // The clock is the first to end it where that is sooner.
    let begun = begin(&engine, &server, "a.sleep").await;
    cutter.cut();
    let why = failed(&server, &begun).await;
    assert!(["TIMEOUT", "UNAVAILABLE"].contains(&why.as_str()), "{why}");
    engine.is_empty();
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_that_a_container_may_not_have_is_advised_on_by_its_own_key() {
    let engine = Engine::start();
    let server = engine.server(&[]);
    load(&server, "a.memory", "memory", "resources: { memory: 32Mi }\n").await;
    let (_, why, message) = reason(&server, "a.memory", "").await;
    assert_eq!(why, "MEMORY_LIMIT");
    assert!(message.contains("raise `resources.memory` in its manifest"), "{message}");
    eventually("the end", async || engine.containers().is_empty()).await;
}
