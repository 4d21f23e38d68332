//! The network as programs use it that know nothing of us: an agent with an HTTP library, and a client with the sockets
//! of its language, on the command line and in a service.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};

use mentat_proto::v1::ExecuteAgentRequest;

use crate::guests::manifest_with;
use crate::program::{mentat, run as run_program, text};
use crate::server::{Server, eventually, execute};

const TOKEN: &str = "a-token-of-some-length";

/// The client, compiled once for the tests of this process.
fn sockets() -> &'static Path {
    static MODULE: OnceLock<PathBuf> = OnceLock::new();
    MODULE.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/all/programs/sockets.rs");
        let module =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("sockets-{}.wasm", std::process::id()));
        let rustc = Command::new("rustc")
            .args(["--edition=2024", "--target=wasm32-wasip2", "-O", "-o"])
            .arg(&module)
            .arg(source)
            .output()
            .unwrap();
        assert!(rustc.status.success(), "{}", text(&rustc.stderr));
        module
    })
}

pub fn fetch() -> PathBuf {
    let agent = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../agents/fetch");
    assert!(agent.join("agent.wasm").exists(), "the agent `fetch` is not built; run `cargo xtask agents`");
    agent
}

/// A server that repeats what it gets until the other side has said all.
pub fn repeater() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut said = Vec::new();
                let _ = stream.read_to_end(&mut said);
                let _ = stream.write_all(&[b"repeat: ", said.as_slice()].concat());
            });
        }
    });
    port
}

/// A server of pages, each of which is the request's own header; and what it was asked.
pub fn pages() -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let requests = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let head = read_until(&mut stream, b"\r\n\r\n");
            let page = String::from_utf8(head).unwrap();
            if page.contains("transfer-encoding: chunked") {
                // The end of a body, which this library sends even where it is empty.
                read_until(&mut stream, b"0\r\n\r\n");
            }
            if page.starts_with("GET /slow") {
                std::thread::sleep(std::time::Duration::from_secs(1));
            }
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{page}", page.len());
            // Before the answer, so that who has that finds it here.
            requests.lock().unwrap().push(page);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    (port, asked)
}

fn read_until(stream: &mut TcpStream, end: &[u8]) -> Vec<u8> {
    let (mut read, mut byte) = (Vec::new(), [0]);
    while !read.ends_with(end) && stream.read(&mut byte).is_ok_and(|count| count > 0) {
        read.push(byte[0]);
    }
    read
}

/// What the client says, and what its log says.
fn client(arguments: &[&str], options: &[&str]) -> (String, String) {
    let mut command = mentat();
    command.arg("run").arg(sockets()).args(options).arg("--").args(arguments);
    let output = command.output().unwrap();
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn an_http_library_fetches_what_it_may_and_fails_as_it_does_where_it_may_not() {
    let (port, asked) = pages();
    let url = format!("http://127.0.0.1:{port}/page");
    let run = |options: &[&str]| {
        mentat().arg("run").arg(fetch()).args(["--input", &url]).args(options).output().unwrap()
    };
    let granted = run(&["--allow", &format!("network:http:127.0.0.1:{port}")]);
    assert_eq!(granted.status.code(), Some(0), "{}", text(&granted.stderr));
    assert!(text(&granted.stdout).starts_with("GET /page HTTP/1.1\r\n"), "{}", text(&granted.stdout));
    for options in [&[][..], &["--allow", "network:http:127.0.0.2:*"], &["--allow", "network:http:*:*"]] {
        let denied = run(options);
        let said = text(&denied.stderr);
        assert_eq!((denied.status.code(), denied.stdout.len()), (Some(1), 0), "{said}");
        assert!(said.contains("Error: "), "the error of the library: {said}");
        assert!(said.contains(&format!("`network:http:127.0.0.1:{port}` is not in the manifest")), "{said}");
    }
    assert_eq!(asked.lock().unwrap().len(), 1);
}

#[test]
fn a_secret_on_the_command_line_is_used_and_not_seen() {
    let (port, asked) = pages();
    let allow = format!("network:http:127.0.0.1:{port}");
    let run = |secret: &str| {
        let mut command = mentat();
        command.arg("run").arg(fetch()).args([
            "--input",
            &format!("http://127.0.0.1:{port}/"),
            "--allow",
            &allow,
        ]);
        command.args(["--secret", secret]).env("FETCH_TOKEN", TOKEN).output().unwrap()
    };
    let output = run(&format!("FETCH_TOKEN=http:127.0.0.1:{port}"));
    let page = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(asked.lock().unwrap()[0].contains(&format!("authorization: Bearer {TOKEN}\r\n")));
    assert!(page.contains("authorization: Bearer mentat-secret-") && !page.contains(TOKEN), "{page}");
    // Bound to another host, it stays what it is.
    run("FETCH_TOKEN=api.example.com");
    assert!(asked.lock().unwrap()[1].contains("authorization: Bearer mentat-secret-"));
    for (secret, says) in [
        ("FETCH_TOKEN=*", "any host"),
        ("FETCH_TOKEN=", "neither a name nor an address"),
        ("NO_SUCH_VARIABLE=api.example.com", "is not set"),
        ("HAS-DASH=api.example.com", "letters, digits"),
    ] {
        let output = run(secret);
        let said = text(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains(says) && !said.contains(TOKEN), "{said}");
    }
}

#[test]
fn the_sockets_of_a_language_reach_what_they_may() {
    let port = repeater();
    let address = format!("127.0.0.1:{port}");
    let allow = format!("network:tcp:{address}");
    assert_eq!(client(&["tcp", &address], &["--allow", &allow]).0, "repeat: hello\n");
    // Without leave, or for another port, address or protocol.
    for options in [
        vec![],
        vec!["--allow", "network:tcp:127.0.0.1:1"],
        vec!["--allow", "network:tcp:*"],
        vec!["--allow", "network:http:127.0.0.1:*"],
    ] {
        let (said, log) = client(&["tcp", &address], &options);
        assert!(said.starts_with("PermissionDenied"), "{options:?}: {said}");
        assert!(log.contains(&format!("--allow 'network:tcp:{address}'")), "{options:?}: {log}");
    }
    let (said, log) = client(&["listen", "127.0.0.1:0"], &["--allow", "network:tcp:127.0.0.1:*"]);
    assert!(said.starts_with("PermissionDenied"), "{said} {log}");
    assert!(
        log.contains("`network:tcp:127.0.0.1:0` is kept back by the sandbox: an agent cannot listen"),
        "{log}"
    );
    let (said, log) = client(&["bind", "127.0.0.1:5353"], &["--allow", "network:udp:127.0.0.1:*"]);
    assert!(said.starts_with("PermissionDenied"), "{said} {log}");
    assert!(log.contains("`network:udp:127.0.0.1:5353` is kept back by the sandbox"), "{log}");
    // This machine under its name is not named by number; nor may a stranger's name be looked up.
    let (said, log) = client(&["tcp", &format!("localhost:{port}")], &["--allow", "network:tcp:localhost:*"]);
    assert!(!said.starts_with("repeat") && log.contains("no public address"), "{said} {log}");
    let (said, log) = client(&["tcp", "db.example.com:5432"], &["--allow", &allow]);
    assert!(!said.starts_with("repeat") && log.contains("network:tcp:db.example.com"), "{said} {log}");
    let (said, log) = client(&["hold", &address], &["--allow", &allow]);
    assert!(
        said.starts_with("32 connections, then") && log.contains("`network.connections`"),
        "{said} {log}"
    );
}

#[test]
fn datagrams_go_where_they_may_and_come_from_there() {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = socket.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let stranger = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut buffer = [0; 100];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            // Whoever else sends to the guest's port is not heard.
            stranger.send_to(b"from a stranger", from).unwrap();
            socket.send_to(&[b"repeat: ", &buffer[..length]].concat(), from).unwrap();
        }
    });
    assert_eq!(
        client(&["udp", &address], &["--allow", &format!("network:udp:{address}")]).0,
        "repeat: hello\n"
    );
    let (said, _) = client(&["udp", &address], &["--allow", &format!("network:tcp:{address}")]);
    assert!(said.starts_with("PermissionDenied"), "{said}");
}

#[tokio::test]
async fn a_socket_alone_is_nobody_to_wait_for() {
    let server = Server::with(&["sandbox.sleep_ms=300"]);
    let module = std::fs::read(sockets()).unwrap();
    server.load_module(&manifest_with("a.sockets", "1.0.0", ""), &module).await.unwrap();
    let status = server.client().await.execute_agent(execute("a.sockets", "sleep 8")).await.unwrap_err();
    assert!(status.message().contains("slept for more than the allowed 300 ms"), "{status}");
}

#[tokio::test]
async fn a_service_gives_the_network_by_manifest_and_policy_and_names_by_configuration() {
    let (port, asked) = pages();
    let repeater = repeater();
    let folder = tempfile::tempdir().unwrap();
    let policies = "@id(\"net\") permit (principal == Agent::\"a.fetch\", action in Action::\"network\", resource in Domain::\"internal\");\n\
        @id(\"token\") permit (principal == Agent::\"a.fetch\", action == Action::\"env:read\", resource == Variable::\"FETCH_TOKEN\");\n";
    std::fs::write(folder.path().join("own.cedar"), policies).unwrap();
    let server = Server::with(&[
        &format!("policy.dir={}", folder.path().display()),
        // Waiting for a host is no sleep.
        "sandbox.sleep_ms=300",
        "network.hosts=[{ name = \"web.internal\", addresses = [\"127.0.0.1\"] }, \
         { name = \"other.internal\", addresses = [\"127.0.0.1\"] }]",
        &format!(
            "sandbox.env=[{{ name = \"FETCH_TOKEN\", value = \"{TOKEN}\", hosts = [\"http:web.internal:{port}\"] }}]"
        ),
    ]);
    let module = std::fs::read(fetch().join("agent.wasm")).unwrap();
    let capabilities = format!(
        "  timeout_ms: 20000\n  capabilities: [\"network:http:*.internal:{port}\", \"env:FETCH_TOKEN\"]\n"
    );
    let load = async |id: &str, wasm: &str, module: &[u8]| {
        server.load_module(&manifest_with(id, "1.0.0", wasm), module).await.unwrap();
    };
    load("a.fetch", &capabilities, &module).await;
    load("a.other", &capabilities, &module).await;
    let run = async |agent: &str, input: &str| {
        let request = ExecuteAgentRequest { include_logs: true, ..execute(agent, input.to_owned()) };
        let response = server.client().await.execute_agent(request).await.unwrap().into_inner();
        let log: Vec<String> = response.logs.iter().map(|line| line.message.clone()).collect();
        (response.exit_code, text(&response.output), log.join("\n"))
    };
    let (code, page, log) = run("a.fetch", &format!("http://web.internal:{port}/x")).await;
    assert_eq!(code, 0, "{log}");
    assert!(page.contains("authorization: Bearer mentat-secret-") && !page.contains(TOKEN), "{page}");
    assert!(asked.lock().unwrap()[0].contains(&format!("authorization: Bearer {TOKEN}\r\n")));
    let (code, page, _) = run("a.fetch", &format!("http://other.internal:{port}/x")).await;
    assert!(code == 0 && page.contains("authorization: Bearer mentat-secret-"), "{page}");
    assert!(!asked.lock().unwrap()[1].contains(TOKEN));
    let (code, _, log) = run("a.fetch", &format!("http://other.internal:{port}/slow")).await;
    assert_eq!(code, 0, "{log}");
    let (code, _, log) = run("a.fetch", &format!("http://127.0.0.1:{port}/x")).await;
    assert!(code == 1 && log.contains("is not in the manifest of `a.fetch`"), "{log}");
    let (code, _, log) = run("a.fetch", &format!("http://web.internal:{repeater}/x")).await;
    assert!(code == 1 && log.contains("is not in the manifest of `a.fetch`"), "{log}");
    let (code, _, log) = run("a.other", &format!("http://web.internal:{port}/x")).await;
    assert!(code == 1 && log.contains("permitted by no policy"), "{log}");
    assert_eq!(asked.lock().unwrap().len(), 3);
    // Whatever an agent asks for, no value is in the records; each decision is.
    let (code, _, _) = run("a.fetch", &format!("http://{TOKEN}.internal:{port}/x")).await;
    assert_eq!(code, 1);
    let folder = server.data().join("audit");
    let query = || text(&run_program(&["audit", "query", folder.to_str().unwrap()]).stdout);
    eventually("the records are written", async || query().contains("[redacted].internal")).await;
    let records = query();
    assert!(records.contains("network:http:web.internal"), "{records}");
    assert!(!records.contains(TOKEN), "{records}");
}
