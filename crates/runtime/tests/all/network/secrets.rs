//! Secrets that a guest uses and never sees.

use mentat_runtime::NetworkConfig;
use mentat_runtime::model::Outcome;
use mentat_runtime::security::secret::Secret;
use serde_json::{Value, json};

use super::hosts;
use super::online::Online;
use super::servers::HttpServer;
use crate::harness::messages;

const VALUE: &str = "sk-0123/456+789 \"x\"";

struct Sealed {
    world: Online,
    server: HttpServer,
    network: String,
}

impl Sealed {
    /// A secret that may go to `api.test`, and a sealed variable that may go there as well.
    async fn new() -> Self {
        let server = HttpServer::start().await;
        let network = format!("network:http:*.test:{}", server.port);
        let config = NetworkConfig { hosts: hosts(&["api.test", "other.test"]), ..NetworkConfig::default() };
        let mut world = Online::new(&[&network, "secret:KEY", "env:TOKEN"]).network(config);
        let bound = [format!("http:api.test:{}", server.port)];
        world.world.offers.secrets.insert("KEY".into(), Secret::new(VALUE, &bound).unwrap());
        world.world.offers.sealed.insert("TOKEN".into(), Secret::new("another secret", &bound).unwrap());
        Self { world, server, network }
    }

    fn url(&self, host: &str, path: &str) -> String {
        format!("http://{host}.test:{}{path}", self.server.port)
    }

    async fn run(&self, secret: &str, arguments: &Value) -> Outcome {
        let input = format!("{secret}\n{}\n{arguments}", self.network);
        self.world.run(include_str!("send.wat"), &input).await
    }

    /// The placeholder and the answer.
    async fn send(&self, secret: &str, arguments: &Value) -> (String, String) {
        let answer = self.run(secret, arguments).await.result.unwrap();
        let output = String::from_utf8(answer.output.to_vec()).unwrap();
        assert_eq!(answer.exit_code, 0, "{output}");
        assert!(!output.contains(VALUE) && !output.contains("another secret"), "{output}");
        let (placeholder, answer) = output.split_once('\n').unwrap();
        assert!(placeholder.starts_with("mentat-secret-") && placeholder.len() == 46, "{placeholder}");
        (placeholder.to_owned(), answer.to_owned())
    }
}

#[tokio::test]
async fn a_secret_goes_to_its_host_in_headers_and_bodies_and_comes_back_as_its_placeholder() {
    let sealed = Sealed::new().await;
    for (secret, value) in [("secret:KEY", VALUE), ("env:TOKEN", "another secret")] {
        let asked = json!({
            "op": "request", "method": "POST", "url": sealed.url("api", "/told"),
            "headers": [["authorization", "Bearer @"], ["range", "bytes=0-3"], ["accept-encoding", "gzip"]],
            "body": "key=@&again=@",
        });
        let (placeholder, answer) = sealed.send(secret, &asked).await;
        let received = sealed.server.last_request();
        let body = format!("key={value}&again={value}");
        assert!(received.contains(&format!("authorization: Bearer {value}\n")), "{received}");
        assert!(received.contains(&format!("content-length: {}\n", body.len())), "{received}");
        assert!(
            received.contains("accept-encoding: identity\n") && !received.contains("range"),
            "{received}"
        );
        assert!(received.ends_with(&body), "{received}");
        // The server repeats all of it.
        let told = super::body(&answer);
        assert!(told.contains(&format!("authorization: Bearer {placeholder}\n")), "{told}");
        assert!(told.ends_with(&format!("key={placeholder}&again={placeholder}")), "{told}");
    }
}

#[tokio::test]
async fn another_host_gets_the_placeholder_and_the_log_says_why() {
    let sealed = Sealed::new().await;
    let asked = json!({
        "op": "request", "method": "POST", "url": sealed.url("other", "/told"),
        "headers": [["authorization", "Bearer @"]], "body": "@",
    });
    let (placeholder, answer) = sealed.send("secret:KEY", &asked).await;
    let received = sealed.server.last_request();
    assert!(received.contains(&format!("authorization: Bearer {placeholder}\n")), "{received}");
    assert!(received.ends_with(&format!("\n{placeholder}")) && answer.contains(&placeholder), "{received}");
    let outcome = sealed.run("secret:KEY", &asked).await;
    let logged = messages(&outcome.logs).join("\n");
    assert!(logged.contains("`secret:KEY` goes to `network:http:api.test"), "{logged}");
    assert!(!logged.contains(VALUE));
    // A URL is written into logs on its way, and so is never given one.
    let asked = json!({ "op": "request", "url": sealed.url("api", "/told?key=@") });
    let (placeholder, _) = sealed.send("secret:KEY", &asked).await;
    assert!(sealed.server.last_request().starts_with(&format!("GET /told?key={placeholder}\n")));
}

#[tokio::test]
async fn basic_credentials_hold_the_secret_too() {
    let sealed = Sealed::new().await;
    // `dXNlcjo=` is `user:`; the guest encodes name and placeholder, as libraries do.
    let asked = json!({
        "op": "request", "url": sealed.url("api", "/body"), "method": "POST",
        "headers": [["authorization", "Basic dXNlcjo="]], "body": "@",
    });
    sealed.send("secret:KEY", &asked).await;
    let received = sealed.server.last_request();
    assert!(
        received.contains("authorization: Basic dXNlcjo=\n"),
        "without a placeholder it stays: {received}"
    );
}

#[tokio::test]
async fn no_form_of_a_secret_comes_back() {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    let sealed = Sealed::new().await;
    // What the host says without being sent the secret in this request: it knows it from another one.
    let encoded = STANDARD.encode(format!("user:{VALUE}"));
    let hexadecimal: String = VALUE.bytes().map(|byte| format!("{byte:02X}")).collect();
    for text in [
        VALUE.to_owned(),
        VALUE.to_uppercase(),
        "sk-0123%2f456%2B789%20%22x%22".to_owned(),
        encoded,
        hexadecimal,
        serde_json::to_string(VALUE).unwrap(),
    ] {
        // Sent by the guest itself here, in a form that is no placeholder, so that the server repeats it.
        let asked =
            json!({ "op": "request", "method": "POST", "url": sealed.url("api", "/body"), "body": text });
        let answer = sealed.run("secret:KEY", &asked).await.result.unwrap();
        let output = String::from_utf8(answer.output.to_vec()).unwrap();
        let told = super::body(output.split_once('\n').unwrap().1);
        assert!(told.contains("mentat-secret-") && !told.contains(&text), "{text}: {told}");
    }
    let asked = json!({ "op": "request", "method": "POST", "url": sealed.url("api", "/gzip"), "body": "@" });
    let answer = sealed.run("secret:KEY", &asked).await.result.unwrap();
    let text = String::from_utf8_lossy(&answer.output).into_owned();
    assert!(answer.exit_code == -8 && text.contains("the response is gzip"), "{text}");
}

#[tokio::test]
async fn placeholders_are_of_one_execution_and_a_secret_wants_leave() {
    let sealed = Sealed::new().await;
    let asked = json!({ "op": "request", "url": sealed.url("api", "/told"), "headers": [["x-key", "@"]] });
    let (first, _) = sealed.send("secret:KEY", &asked).await;
    let (second, _) = sealed.send("secret:KEY", &asked).await;
    assert_ne!(first, second);
    // One of another execution is a text like any other.
    let stale = json!({ "op": "request", "url": sealed.url("api", "/told"), "headers": [["x-key", first]] });
    sealed.send("secret:KEY", &stale).await;
    assert!(sealed.server.last_request().contains(&format!("x-key: {first}")));
    let (code, text) = sealed.world.ask("secret:OTHER").await;
    assert!(code == -1 && text.contains("`secret:OTHER`"), "{text}");
    let mut sealed = sealed;
    sealed.world.world.policies = "permit (principal, action in Action::\"network\", resource);".into();
    let (code, text) = sealed.world.ask("secret:KEY").await;
    assert!(code == -2 && text.contains("resource == Secret::\"KEY\""), "{text}");
}

#[tokio::test]
async fn a_command_finds_placeholders_in_its_environment() {
    let sealed = Sealed::new().await;
    let environment = r#"(module
      (import "wasi_snapshot_preview1" "environ_get" (func $get (param i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "environ_sizes_get" (func $sizes (param i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 1)
      (func (export "_start")
        (drop (call $sizes (i32.const 0) (i32.const 4)))
        (drop (call $get (i32.const 1024) (i32.const 4096)))
        (i32.store (i32.const 16) (i32.const 4096))
        (i32.store (i32.const 20) (i32.load (i32.const 4)))
        (drop (call $write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 24)))))"#;
    let answer = sealed.world.run(environment, "").await.result.unwrap();
    let text = String::from_utf8(answer.output.to_vec()).unwrap();
    assert!(text.contains("KEY=mentat-secret-") && text.contains("TOKEN=mentat-secret-"), "{text:?}");
    assert!(!text.contains("sk-") && !text.contains("another"), "{text:?}");
}
