//! What a registry can do that lies: nothing of it is believed, nothing is left of it, and nothing is told to whom it sends to.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mentat_proto::v1::LoadAgentRequest;
use serde_json::json;

use super::lying::{Agent, IMAGE_TYPE, Lying, digest, honest, say};
use super::{fails, path, succeeds};
use crate::guests::ECHO;
use crate::server::Server;

/// Pulls, which must come to nothing but the words, and leave nothing.
fn refuses(registry: &Lying, selector: &str, exit: i32, says: &str) -> String {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("agent");
    let said = fails(&["pull", &registry.name(selector), path(&folder), "--plain-http"], exit, says);
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
    said
}

#[test]
fn an_honest_registry_of_the_same_kind_is_believed() {
    let agent = Agent::new();
    let content = agent.content();
    let registry = Lying::start(move |path, _, stream| honest(&content, path, stream));
    let pinned = registry.name(&format!("@{}", digest(&agent.image())));
    assert_eq!(succeeds(&["run", &pinned, "--plain-http", "--input", "hello"]), "hello");
    assert_eq!(registry.asked().len(), 3);
}

#[test]
fn another_image_than_the_digest_says_is_refused() {
    let (agent, mut other) = (Agent::new(), Agent::new());
    other.image["annotations"] = json!({ "x": "y" });
    let at = format!("/v2/a/manifests/{}", digest(&agent.image()));
    let lie = other.image();
    let registry = Lying::but_for(&agent, &at, move |_, stream| {
        let head = format!("200 OK\r\ncontent-type: {IMAGE_TYPE}\r\ncontent-length: {}", lie.len());
        say(stream, &head, &lie);
    });
    refuses(&registry, &format!("@{}", digest(&agent.image())), 2, "answers with another one");
}

#[test]
fn a_module_with_another_digest_is_refused() {
    let agent = Agent::new();
    let mut lie = agent.module.clone();
    *lie.last_mut().unwrap() ^= 1;
    let registry = Lying::but_for(&agent, &agent.module_path(), move |_, stream| {
        say(stream, &format!("200 OK\r\ncontent-length: {}", lie.len()), &lie);
    });
    refuses(&registry, ":1", 2, "is not what it was when it was pushed");
}

#[test]
fn a_body_without_an_end_is_left() {
    let agent = Agent::new();
    let endless = |head: &'static str| {
        move |_: &str, stream: &mut TcpStream| {
            say(stream, head, b"");
            let chunk = [b"10000\r\n".as_slice(), &[b' '; 0x10000], b"\r\n"].concat();
            while stream.write_all(&chunk).is_ok() {}
        }
    };
    let image =
        "200 OK\r\ncontent-type: application/vnd.oci.image.manifest.v1+json\r\ntransfer-encoding: chunked";
    let registry = Lying::but_for(&agent, "/v2/a/manifests/1", endless(image));
    refuses(&registry, ":1", 2, "has more than the 1048576 bytes");
    let registry =
        Lying::but_for(&agent, &agent.module_path(), endless("200 OK\r\ntransfer-encoding: chunked"));
    refuses(&registry, ":1", 2, "bytes that it may have");
    // A refusal is read for its words, and no further than these may go.
    let refusal = "403 Forbidden\r\ntransfer-encoding: chunked";
    refuses(&Lying::but_for(&agent, "/v2/a/manifests/1", endless(refusal)), ":1", 4, "answers 403");
}

#[test]
fn a_length_that_is_a_lie_is_refused() {
    let agent = Agent::new();
    let module = agent.module.clone();
    for (length, says) in [
        (module.len() as u64 + 1, "is said to have"),
        (module.len() as u64 - 1, "is said to have"),
        (1 << 60, "is said to have"),
    ] {
        let module = module.clone();
        let registry = Lying::but_for(&agent, &agent.module_path(), move |_, stream| {
            say(stream, &format!("200 OK\r\ncontent-length: {length}"), &module);
        });
        refuses(&registry, ":1", 2, says);
    }
    for head in [
        "200 OK\r\ncontent-length: -5",
        "200 OK\r\ncontent-length: 99999999999999999999999",
        "200 OK\r\ncontent-length: 3\r\ncontent-length: 4",
    ] {
        let registry =
            Lying::but_for(&agent, &agent.module_path(), move |_, stream| say(stream, head, b"abc"));
        refuses(&registry, ":1", 2, "broke off");
    }
    // Right, but then there is not as much.
    let (length, half) = (module.len(), module[..10].to_vec());
    let registry = Lying::but_for(&agent, &agent.module_path(), move |_, stream| {
        say(stream, &format!("200 OK\r\ncontent-length: {length}"), &half);
    });
    refuses(&registry, ":1", 9, "broke off");
    let half = module[..10].to_vec();
    let registry = Lying::but_for(&agent, &agent.module_path(), move |_, stream| {
        say(stream, "200 OK\r\nconnection: close", &half);
    });
    refuses(&registry, ":1", 2, "ends after 10 of");
}

#[test]
fn sizes_that_are_said_are_believed_only_as_far_as_the_limits() {
    let mut agent = Agent::new();
    agent.image["layers"][0]["size"] = json!(1_u64 << 40);
    let content = agent.content();
    let registry = Lying::start(move |path, _, stream| honest(&content, path, stream));
    refuses(&registry, ":1", 2, "the limit is");
    assert_eq!(registry.asked().len(), 1, "nothing was asked for that is too large");
}

#[test]
fn what_is_no_artifact_of_webassembly_is_refused() {
    let agent = Agent::new();
    let page = b"<html>please log in</html>";
    let registry = Lying::but_for(&agent, "/v2/a/manifests/1", |_, stream| {
        say(stream, &format!("200 OK\r\ncontent-type: text/html\r\ncontent-length: {}", page.len()), page);
    });
    refuses(&registry, ":1", 2, "its media type is `text/html`");
    let compressed = Lying::but_for(&agent, &agent.module_path(), |_, stream| {
        say(stream, "200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 3", b"abc");
    });
    refuses(&compressed, ":1", 2, "is compressed");
    let mut container = Agent::new();
    container.image["layers"][0]["mediaType"] = json!("application/vnd.oci.image.layer.v1.tar+gzip");
    let content = container.content();
    let registry = Lying::start(move |path, _, stream| honest(&content, path, stream));
    refuses(&registry, ":1", 2, "not `application/wasm`");
    let odd = Lying::start(|_, _, stream| {
        let body = br#"{"errors":[{"code":"GONE","message":"\u001b[2J\u202e looks like output"}]}"#;
        say(stream, &format!("404 Not Found\r\ncontent-length: {}", body.len()), body);
    });
    let said = refuses(&odd, ":1", 3, "GONE");
    assert!(!said.contains('\u{1b}') && !said.contains('\u{202e}'), "{said}");
}

#[test]
fn redirects_end_and_lead_nowhere_else_unless_that_is_named() {
    let agent = Agent::new();
    let round = Lying::but_for(&agent, &agent.module_path(), |head, stream| {
        let path = head.split(' ').nth(1).unwrap();
        say(stream, &format!("307 Temporary Redirect\r\nlocation: {path}\r\ncontent-length: 0"), b"");
    });
    refuses(&round, ":1", 2, "sends on and on");
    for location in
        ["http://169.254.169.254/latest/meta-data", "file:///etc/passwd", "http://user:pass@127.0.0.1/", "//"]
    {
        let away = Lying::but_for(&agent, &agent.module_path(), move |_, stream| {
            say(stream, &format!("302 Found\r\nlocation: {location}\r\ncontent-length: 0"), b"");
        });
        refuses(&away, ":1", 2, "sends on to");
    }
    // By HTTPS it could be a store, which would have a public address.
    let away = Lying::but_for(&agent, &agent.module_path(), |_, stream| {
        say(stream, "302 Found\r\nlocation: https://127.0.0.1:1/secret\r\ncontent-length: 0", b"");
    });
    refuses(&away, ":1", 2, "is not a public one");
}

#[test]
fn a_store_that_is_named_is_asked_without_the_credentials() {
    let agent = Agent::new();
    let module = agent.module.clone();
    let store = Lying::start(move |_, _, stream| {
        say(stream, &format!("200 OK\r\ncontent-length: {}", module.len()), &module);
    });
    let (content, at, port) = (agent.content(), agent.module_path(), store.port);
    let registry = Lying::start(move |path, head, stream| {
        if !head.to_lowercase().contains("authorization: basic ") {
            say(stream, "401 Unauthorized\r\nwww-authenticate: Basic realm=x\r\ncontent-length: 0", b"");
        } else if path == at {
            say(
                stream,
                &format!(
                    "307 x\r\nlocation: http://127.0.0.1:{port}/blob?signature=s#f\r\ncontent-length: 0"
                ),
                b"",
            );
        } else {
            honest(&content, path, stream);
        }
    });
    let (folder, auth) = login(&registry);
    let name = registry.name(":1");
    let options = ["--plain-http", "--registry-auth", path(&auth), "--input", "x"];
    fails(&[&["run", &name], &options[..]].concat(), 2, "plain HTTP to another host");
    assert_eq!(store.asked().len(), 0);
    let host = format!("127.0.0.1:{}", store.port);
    assert_eq!(succeeds(&[&["run", &name, "--registry-host", &host], &options[..]].concat()), "x");
    let asked = store.asked();
    assert_eq!(asked.len(), 1);
    assert!(
        asked[0].starts_with("GET /blob?signature=s HTTP/1.1\r\n")
            && !asked[0].to_lowercase().contains("authorization"),
        "{asked:?}"
    );
    drop(folder);
}

/// A file with a name and a password for a registry.
fn login(registry: &Lying) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("auth.json");
    let auths = json!({ "auths": { format!("127.0.0.1:{}", registry.port): { "auth": STANDARD.encode("user:pass") } } });
    std::fs::write(&file, auths.to_string()).unwrap();
    (folder, file)
}

/// One that wants a token, from where it says.
fn wanting_token(agent: &Agent, realm: impl Fn(u16) -> String + Send + Sync + 'static) -> Lying {
    let content = agent.content();
    Lying::start(move |path, head, stream| {
        let lower = head.to_lowercase();
        let port =
            lower.split("host: 127.0.0.1:").nth(1).unwrap().split('\r').next().unwrap().parse().unwrap();
        if path.starts_with("/token?") {
            let token = br#"{"access_token":"t0ken","expires_in":60}"#;
            say(stream, &format!("200 OK\r\ncontent-length: {}", token.len()), token);
        } else if lower.contains("authorization: bearer t0ken\r\n") {
            honest(&content, path, stream);
        } else {
            let challenge = format!("Bearer realm=\"{}\",service=\"s & t\"", realm(port));
            say(
                stream,
                &format!("401 Unauthorized\r\nwww-authenticate: {challenge}\r\ncontent-length: 0"),
                b"",
            );
        }
    })
}

#[test]
fn a_token_is_had_from_the_registrys_own_host_for_the_one_repository() {
    let agent = Agent::new();
    let registry = wanting_token(&agent, |port| format!("http://127.0.0.1:{port}/token"));
    let (_folder, auth) = login(&registry);
    let name = registry.name(":1");
    assert_eq!(
        succeeds(&["run", &name, "--plain-http", "--registry-auth", path(&auth), "--input", "x"]),
        "x"
    );
    let asked = registry.asked();
    let tokens: Vec<&String> = asked.iter().filter(|head| head.starts_with("GET /token?")).collect();
    assert_eq!(tokens.len(), 1, "{asked:?}");
    assert!(
        tokens[0].starts_with("GET /token?service=s+%26+t&scope=repository%3Aa%3Apull HTTP/1.1"),
        "{tokens:?}"
    );
    assert!(tokens[0].to_lowercase().contains("authorization: basic"), "{tokens:?}");
    assert!(
        asked
            .iter()
            .filter(|head| !head.starts_with("GET /token?"))
            .all(|head| !head.to_lowercase().contains("basic")),
        "{asked:?}"
    );
}

#[test]
fn a_token_service_on_another_host_is_not_asked() {
    let agent = Agent::new();
    let registry = wanting_token(&agent, |_| "http://localhost:1/token".to_owned());
    let (_folder, auth) = login(&registry);
    let name = registry.name(":1");
    let arguments = ["run", &name, "--plain-http", "--registry-auth", path(&auth)];
    fails(&arguments, 2, "wants a token from `localhost:1`, which is another host");
    // Where nothing is ever right, it is asked twice and no more.
    let never = Lying::start(|path, _, stream| {
        if path.starts_with("/token") {
            say(stream, "200 OK\r\ncontent-length: 13", br#"{"token":"x"}"#);
        } else {
            let port = stream.local_addr().unwrap().port();
            say(
                stream,
                &format!(
                    "401 x\r\nwww-authenticate: Bearer realm=\"http://127.0.0.1:{port}/token\"\r\ncontent-length: 0"
                ),
                b"",
            );
        }
    });
    refuses(&never, ":1", 4, "answers 401");
    assert_eq!(never.asked().len(), 3);
}

#[tokio::test]
async fn a_registry_that_stalls_keeps_the_server_from_nothing_and_not_for_long() {
    let agent = Agent::new();
    let stalls = [
        ("was silent", Lying::start(|_, _, _| std::thread::sleep(Duration::from_secs(60)))),
        (
            "was silent",
            Lying::but_for(&agent, &agent.module_path(), |_, stream| {
                say(stream, "200 OK\r\ntransfer-encoding: chunked", b"1\r\na\r\n");
                std::thread::sleep(Duration::from_secs(60));
            }),
        ),
        (
            "was not done within",
            Lying::but_for(&agent, &agent.module_path(), |_, stream| {
                say(stream, "200 OK\r\ntransfer-encoding: chunked", b"");
                while stream.write_all(b"1\r\na\r\n").is_ok() {
                    std::thread::sleep(Duration::from_millis(300));
                }
            }),
        ),
    ];
    let names: Vec<String> =
        stalls.iter().map(|(_, registry)| format!("\"127.0.0.1:{}\"", registry.port)).collect();
    let names = names.join(",");
    let server = Server::with(&[
        &format!("oci.registries=[{names}]"),
        &format!("oci.insecure=[{names}]"),
        "oci.idle_timeout_ms=1000",
        "oci.timeout_ms=4000",
        "oci.concurrent=1",
    ]);
    let selector = format!("@{}", digest(&agent.image()));
    for (says, registry) in &stalls {
        let request = LoadAgentRequest { reference: registry.name(&selector), ..LoadAgentRequest::default() };
        let since = Instant::now();
        let mut client = server.client().await;
        let (mut waiting, again) = (server.client().await, request.clone());
        let (stalled, full) = tokio::join!(client.load_agent(request), async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            waiting.load_agent(again).await.unwrap_err()
        });
        let stalled = stalled.unwrap_err();
        assert_eq!(stalled.code(), tonic::Code::Unavailable, "{stalled}");
        assert!(stalled.message().contains(says), "{says} is not in {stalled}");
        assert!(full.message().contains("`oci.concurrent`"), "{full}");
        assert!(since.elapsed() < Duration::from_secs(20));
    }
    // Its place is free again, and other agents are loaded as ever.
    server.load("a.echo", ECHO).await;
}

#[test]
fn an_upload_goes_to_the_registry_and_nowhere_else() {
    let registry = Lying::start(|_, head, stream| {
        if head.starts_with("HEAD ") {
            say(stream, "404 Not Found\r\ncontent-length: 0", b"");
        } else {
            say(stream, "202 Accepted\r\nlocation: https://example.com/upload\r\ncontent-length: 0", b"");
        }
    });
    let folder = super::echo();
    fails(&["push", path(folder.path()), &registry.name(":1"), "--plain-http"], 2, "another host");
    assert_eq!(registry.asked().len(), 2);
}

#[test]
fn what_is_pulled_is_a_module_where_a_module_may_be_and_takes_no_other_place() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("agent");
    std::fs::create_dir(&folder).unwrap();
    for (file, text) in [("manifest.yaml", "mine"), (".bashrc", "mine"), ("run.sh", "mine")] {
        std::fs::write(folder.join(file), text).unwrap();
    }
    std::fs::create_dir(folder.join(".git")).unwrap();
    let pulls = |agent: &Agent, says: &str| {
        let content = agent.content();
        let registry = Lying::start(move |path, _, stream| honest(&content, path, stream));
        for force in [&["--force"][..], &[]] {
            let into = if force.is_empty() { scratch.path().join("new") } else { folder.clone() };
            let name = registry.name(":1");
            fails(&[&["pull", &name, path(&into), "--plain-http"], force].concat(), 2, says);
        }
        assert!(!scratch.path().join("new").exists(), "{says}");
        for file in ["manifest.yaml", ".bashrc", "run.sh"] {
            assert_eq!(std::fs::read_to_string(folder.join(file)).unwrap(), "mine", "{says}: {file}");
        }
        assert_eq!(std::fs::read_dir(folder.join(".git")).unwrap().count(), 0, "{says}");
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 1, "{says}");
    };
    let at = |module: &str| {
        let text = crate::guests::manifest("a.echo", "1.0.0");
        assert!(text.contains("module: agent.wasm\n"), "{text}");
        text.replace("module: agent.wasm", &format!("module: \"{module}\""))
    };
    let module = crate::guests::assemble(ECHO);
    for place in [
        "../outside.wasm",
        "/etc/cron.d/x",
        ".bashrc",
        ".git/hooks/post-checkout",
        "a/../b",
        "manifest.yaml",
        "manifest.yaml/x",
    ] {
        pulls(&Agent::of(&at(place), module.clone()), "must be a file beside the manifest");
    }
    pulls(&Agent::of(&at("run.sh"), b"#!/bin/sh\nrm -rf ~\n".to_vec()), "which begins with `\\0asm`");
    pulls(&Agent::of("no manifest", module), "a mapping of keys");
}

#[test]
fn of_several_challenges_in_one_header_the_one_that_is_known_is_answered() {
    let agent = Agent::new();
    let content = agent.content();
    let registry = Lying::start(move |path, head, stream| {
        if head.to_lowercase().contains("authorization: basic dxnlcjpwyxnz") {
            honest(&content, path, stream);
        } else {
            let challenges = "Negotiate, Digest realm=\"a, b\", nonce=\"x\", Basic realm=\"r\", Bearer realm=\"http://localhost:1/\"";
            let head = format!("401 Unauthorized\r\nwww-authenticate: {challenges}\r\ncontent-length: 0");
            say(stream, &head, b"");
        }
    });
    let (_folder, auth) = login(&registry);
    let options = ["--plain-http", "--registry-auth", path(&auth), "--input", "x"];
    assert_eq!(succeeds(&[&["run", &registry.name(":1")], &options[..]].concat()), "x");
    let kerberos = Lying::start(|_, _, stream| {
        say(stream, "401 x\r\nwww-authenticate: Negotiate dG9rZW4=, NTLM\r\ncontent-length: 0", b"");
    });
    refuses(&kerberos, ":1", 4, "wants `Negotiate`, which is not known here");
}

#[test]
fn what_is_for_a_part_of_a_registry_is_said_for_that_part_alone() {
    let agent = Agent::new();
    let content = agent.content();
    let registry = Lying::start(move |path, head, stream| {
        if head.to_lowercase().contains("authorization: basic ") {
            honest(&content, path, stream);
        } else {
            say(stream, "401 Unauthorized\r\nwww-authenticate: Basic realm=x\r\ncontent-length: 0", b"");
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("auth.json");
    let run = |names: &[(&str, &str)]| {
        let auths: serde_json::Map<String, serde_json::Value> = names
            .iter()
            .map(|(part, login)| {
                (format!("127.0.0.1:{}{part}", registry.port), json!({ "auth": STANDARD.encode(login) }))
            })
            .collect();
        std::fs::write(&file, json!({ "auths": auths }).to_string()).unwrap();
        ["run", &registry.name(":1"), "--plain-http", "--registry-auth", path(&file), "--input", "x"]
            .map(str::to_owned)
    };
    let words = run(&[("", "all:1"), ("/a", "part:2"), ("/b", "other:3"), ("/a/c", "deeper:4")]);
    assert_eq!(succeeds(&words.each_ref().map(String::as_str)), "x");
    let said = format!("authorization: basic {}", STANDARD.encode("part:2").to_lowercase());
    let asked = registry.asked();
    let with: Vec<&String> =
        asked.iter().filter(|head| head.to_lowercase().contains("authorization")).collect();
    assert!(!with.is_empty() && with.iter().all(|head| head.to_lowercase().contains(&said)), "{asked:?}");
    // What is for others is not said, and that is told.
    let before = registry.asked().len();
    let words = run(&[("/b", "other:3"), ("/ab", "near:4")]);
    fails(&words.each_ref().map(String::as_str), 4, "for other parts of it, and none for this repository");
    assert!(registry.asked()[before..].iter().all(|head| !head.to_lowercase().contains("authorization")));
}
