//! The network by a grant, against real servers on this machine: what is reached, what is not, and what a guest finds out.

mod online;
mod proxy;
mod secrets;
mod servers;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use mentat_manifest::{ByteCount, Capability, Host};
use mentat_runtime::NetworkConfig;
use mentat_runtime::error::Reason;
use mentat_runtime::security::policy::OnViolation;
use serde_json::{Value, json};

use self::online::Online;
use self::servers::{HttpServer, start_names};

/// A network that a looked-up name may lead to.
fn network(text: &str) -> Host {
    match format!("network:tcp:{text}").parse() {
        Ok(Capability::Network { host, .. }) => host,
        other => panic!("{text}: {other:?}"),
    }
}

fn hosts(names: &[&str]) -> BTreeMap<String, Vec<IpAddr>> {
    names.iter().map(|name| ((*name).to_owned(), vec![IpAddr::V4(Ipv4Addr::LOCALHOST)])).collect()
}

/// What comes of one request under one capability.
async fn request(world: &Online, capability: &str, arguments: Value) -> (i32, String) {
    world.ask(&format!("{capability}\n{arguments}")).await
}

fn body(answer: &str) -> String {
    let answer: Value = serde_json::from_str(answer).unwrap_or_else(|error| panic!("{answer}: {error}"));
    answer["body"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_request_carries_what_the_guest_gives_and_the_host_that_was_decided_on() {
    let server = HttpServer::start().await;
    let host = format!("127.0.0.1:{}", server.port);
    let capability = format!("network:http:{host}");
    let world = Online::new(&[&capability]);
    let asked = json!({
        "op": "request", "method": "POST", "url": format!("http://{host}/told?q=1#part"),
        "headers": [["x-one", "1"], ["x-one", "2"], ["host", host.as_str()]], "body": "hello",
    });
    let (code, answer) = request(&world, &capability, asked).await;
    assert_eq!(code, 0, "{answer}");
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["status"], 200);
    assert_eq!(
        answer["body"].as_str().unwrap(),
        format!("POST /told?q=1\ncontent-length: 5\nhost: {host}\nx-one: 1\nx-one: 2\nhello")
    );
    let binary = json!({ "op": "request", "url": format!("http://{host}/bytes") });
    let answer: Value = serde_json::from_str(&request(&world, &capability, binary).await.1).unwrap();
    assert_eq!((&answer["body"], &answer["body_base64"]), (&Value::Null, &json!("//4=")));
}

#[tokio::test]
async fn what_is_not_permitted_is_not_reached() {
    let server = HttpServer::start().await;
    let port = server.port;
    let here = format!("127.0.0.1:{port}");
    let granted = format!("network:http:{here}");
    let world = Online::new(&[&granted]);
    for (url, code, says) in [
        (format!("http://127.0.0.2:{port}/told"), -2, "the grant is for"),
        (format!("https://{here}/told"), -2, "the grant is for"),
        (format!("http://localhost:{port}/told"), -2, "the grant is for"),
        ("http://127.0.0.1:1/told".into(), -2, "the grant is for"),
        (format!("http://user:word@{here}/told"), -3, "user information"),
        (format!("http://{here}@127.0.0.2:{port}/told"), -3, "user information"),
        (format!("http://2130706433:{port}/told"), -3, "neither a name nor an address"),
        (format!("http://0177.0.0.1:{port}/told"), -3, "neither a name nor an address"),
        (format!("http://127.1:{port}/told"), -3, "neither a name nor an address"),
        (format!("ftp://{here}/told"), -3, "must begin with"),
        ("/told".into(), -3, "must begin with"),
        ("http://".into(), -3, "no URL"),
    ] {
        let (got, text) = request(&world, &granted, json!({ "op": "request", "url": url })).await;
        assert!(got == code && text.contains(says), "{url}: {got} {text}");
    }
    // IPv4-mapped IPv6 is the IPv4 that it is.
    let mapped = json!({ "op": "request", "url": format!("http://[::ffff:127.0.0.1]:{port}/told") });
    assert_eq!(request(&world, &granted, mapped).await.0, 0);
    assert_eq!(server.count(), 1);
    // Anybody's `*` is not this machine, and a host that is permitted in general may be forbidden in particular.
    let world = Online::new(&["network:http:*:*"]);
    let (code, text) = request(&world, &granted, json!({ "op": "request" })).await;
    assert!(code == -1 && text.contains("is not in the manifest"), "{text}");
    let forbid = "@id(\"a\") permit (principal, action, resource);\n@id(\"not here\") forbid (principal, action, resource) \
                  when { resource has address && resource.address.isLoopback() };";
    let world = Online::new(&[&granted]).policies(forbid);
    let (code, text) = request(&world, &granted, json!({ "op": "request" })).await;
    assert!(code == -2 && text.contains("`not here`"), "{text}");
    assert_eq!(server.count(), 1);
}

#[tokio::test]
async fn a_request_without_leave_ends_the_execution_where_the_operator_wants_that() {
    let mut world = Online::new(&["network:https:*.example.com"]).policies(
        "permit (principal, action in Action::\"network\", resource == Endpoint::\"*.example.com:443\");",
    );
    world.world.on_violation = OnViolation::Terminate;
    let arguments = json!({ "op": "request", "url": "https://a.example.com/" });
    let outcome =
        world.run(include_str!("../ask.wat"), &format!("network:https:*.example.com\n{arguments}")).await;
    let error = outcome.result.unwrap_err();
    assert_eq!(error.reason(), Reason::SecurityViolation, "{error}");
    assert!(error.to_string().contains("`network:https:a.example.com`"), "{error}");
}

#[tokio::test]
async fn a_policy_about_a_part_of_the_grant_is_asked_for_each_request() {
    let server = HttpServer::start().await;
    let port = server.port;
    let capability = format!("network:http:*.test:{port}");
    let policy = "permit (principal, action, resource in Domain::\"test\");\n\
                  @id(\"not b\") forbid (principal, action, resource in Domain::\"b.test\");";
    let config = NetworkConfig { hosts: hosts(&["a.test", "b.test"]), ..NetworkConfig::default() };
    // The grant itself is for all of them, which the second policy does not speak of.
    let world = Online::new(&[&capability]).policies(policy).network(config);
    let url = |name: &str| json!({ "op": "request", "url": format!("http://{name}:{port}/told") });
    assert_eq!(request(&world, &capability, url("a.test")).await.0, 0);
    assert_eq!(request(&world, &capability, url("A.Test.")).await.0, 0);
    let (code, text) = request(&world, &capability, url("b.test")).await;
    assert!(code == -2 && text.contains("`not b`"), "{text}");
    assert_eq!(request(&world, &capability, url("test")).await.0, -2);
    assert_eq!(server.count(), 2);
}

#[tokio::test]
async fn names_lead_where_they_may_however_often_they_change_their_mind() {
    let server = HttpServer::start().await;
    let port = server.port;
    let names = start_names(&[
        ("public.test", &[&["127.0.0.2"]]),
        ("private.test", &[&["127.0.0.1"]]),
        ("metadata.test", &[&["169.254.169.254"]]),
        ("six.test", &[&["::ffff:127.0.0.1", "fd00:ec2::254", "64:ff9b::7f00:1"]]),
        ("zero.test", &[&["0.0.0.0"]]),
        ("mixed.test", &[&["127.0.0.1", "127.0.0.2", "10.0.0.1"]]),
        ("rebinding.test", &[&["127.0.0.2"], &["127.0.0.1"]]),
        ("empty.test", &[&[]]),
    ])
    .await;
    // One address of this machine stands for the public ones.
    let config = NetworkConfig {
        nameservers: vec![names],
        reachable: vec![network("127.0.0.2")],
        ..NetworkConfig::default()
    };
    let capability = format!("network:http:*:{port}");
    let world = Online::new(&[&capability]).network(config);
    let get = async |name: &str| {
        let url = format!("http://{name}:{port}/local");
        request(&world, &capability, json!({ "op": "request", "url": url })).await
    };
    let (code, answer) = get("public.test").await;
    assert_eq!((code, body(&answer)), (0, "127.0.0.2".into()), "{answer}");
    for name in ["private.test", "metadata.test", "six.test", "zero.test"] {
        let (code, text) = get(name).await;
        assert!(code == -2 && text.contains("no public address"), "{name}: {code} {text}");
    }
    for name in ["empty.test", "unknown.test"] {
        let (code, text) = get(name).await;
        assert!(code == -4 && text.contains("has no address"), "{name}: {code} {text}");
    }
    for _ in 0..3 {
        assert_eq!(body(&get("mixed.test").await.1), "127.0.0.2");
    }
    assert_eq!(body(&get("rebinding.test").await.1), "127.0.0.2");
    let (code, text) = get("rebinding.test").await;
    assert!(code == -2 && !text.contains("127.0.0.1"), "{code} {text}");
    assert_eq!(server.count(), 5);
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_not_followed() {
    let server = HttpServer::start().await;
    let capability = format!("network:http:127.0.0.1:{}", server.port);
    let world = Online::new(&[&capability]);
    let url = format!("http://127.0.0.1:{}/redirect", server.port);
    let (code, answer) = request(&world, &capability, json!({ "op": "request", "url": url })).await;
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!((code, &answer["status"]), (0, &json!(302)));
    assert!(answer["headers"].as_array().unwrap().iter().any(|header| header[0] == "location"));
    assert_eq!(server.count(), 1);
}

#[tokio::test]
async fn certificates_are_for_the_name_that_was_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let (server, roots) = HttpServer::start_encrypted(&["good.test", "127.0.0.1"], folder.path()).await;
    let port = server.port;
    let capability = format!("network:https:*.test:{port}");
    let number = format!("network:https:127.0.0.1:{port}");
    let other_number = format!("network:https:127.0.0.2:{port}");
    let of = |roots| NetworkConfig {
        hosts: hosts(&["good.test", "other.test"]),
        roots,
        ..NetworkConfig::default()
    };
    let world = Online::new(&[&capability, &number, &other_number]).network(of(Some(roots)));
    let url = |host: &str| json!({ "op": "request", "url": format!("https://{host}:{port}/told") });
    let (code, answer) = request(&world, &capability, url("good.test")).await;
    assert!(code == 0 && body(&answer).contains(&format!("host: good.test:{port}")), "{answer}");
    assert_eq!(request(&world, &number, url("127.0.0.1")).await.0, 0);
    for (capability, host) in [(&capability, "other.test"), (&other_number, "127.0.0.2")] {
        let (code, text) = request(&world, capability, url(host)).await;
        assert!(code == -8 && text.contains("not valid for name"), "{host}: {code} {text}");
    }
    let stranger = Online::new(&[&capability]).network(of(None));
    let (code, text) = request(&stranger, &capability, url("good.test")).await;
    assert!(code == -8 && text.contains("no encrypted connection"), "{code} {text}");
    assert_eq!(server.requests.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn responses_and_requests_are_bounded() {
    let server = HttpServer::start().await;
    let port = server.port;
    let capability = format!("network:http:127.0.0.1:{port}");
    let config = NetworkConfig {
        response_bytes: ByteCount(100_000),
        request_bytes: ByteCount(1_000),
        ..NetworkConfig::default()
    };
    let world = Online::new(&[&capability]).network(config);
    let get = |path: &str| json!({ "op": "request", "url": format!("http://127.0.0.1:{port}{path}") });
    assert_eq!(request(&world, &capability, get("/large?n=100000")).await.0, 0);
    let (code, text) = request(&world, &capability, get("/large?n=100001")).await;
    assert!(code == -5 && text.contains("more than 100000 bytes"), "{code} {text}");
    let (code, text) = request(&world, &capability, get("/headers")).await;
    assert_eq!(code, -8, "{text}");
    let mut post = get("/told");
    post["body"] = "x".repeat(1_000).into();
    assert_eq!(request(&world, &capability, post.clone()).await.0, 0);
    post["body"] = "x".repeat(1_001).into();
    let (code, text) = request(&world, &capability, post).await;
    assert!(code == -5 && text.contains("more than 1000 bytes"), "{code} {text}");
    for (headers, code, says) in [
        (json!([["host", "other.example"]]), -3, "another host"),
        (json!([["connection", "upgrade"]]), -3, "set by the host"),
        (json!([["transfer-encoding", "chunked"]]), -3, "set by the host"),
        (json!([["content-length", "3"]]), -3, "set by the host"),
        (json!([["x-split", "a\r\nx-more: b"]]), -3, "no header may hold"),
        (json!([["bad name", "a"]]), -3, "no valid name"),
        (json!([["x", "y".repeat(20_000)]]), -5, "the limit is 16384"),
        (json!(vec![["x", "y"]; 101]), -3, "than 100, which is the limit"),
    ] {
        let mut get = get("/told");
        get["headers"] = headers;
        let (got, text) = request(&world, &capability, get).await;
        assert!(got == code && text.contains(says), "{got} {text}");
    }
}

#[tokio::test]
async fn a_host_that_keeps_the_guest_waiting_is_given_up() {
    let server = HttpServer::start().await;
    let port = server.port;
    let capability = format!("network:http:127.0.0.1:{port}");
    let quick = NetworkConfig { response_timeout: Duration::from_millis(300), ..NetworkConfig::default() };
    let world = Online::new(&[&capability]).network(quick);
    let get = |path: &str| json!({ "op": "request", "url": format!("http://127.0.0.1:{port}{path}") });
    for path in ["/slow", "/stall"] {
        let started = Instant::now();
        let (code, text) = request(&world, &capability, get(path)).await;
        assert!(code == -7 && text.contains("took too long"), "{path}: {code} {text}");
        assert!(started.elapsed() < Duration::from_secs(10), "{path}");
    }
    // A guest may be less patient than the operator, and not more.
    let patient = Online::new(&[&capability]);
    let mut slow = get("/slow");
    slow["timeout_ms"] = 200.into();
    let started = Instant::now();
    assert_eq!(request(&patient, &capability, slow).await.0, -7);
    assert!(started.elapsed() < Duration::from_secs(10));
    let mut slow = get("/slow");
    slow["timeout_ms"] = 60_000.into();
    let started = Instant::now();
    assert_eq!(request(&world, &capability, slow).await.0, -7);
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn an_exchange_goes_piece_by_piece() {
    let server = HttpServer::start().await;
    let port = server.port;
    let capability = format!("network:http:127.0.0.1:{port}");
    let world = Online::new(&[&capability]);
    let steps = async |steps: &[Value]| {
        let steps: Vec<String> = steps.iter().map(ToString::to_string).collect();
        world.ask(&format!("{capability}\n{}", steps.join("\n"))).await
    };
    let open = json!({ "op": "open", "method": "PUT", "url": format!("http://127.0.0.1:{port}/told") });
    let write = |data: &str| json!({ "op": "write", "exchange": 1, "data": data });
    let response = json!({ "op": "response", "exchange": 1 });
    let read = |length: usize| json!({ "op": "read", "exchange": 1, "length": length });
    let (code, head) = steps(&[open.clone(), write("one, "), write("two"), response.clone()]).await;
    let head: Value = serde_json::from_str(&head).unwrap_or_else(|error| panic!("{code} {head}: {error}"));
    assert_eq!((code, &head["status"], &head["body"]), (0, &json!(200), &Value::Null));
    assert!(
        server.last_request().ends_with("transfer-encoding: chunked\none, two"),
        "{}",
        server.last_request()
    );
    let answer = steps(&[open.clone(), write("x"), response.clone(), read(4), read(9)]).await;
    assert_eq!(answer, (0, "/told\nhos".into()));
    let pieces = json!({ "op": "open", "url": format!("http://127.0.0.1:{port}/pieces") });
    let all = [pieces, response.clone(), read(100), read(100), read(100), read(100)];
    assert_eq!(steps(&all[..3]).await, (0, "one ".into()));
    assert_eq!(steps(&all).await, (0, String::new()));
    // Out of order, or of nothing.
    for (wrong, code, says) in [
        (vec![read(1)], -9, "no exchange 1"),
        (vec![open.clone(), read(1)], -3, "`response` first"),
        (vec![open.clone(), response.clone(), write("x")], -3, "the response has begun"),
        (vec![open.clone(), response.clone(), response.clone()], -3, "`read` reads on"),
        (vec![open.clone(), json!({ "op": "close", "exchange": 1 }), write("x")], -9, "no exchange 1"),
        (vec![json!({ "op": "open", "url": "http://a/", "body": "x" })], -3, "no `body`"),
        (
            vec![json!({ "op": "open", "url": format!("http://127.0.0.1:{port}/told") }), write("x")],
            -3,
            "GET or HEAD",
        ),
        (vec![json!({ "op": "opne" })], -3, "unknown variant"),
        (vec![json!({ "op": "request", "url": "http://a/", "bdoy": "x" })], -3, "bdoy"),
    ] {
        let (got, text) = steps(&wrong).await;
        assert!(got == code && text.contains(says), "{wrong:?}: {got} {text}");
    }
    // A host that answers before it has read all.
    let early = json!({ "op": "open", "method": "PUT", "url": format!("http://127.0.0.1:{port}/early") });
    let (code, answer) = steps(&[early, response, read(100)]).await;
    assert_eq!((code, answer.as_str()), (0, "too much"));
}

#[tokio::test]
async fn connections_are_counted() {
    let server = HttpServer::start().await;
    let port = server.port;
    let capability = format!("network:http:127.0.0.1:{port}");
    let config = NetworkConfig { connections: 2, ..NetworkConfig::default() };
    let world = Online::new(&[&capability]).network(config);
    let open = json!({ "op": "open", "url": format!("http://127.0.0.1:{port}/stall") }).to_string();
    let response = |exchange: u32| json!({ "op": "response", "exchange": exchange }).to_string();
    let close = json!({ "op": "close", "exchange": 1 }).to_string();
    let all = [&*capability, &open, &response(1), &open, &response(2), &open, &response(3)].join("\n");
    let (code, text) = world.ask(&all).await;
    assert!(code == -6 && text.contains("2 exchanges"), "{code} {text}");
    let freed =
        [&*capability, &open, &response(1), &open, &response(2), &close, &open, &response(3)].join("\n");
    let (code, text) = world.ask(&freed).await;
    assert_eq!(code, 0, "{text}");
    // All of them end with the execution.
    assert_eq!(server.count(), 5);
}

#[tokio::test]
async fn an_extension_is_the_operators_and_is_told_who_calls() {
    let server = HttpServer::start().await;
    let at = |path: &str| {
        let url = format!("http://127.0.0.1:{}{path}", server.port);
        mentat_runtime::security::offers::Extension::new(&url).unwrap()
    };
    let mut world = Online::new(&["extension:geocode", "extension:broken", "extension:absent"]);
    world.world.offers.extensions.insert("geocode".into(), at("/told"));
    world.world.offers.extensions.insert("broken".into(), at("/nowhere"));
    let (code, told) = world.ask("extension:geocode\n{\"place\":\"Berlin\"}").await;
    assert_eq!(code, 0, "{told}");
    for part in
        ["POST /told", "content-type: application/json", "mentat-agent: a.b", "mentat-tenant: default"]
    {
        assert!(told.contains(part), "{part} is not in {told}");
    }
    assert!(told.ends_with("{\"place\":\"Berlin\"}"), "{told}");
    for (input, code, says) in [
        ("extension:geocode\nno json", -3, "the arguments"),
        ("extension:broken\n{}", -3, "404"),
        ("extension:absent\n{}", -3, "no extension of the operator's"),
        ("extension:other\n{}", -1, "not in the manifest"),
    ] {
        let (got, text) = world.ask(input).await;
        assert!(got == code && text.contains(says), "{input}: {got} {text}");
    }
}
