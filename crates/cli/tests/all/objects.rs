//! Objects of the media store over HTTP: how those who call a service hand agents what is too large for a call, and fetch what
//! they made.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::guests::{ECHO, manifest_with};
use crate::program::{mentat, text};
use crate::server::{Server, eventually, execute};

/// Posts what a reader gives, without saying how long it is.
fn store(server: &Server, media_type: &str, content: impl Read + 'static) -> (u16, Value) {
    let url = format!("{}/v1/media", server.http);
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let body = ureq::SendBody::from_owned_reader(content);
    let mut answer = agent.post(&url).header("content-type", media_type).send(body).unwrap();
    (answer.status().as_u16(), answer.body_mut().read_json().unwrap())
}

fn get(server: &Server, path: &str, key: Option<&str>) -> http::Response<ureq::Body> {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let mut request = agent.get(format!("{}/v1/media/{path}", server.http));
    if let Some(key) = key {
        request = request.header("authorization", format!("Bearer {key}"));
    }
    request.call().unwrap()
}

/// Sends these bytes as they are and answers what comes back until the server closes.
fn raw(server: &Server, request: &[u8]) -> Vec<u8> {
    let mut connection = TcpStream::connect(server.http.strip_prefix("http://").unwrap()).unwrap();
    connection.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    connection.write_all(request).unwrap();
    let mut answer = Vec::new();
    // A connection that is cut is an answer as well.
    let _ = connection.read_to_end(&mut answer);
    answer
}

fn files_below(folder: &std::path::Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries
        .map(|entry| entry.unwrap().path())
        .map(|path| if path.is_dir() { files_below(&path) } else { 1 })
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_larger_than_all_that_may_be_on_its_way_comes_in_and_goes_out_and_is_what_agents_read() {
    let policies = tempfile::tempdir().unwrap();
    let policy = "@id(\"media\") permit (principal, action in Action::\"media\", resource);";
    std::fs::write(policies.path().join("media.cedar"), policy).unwrap();
    let dir = format!("policy.dir={}", policies.path().display());
    let server = Server::with(&[&dir, "server.max_message=1MB", "server.max_in_flight=16MB"]);
    let large = 64_u64 << 20;
    let (status, stored) = store(&server, "Video/MP4", std::io::repeat(b'v').take(large));
    assert_eq!((status, &stored["bytes"]), (201, &large.into()), "{stored}");
    let mut digest = Sha256::new();
    (0..64).for_each(|_| digest.update(vec![b'v'; 1 << 20]));
    let name = format!("sha256/{}", hex::encode(digest.finalize()));
    assert_eq!(stored["reference"], format!("media://{name}"));
    let mut fetched = get(&server, &name, None);
    let header = |name: &str| fetched.headers()[name].to_str().unwrap().to_owned();
    assert_eq!((fetched.status().as_u16(), header("content-type")), (200, "video/mp4".into()));
    assert_eq!(header("content-length"), large.to_string());
    // It can be anybody's page.
    assert_eq!(header("content-disposition"), "attachment");
    assert_eq!(header("content-security-policy"), "default-src 'none'; sandbox");
    let (mut reader, mut count) = (fetched.body_mut().as_reader(), 0_u64);
    let mut piece = vec![0; 1 << 20];
    loop {
        let read = reader.read(&mut piece).unwrap();
        assert!(piece[..read].iter().all(|byte| *byte == b'v'));
        if read == 0 {
            break;
        }
        count += read as u64;
    }
    assert_eq!(count, large);
    assert!(server.resident() < 300 << 20, "{}", server.resident());

    let (_, small) = store(&server, "text/plain", &b"hello"[..]);
    let manifest = manifest_with("a.echo", "1.0.0", "  capabilities: [\"media:read:\", \"media:write:\"]\n")
        + "inputs: [{ name: a, type: binary }]\noutputs: [{ name: b, type: binary }]\n";
    server.load_as(&manifest, ECHO).await.unwrap();
    let reference = small["reference"].as_str().unwrap().to_owned();
    let answer = server.client().await.execute_agent(execute("a.echo", reference.clone())).await.unwrap();
    assert_eq!(text(&answer.into_inner().output), reference);
    let mut made = get(&server, reference.strip_prefix("media://").unwrap(), None);
    assert_eq!(made.body_mut().read_to_string().unwrap(), "hello");
    let audit = server.data().join("audit");
    let recorded = async || {
        let records = mentat().args(["audit", "query", "--event", "media"]).arg(&audit).output().unwrap();
        let records = text(&records.stdout);
        let actions: Vec<(String, u64)> = records
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["media"].clone())
            .map(|media| (media["action"].as_str().unwrap().to_owned(), media["bytes"].as_u64().unwrap()))
            .collect();
        let expected = [("stored", large), ("read", large), ("stored", 5), ("read", 5)];
        actions == expected.map(|(action, bytes)| (action.to_owned(), bytes))
    };
    eventually("the records of what the caller did", recorded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_tenant_has_stored_nobody_else_finds() {
    let keys = ["one", "two"].map(|name| {
        let digest = hex::encode(Sha256::digest(name));
        format!(r#"{{ name = "{name}", tenant = "{name}", sha256 = "{digest}" }}"#)
    });
    let server = Server::with(&[&format!("auth.api_keys=[{}]", keys.join(","))]);
    let url = format!("{}/v1/media", server.http);
    let mut stored = ureq::post(&url).header("authorization", "Bearer one").send(&b"hello"[..]).unwrap();
    let stored: Value = stored.body_mut().read_json().unwrap();
    assert_eq!(stored["media_type"], "application/octet-stream");
    let name = stored["reference"].as_str().unwrap().strip_prefix("media://").unwrap().to_owned();
    let statuses = [Some("one"), Some("two"), None].map(|key| get(&server, &name, key).status().as_u16());
    assert_eq!(statuses, [200, 404, 401]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_an_object_is_said_and_leaves_nothing() {
    let server = Server::with(&["media.object_bytes=1MB", "media.bytes_per_tenant=2MB"]);
    let stored = server.data().join("media");
    let (status, told) = store(&server, "no type", &b"x"[..]);
    assert!(status == 400 && told["error"]["message"].as_str().unwrap().contains("`no type`"), "{told}");
    let (status, told) = store(&server, "text/plain", std::io::repeat(b'x').take(2 << 20));
    assert!(
        status == 413 && told["error"]["message"].as_str().unwrap().contains("media.object_bytes"),
        "{told}"
    );
    let declared = b"POST /v1/media HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99999999\r\nconnection: close\r\n\r\n";
    assert!(raw(&server, declared).starts_with(b"HTTP/1.1 413"));
    // Cut in the middle.
    let cut = b"POST /v1/media HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\nhello";
    {
        let mut connection = TcpStream::connect(server.http.strip_prefix("http://").unwrap()).unwrap();
        connection.write_all(cut).unwrap();
    }
    assert_eq!(files_below(&stored), 0);
    for part in 0..2_u8 {
        assert_eq!(store(&server, "text/plain", std::io::repeat(part).take(900_000)).0, 201);
    }
    // What was refused and what was cut takes nothing of the tenant's room, and what is too much is not kept.
    let (status, told) = store(&server, "text/plain", std::io::repeat(9).take(900_000));
    assert_eq!((status, told["error"]["reason"].as_str()), (503, Some("OVERLOADED")), "{told}");
    assert!(told["error"]["message"].as_str().unwrap().contains("media.bytes_per_tenant"), "{told}");

    for (path, status) in [
        ("sha256/2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824", 404),
        ("sha256/2CF2", 400),
        ("%2e%2e/%2e%2e/audit/checkpoint", 400),
        ("..%2f..%2faudit%2fcheckpoint", 400),
        (".mentat/parts", 400),
        ("a%00b", 400),
        ("%ff", 400),
        ("nothing.txt", 404),
    ] {
        let mut answer = get(&server, path, None);
        let told: Value = answer.body_mut().read_json().unwrap();
        assert_eq!(
            (answer.status().as_u16(), &told["error"]["reason"]),
            (status, &"INVALID_REQUEST".into()),
            "{path}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_is_damaged_is_not_handed_out_as_whole() {
    let server = Server::start();
    let (_, stored) = store(&server, "text/plain", std::io::repeat(b'x').take(3 << 20));
    let name = stored["reference"].as_str().unwrap().strip_prefix("media://").unwrap().to_owned();
    let file = server.data().join("media/objects/default").join(&name);
    let mut content = std::fs::read(&file).unwrap();
    content[0] = b'y';
    std::fs::write(&file, content).unwrap();
    let mut answer = get(&server, &name, None);
    assert_eq!(answer.status().as_u16(), 200, "it is found out at its end");
    assert!(answer.body_mut().with_config().limit(1 << 30).read_to_vec().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_keep_callers_from_objects() {
    for (callers, post, fetch) in [("read-only", 403, 404), ("none", 403, 403)] {
        let server = Server::with(&[&format!("media.callers={callers}")]);
        let (status, told) = store(&server, "text/plain", &b"x"[..]);
        assert_eq!((status, &told["error"]["reason"]), (post, &"POLICY_DENIED".into()), "{told}");
        assert!(told["error"]["message"].as_str().unwrap().contains("`media.callers`"), "{told}");
        assert_eq!(get(&server, "nothing.txt", None).status().as_u16(), fetch);
    }
}
