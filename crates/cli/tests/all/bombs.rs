//! Modules made to hurt the compiler or the server: each is refused within its limits, the server's memory stays
//! bounded, and an agent beside it answers as if alone.

use std::time::{Duration, Instant};

use mentat_proto::v1::LoadAgentRequest;
use mentat_proto::v1::wasm_runtime_client::WasmRuntimeClient;
use tonic_types::StatusExt;

use crate::guests::{ECHO, assemble, manifest};
use crate::server::{Server, eventually, execute};

/// A section: its id, its length, its content.
fn section(module: &mut Vec<u8>, id: u8, content: &[u8]) {
    module.push(id);
    leb(module, content.len());
    module.extend_from_slice(content);
}

fn leb(bytes: &mut Vec<u8>, mut value: usize) {
    loop {
        let low = u8::try_from(value & 0x7f).unwrap();
        value >>= 7;
        bytes.push(if value == 0 { low } else { low | 0x80 });
        if value == 0 {
            return;
        }
    }
}

/// A valid agent of `count` functions `() -> i32` with the same body, the first of them `process`.
fn functions(count: usize, body: &[u8]) -> Vec<u8> {
    let mut module = b"\0asm\x01\0\0\0".to_vec();
    section(&mut module, 1, &[1, 0x60, 0, 1, 0x7f]);
    let mut types = Vec::new();
    leb(&mut types, count);
    types.extend(std::iter::repeat_n(0, count));
    section(&mut module, 3, &types);
    section(&mut module, 5, &[1, 0, 1]);
    let mut exports = vec![2];
    exports.extend(b"\x06memory\x02\x00");
    exports.extend(b"\x07process\x00\x00");
    section(&mut module, 7, &exports);
    let mut code = Vec::new();
    leb(&mut code, count);
    for _ in 0..count {
        leb(&mut code, body.len());
        code.extend_from_slice(body);
    }
    section(&mut module, 10, &code);
    module
}

/// A body that adds and multiplies for `bytes` bytes.
fn long_body(bytes: usize) -> Vec<u8> {
    let mut body = vec![0, 0x41, 1];
    while body.len() < bytes {
        body.extend([0x41, 3, 0x6c, 0x41, 5, 0x6a]);
    }
    body.push(0x0b);
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn compile_bombs_end_within_their_limits_beside_an_agent_that_works() {
    let server = Server::with(&["compile.timeout_ms=4000", "compile.cpu_seconds=8"]);
    server.load("a.echo", ECHO).await;
    let small = [0, 0x41, 0, 0x0b];
    let bombs = [
        ("a.million", functions(1_000_000, &small)),
        ("a.functions", functions(900_000, &small)),
        ("a.long", functions(1, &long_body(7_000_000))),
    ];
    for (id, module) in bombs {
        let mut client = server.client().await;
        let manifest = manifest(id, "1.0.0");
        let loading = tokio::spawn(async move {
            let since = Instant::now();
            let request =
                LoadAgentRequest { manifest, wasm_bytes: module.into(), ..LoadAgentRequest::default() };
            (client.load_agent(request).await, since.elapsed())
        });
        // Meanwhile the neighbour answers.
        let mut client = server.client().await;
        let mut answers = 0;
        while !loading.is_finished() {
            let answer = client.execute_agent(execute("a.echo", "x")).await.unwrap().into_inner();
            assert_eq!(answer.output, "x");
            answers += 1;
        }
        let (result, took) = loading.await.unwrap();
        // What can be compiled in the time may be; it must not take longer than its limit, with room for a busy machine.
        assert!(took < Duration::from_secs(30), "{id} took {took:?}");
        if let Err(status) = result {
            assert_eq!(
                status.get_error_details().error_info().unwrap().reason,
                "INVALID_MODULE",
                "{id}: {status:?}"
            );
        }
        assert!(answers > 0, "nobody answered beside {id}");
        assert!(server.resident() < 1 << 30, "{id} left the server with {} bytes", server.resident());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compile_over_its_time_is_killed_and_said_so() {
    let server = Server::with(&["compile.timeout_ms=100"]);
    let module = functions(900_000, &[0, 0x41, 0, 0x0b]);
    let request = LoadAgentRequest {
        manifest: manifest("a.slow", "1.0.0"),
        wasm_bytes: module.into(),
        ..LoadAgentRequest::default()
    };
    let status = server.client().await.load_agent(request).await.unwrap_err();
    assert!(status.message().contains("more than 100 ms"), "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compile_over_its_memory_is_ended_and_said_so() {
    let server = Server::with(&["compile.memory=300MB"]);
    let request = LoadAgentRequest {
        manifest: manifest("a.fat", "1.0.0"),
        wasm_bytes: functions(300_000, &long_body(60)).into(),
        ..LoadAgentRequest::default()
    };
    let status = server.client().await.load_agent(request).await.unwrap_err();
    assert!(status.message().contains("300MB of memory"), "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn machine_code_is_refused() {
    let server = Server::start();
    for bytes in [std::fs::read("/proc/self/exe").unwrap()[..1 << 20].to_vec(), b"\x7fELF".to_vec()] {
        let request = LoadAgentRequest {
            manifest: manifest("a.elf", "1.0.0"),
            wasm_bytes: bytes.into(),
            ..LoadAgentRequest::default()
        };
        let status = server.client().await.load_agent(request).await.unwrap_err();
        assert!(status.message().contains("machine code"), "{status:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn loads_beyond_the_queue_of_compiles_are_refused_and_those_of_clients_that_left_make_room() {
    let server = Server::with(&["compile.timeout_ms=60000", "compile.queue_length=0"]);
    let load = |id: &str, module: Vec<u8>| {
        let (url, manifest) = (server.grpc.clone(), manifest(id, "1.0.0"));
        async move {
            let mut client = WasmRuntimeClient::connect(url).await.unwrap();
            let request =
                LoadAgentRequest { manifest, wasm_bytes: module.into(), ..LoadAgentRequest::default() };
            client.load_agent(request).await
        }
    };
    let bomb = tokio::spawn(load("a.bomb", functions(900_000, &[0, 0x41, 0, 0x0b])));
    eventually("the compile", async || server.children() > 0).await;
    let status = load("a.echo", assemble(ECHO)).await.unwrap_err();
    assert_eq!(status.get_error_details().error_info().unwrap().reason, "OVERLOADED", "{status:?}");
    assert!(status.message().contains("places for compiles"), "{status:?}");
    assert!(!bomb.is_finished(), "the bomb was compiled before anyone could be refused");
    // Who goes away takes the compile along.
    bomb.abort();
    eventually("room", async || load("a.echo", assemble(ECHO)).await.is_ok()).await;
    eventually("the end of the compile", async || server.children() == 0).await;
}
