//! Receipts as their users have them: a server gives one, and whoever has its public key checks it without the server.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use mentat_proto::v1::{ExecuteAgentRequest, GetExecutionRequest};
use serde_json::{Value, json};
use tokio_stream::StreamExt;

use crate::guests::{ECHO, TRAP, assemble, manifest};
use crate::program::{run, text};
use crate::server::{Server, eventually, execute};

/// A server that signs checkpoints once in an hour, unless somebody waits for one.
async fn server() -> Server {
    let server = Server::with(&["audit.checkpoint_ms=3600000"]);
    server.load("a.echo", ECHO).await;
    server.load("a.trap", TRAP).await;
    server
}

fn key(server: &Server) -> PathBuf {
    server.data().join("audit/key.pub")
}

fn execute_by_command(server: &Server, agent: &str, input: &str, options: &[&str]) -> Output {
    run(&[&["execute", agent, "--input", input, "--server", &server.grpc], options].concat())
}

fn verify(receipt: &Path, key: &Path, options: &[&str]) -> (Option<i32>, String) {
    let paths = [receipt.to_str().unwrap(), "--key", key.to_str().unwrap()];
    let output = run(&[&["verify-receipt"], &paths[..], options].concat());
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

fn statement(receipt: &Path) -> Value {
    use base64::Engine;
    let envelope: Value = serde_json::from_slice(&std::fs::read(receipt).unwrap()).unwrap();
    let payload = base64::engine::general_purpose::STANDARD.decode(envelope["payload"].as_str().unwrap());
    serde_json::from_slice(&payload.unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_proves_what_was_executed_without_the_server() {
    let mut server = server().await;
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let receipt = at("receipt.json");
    let output = execute_by_command(&server, "a.echo", "hello", &["--receipt", receipt.to_str().unwrap()]);
    assert_eq!((text(&output.stdout).as_str(), output.status.code()), ("hello", Some(0)), "{output:?}");
    let public = at("key.pub");
    std::fs::copy(key(&server), &public).unwrap();
    server.kill();

    for (name, content) in [
        ("input", &b"hello"[..]),
        ("module", &assemble(ECHO)),
        ("manifest", manifest("a.echo", "1.0.0").as_bytes()),
        ("other", b"hello!"),
    ] {
        std::fs::write(at(name), content).unwrap();
    }
    let files = ["input", "output", "module", "manifest"];
    let path = |name: &str| at(if name == "output" { "input" } else { name }).to_str().unwrap().to_owned();
    let given: Vec<String> = files.iter().flat_map(|name| [format!("--{name}"), path(name)]).collect();
    let given: Vec<&str> = given.iter().map(String::as_str).collect();
    let (code, said) = verify(&receipt, &public, &given);
    assert_eq!(code, Some(0), "{said}");
    let execution = statement(&receipt)["predicate"]["execution_id"].as_str().unwrap().to_owned();
    for line in [
        "signature: by the key `mentat+",
        "log: record 0 of `mentat`, in the tree of 1 records that the same key has signed",
        &format!("execution: {execution}, success, exit code 0"),
        "agent: a.echo 1.0.0, untrusted",
        "input: sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824, 5 bytes",
        "denials: 0",
        "is the manifest",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    for name in files {
        let (code, said) = verify(&receipt, &public, &[&format!("--{name}"), at("other").to_str().unwrap()]);
        assert_eq!(code, Some(4), "{said}");
        assert!(said.contains(&format!("the {name} is not the one of the execution")), "{said}");
    }
    let json = run(&[
        "verify-receipt",
        receipt.to_str().unwrap(),
        "--key",
        public.to_str().unwrap(),
        "--input",
        &path("input"),
        "--json",
    ]);
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((&json["valid"], &json["files"]), (&json!(true), &json!(["the input"])), "{json}");
    assert_eq!(json["receipt"]["agent"]["id"], "a.echo");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_that_was_changed_says_what_is_wrong_with_it() {
    let server = server().await;
    let folder = tempfile::tempdir().unwrap();
    let receipt = folder.path().join("receipt.json");
    execute_by_command(&server, "a.echo", "hello", &["--receipt", receipt.to_str().unwrap()]);
    let bytes = std::fs::read(&receipt).unwrap();
    let envelope: Value = serde_json::from_slice(&bytes).unwrap();
    let other = Server::start();
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut envelope = envelope.clone();
        change(&mut envelope);
        envelope.to_string().into_bytes()
    };
    let mut swapped = statement(&receipt);
    swapped["predicate"]["exit_code"] = json!(1);
    let swapped = base64(swapped.to_string().as_bytes());
    let (own, theirs, no_key) = (key(&server), key(&other), folder.path().join("no.pub"));
    std::fs::write(&no_key, "mentat+00000000+AAAA").unwrap();
    for (content, key, exit, says) in [
        (bytes.clone(), &theirs, 4, "not signed by the key"),
        (changed(&|envelope| envelope["payload"] = json!(swapped)), &own, 4, "not signed by the key"),
        (changed(&|envelope| envelope["signatures"][0]["sig"] = json!("AAAA")), &own, 4, "not signed by"),
        (changed(&|envelope| envelope["payloadType"] = json!("a/b")), &own, 2, "no receipt of an execution"),
        (changed(&|envelope| envelope["payload"] = json!("~")), &own, 2, "`payload` cannot be read"),
        (bytes[..bytes.len() / 2].to_vec(), &own, 2, "the receipt cannot be read"),
        (b"\xff\0".to_vec(), &own, 2, "the receipt cannot be read"),
        (vec![b' '; 2 << 20], &own, 2, "the limit"),
        (bytes.clone(), &no_key, 2, "no public key"),
    ] {
        let path = folder.path().join("changed.json");
        std::fs::write(&path, content).unwrap();
        let (code, said) = verify(&path, key, &[]);
        assert!(code == Some(exit) && said.contains(says), "{says}: {code:?} {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_execution_that_failed_has_a_receipt_as_well() {
    let server = server().await;
    let folder = tempfile::tempdir().unwrap();
    let receipt = folder.path().join("receipt.json");
    let output = execute_by_command(&server, "a.trap", "x", &["--receipt", receipt.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(8), "{}", text(&output.stderr));
    let (code, said) = verify(&receipt, &key(&server), &[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(", TRAP\n") && said.contains("output: none"), "{said}");
    // What was never executed has none, and leaves no file behind.
    let none = folder.path().join("none.json");
    let output = execute_by_command(&server, "no.such", "x", &["--receipt", none.to_str().unwrap()]);
    assert_eq!((output.status.code(), none.exists()), (Some(3), false), "{}", text(&output.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_door_gives_receipts() {
    let server = server().await;
    let folder = tempfile::tempdir().unwrap();
    let check = |name: &str, receipt: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, receipt).unwrap();
        let (code, said) = verify(&path, &key(&server), &[]);
        assert_eq!(code, Some(0), "{name}: {said}");
        statement(&path)["predicate"]["execution_id"].as_str().unwrap().to_owned()
    };
    let mut client = server.client().await;
    let request = ExecuteAgentRequest { receipt: true, ..execute("a.echo", "x") };
    let answer = client.execute_agent(request.clone()).await.unwrap().into_inner();
    assert_eq!(answer.execution_id, check("grpc", &answer.receipt));
    let asked = GetExecutionRequest { execution_id: answer.execution_id.clone() };
    assert_eq!(client.get_execution(asked).await.unwrap().into_inner().receipt, answer.receipt);
    let mut events = client.execute_agent_stream(request).await.unwrap().into_inner();
    let end = events.next().await.unwrap().unwrap().event.unwrap();
    let mentat_proto::v1::execute_agent_event::Event::Response(end) = end else { panic!("{end:?}") };
    assert_eq!(end.execution_id, check("stream", &end.receipt));
    let without = client.execute_agent(execute("a.echo", "x")).await.unwrap().into_inner();
    assert_eq!((without.receipt.as_ref(), without.receipt_problem.as_str()), (&b""[..], ""));

    let post = |agent: &str| {
        let url = format!("{}/v1/agents/{agent}/execute", server.http);
        let request = ureq::post(url).config().http_status_as_error(false).build();
        let mut answer = request
            .content_type("application/json")
            .send(json!({ "input": "x", "receipt": true }).to_string())
            .unwrap();
        answer.body_mut().read_json::<Value>().unwrap()
    };
    let answer = post("a.echo");
    assert_eq!(answer["execution_id"], check("http", answer["receipt"].to_string().as_bytes()));
    let failed = post("a.trap")["error"]["execution_id"].as_str().unwrap().to_owned();
    let url = format!("{}/v1/executions/{failed}", server.http);
    let kept: Value = ureq::get(url).call().unwrap().body_mut().read_json().unwrap();
    assert_eq!(failed, check("kept", kept["receipt"].to_string().as_bytes()));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_receipt_is_promised_while_the_log_cannot_be_written() {
    let server = Server::with(&["audit.checkpoint_ms=20", "audit.on_failure=continue"]);
    server.load("a.echo", ECHO).await;
    let mut client = server.client().await;
    let wanted = ExecuteAgentRequest { receipt: true, ..execute("a.echo", "x") };
    client.execute_agent(wanted.clone()).await.unwrap();
    let audit = server.data().join("audit");
    std::fs::remove_dir_all(&audit).unwrap();
    std::fs::write(&audit, "in the way").unwrap();
    // This one ran before anybody knew: its answer comes without the receipt, and says why.
    let answer = client.execute_agent(wanted.clone()).await.unwrap().into_inner();
    assert_eq!((answer.output.as_ref(), answer.receipt.len()), (&b"x"[..], 0));
    assert!(answer.receipt_problem.contains("audit log cannot be written"), "{answer:?}");
    eventually("the log fails", async || server.log().contains("audit log")).await;
    let status = client.execute_agent(wanted).await.unwrap_err();
    assert!(status.message().contains("no receipt can be promised"), "{status}");
    assert_eq!(client.execute_agent(execute("a.echo", "x")).await.unwrap().into_inner().output, "x");
    let file = tempfile::tempdir().unwrap().path().join("none/receipt.json");
    let output = execute_by_command(&server, "a.echo", "x", &["--receipt", file.to_str().unwrap()]);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(2), &b""[..]), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_of_others_finds_receipts_in_order() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let python = root.join(".tools/python/bin/python");
    assert!(python.exists(), "{} is not there; run `cargo xtask test`", python.display());
    let server = server().await;
    // Enough records that proofs have several hashes, and lie in several tiles.
    let mut client = server.client().await;
    for _ in 0..260 {
        client.execute_agent(execute("a.echo", "x")).await.unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let receipt = folder.path().join("receipt.json");
    execute_by_command(&server, "a.echo", "hello", &["--receipt", receipt.to_str().unwrap()]);
    let ran = Command::new(&python)
        .arg(root.join("crates/cli/tests/all/receipt.py"))
        .args([&receipt, &key(&server)])
        .arg("hello")
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}\n{}", text(&ran.stdout), text(&ran.stderr));
    assert_eq!(text(&ran.stdout).trim(), "record 260 of 261");
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
