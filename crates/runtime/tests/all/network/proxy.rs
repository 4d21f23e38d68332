//! The network of an agent outside this process, as it speaks to its proxy: what is passed on, what is not, and what it is
//! told. The bytes are written by hand where libraries would not write them.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mentat_manifest::ByteCount;
use mentat_runtime::security::policy::OnViolation;
use mentat_runtime::{Egress, NetworkConfig, StandardStreams};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::TcpListener;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

use super::online::Online;
use super::servers::{HttpServer, start_names};
use super::{hosts, network};

/// What comes of writing these bytes, until the proxy has closed the connection.
async fn ask(egress: &Egress, written: &str) -> String {
    let (mut agent, proxy) = tokio::io::duplex(64 << 10);
    let asking = async move {
        agent.write_all(written.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = agent.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    };
    tokio::join!(egress.serve(proxy), asking).1
}

/// The same where the agent ends its side of the connection as soon as it has said all.
async fn ask_and_end(egress: &Egress, written: &str) -> String {
    let (mut agent, proxy) = tokio::io::duplex(64 << 10);
    let asking = async move {
        agent.write_all(written.as_bytes()).await.unwrap();
        agent.shutdown().await.unwrap();
        let mut answer = Vec::new();
        agent.read_to_end(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    };
    tokio::join!(egress.serve(proxy), asking).1
}

fn get(url: &str) -> String {
    format!("GET {url} HTTP/1.1\r\n\r\n")
}

fn log(streams: &StandardStreams) -> String {
    let lines = streams.finish(true).logs;
    lines.into_iter().map(|line| line.message).collect::<Vec<_>>().join("\n")
}

/// A tunnel that is open, or what was said in its place.
async fn tunnel(mut agent: DuplexStream, to: &str) -> Result<DuplexStream, String> {
    agent.write_all(format!("CONNECT {to} HTTP/1.1\r\nhost: {to}\r\n\r\n").as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match agent.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    let head = String::from_utf8(head).unwrap();
    if head.starts_with("HTTP/1.1 200") { Ok(agent) } else { Err(head) }
}

/// A server that repeats what it reads, and how many bytes that were.
async fn repeater() -> (u16, Arc<std::sync::atomic::AtomicUsize>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let (port, read) =
        (listener.local_addr().unwrap().port(), Arc::<std::sync::atomic::AtomicUsize>::default());
    let counted = Arc::clone(&read);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let counted = Arc::clone(&counted);
            tokio::spawn(async move {
                let mut buffer = vec![0; 1 << 16];
                while let Ok(length) = stream.read(&mut buffer).await {
                    counted.fetch_add(length, std::sync::atomic::Ordering::SeqCst);
                    if length == 0 || stream.write_all(&buffer[..length]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (port, read)
}

#[tokio::test]
async fn a_request_is_passed_on_without_what_is_the_connections() {
    let server = HttpServer::start().await;
    let here = format!("127.0.0.1:{}", server.port);
    let (egress, streams) = Online::new(&[&format!("network:http:{here}")]).egress();
    let written = format!(
        "POST http://{here}/told?q=1 HTTP/1.1\r\nHost: elsewhere.example\r\nhost: again.example\r\nx-one: 1\r\n\
         Connection: close, x-hop\r\nx-hop: 1\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: Basic eDp5\r\n\
         TE: trailers\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\nKeep-Alive: 5\r\ncontent-length: 5\r\n\r\nhello"
    );
    let answer = ask(&egress, &written).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let told = format!("POST /told?q=1\ncontent-length: 5\nhost: {here}\nx-one: 1\nhello");
    assert!(answer.ends_with(&told), "{answer}");
    // In pieces, and by an old client.
    let chunked = format!(
        "POST http://{here}/told HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"
    );
    let answer = ask(&egress, &chunked).await;
    assert!(answer.contains("transfer-encoding: chunked\nhello"), "{answer}");
    let answer = ask(&egress, &format!("GET http://{here}/told HTTP/1.0\r\n\r\n")).await;
    assert!(answer.ends_with(&format!("GET /told\nhost: {here}\n")), "{answer}");
    assert_eq!((server.count(), log(&streams).as_str()), (3, ""));
}

#[tokio::test]
async fn what_is_not_permitted_or_no_request_is_answered_and_not_passed_on() {
    let server = HttpServer::start().await;
    let port = server.port;
    let (egress, streams) = Online::new(&[&format!("network:http:127.0.0.1:{port}")]).egress();
    let here = format!("127.0.0.1:{port}");
    for (written, status, says) in [
        (get(&format!("http://127.0.0.2:{port}/told")), 403, "is not in the manifest"),
        (get(&format!("http://localhost:{port}/told")), 403, "is not in the manifest"),
        (get(&format!("https://{here}/told")), 403, "is not in the manifest"),
        (get("http://127.0.0.1/told"), 403, "is not in the manifest"),
        (get(&format!("http://user@{here}/told")), 400, "user information"),
        (get(&format!("http://{here}@127.0.0.2:{port}/told")), 400, "user information"),
        (get(&format!("http://2130706433:{port}/told")), 400, "neither a name nor an address"),
        (get(&format!("http://127.1:{port}/told")), 400, "neither a name nor an address"),
        (get(&format!("ftp://{here}/told")), 400, "must begin with"),
        (format!("GET /told HTTP/1.1\r\nhost: {here}\r\n\r\n"), 400, "this is a proxy"),
        (format!("OPTIONS * HTTP/1.1\r\nhost: {here}\r\n\r\n"), 400, "this is a proxy"),
        // A tunnel is for connections, or for HTTPS; neither was permitted.
        (format!("CONNECT {here} HTTP/1.1\r\n\r\n"), 403, "`network:tcp:127.0.0.1"),
        ("CONNECT a.example:443 HTTP/1.1\r\n\r\n".into(), 403, "`network:https:a.example:443`"),
        ("CONNECT user@a.example:443 HTTP/1.1\r\n\r\n".into(), 400, "user information"),
        ("CONNECT a.example:443 HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc".into(), 400, "has a body"),
        ("CONNECT *.example:443 HTTP/1.1\r\n\r\n".into(), 400, ""),
    ] {
        let answer = ask(&egress, &written).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{written}: {answer}");
        assert!(answer.contains(says), "{written}: {answer}");
    }
    assert_eq!(server.count(), 0);
    let log = log(&streams);
    assert!(log.contains("`network:http:127.0.0.2:") && log.contains("this is a proxy"), "{log}");
}

#[tokio::test]
async fn one_connection_is_one_request_whatever_comes_behind_it() {
    let server = HttpServer::start().await;
    let here = format!("127.0.0.1:{}", server.port);
    let (egress, _) = Online::new(&[&format!("network:http:{here}")]).egress();
    let second = format!("GET http://{here}/second HTTP/1.1\r\n\r\n");
    for first in [
        format!("GET http://{here}/told HTTP/1.1\r\n\r\n"),
        format!("POST http://{here}/told HTTP/1.1\r\ncontent-length: 0\r\n\r\n"),
        // Two lengths, or none that can be believed.
        format!(
            "POST http://{here}/told HTTP/1.1\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
        ),
        format!("POST http://{here}/told HTTP/1.1\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\nabcd"),
        format!("POST http://{here}/told HTTP/1.1\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
        format!("POST http://{here}/told HTTP/1.1\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n"),
        format!("POST http://{here}/told HTTP/1.1\r\ncontent-length: +4\r\n\r\nabcd"),
        format!("POST http://{here}/told HTTP/1.1\r\ncontent-length : 4\r\n\r\nabcd"),
        format!(
            "POST http://{here}/told HTTP/1.1\r\nconnection: content-length\r\ncontent-length: 4\r\n\r\nabcd"
        ),
        format!("GET http://{here}/told HTTP/1.1\r\nx: 1\r\n folded: 2\r\n\r\n"),
    ] {
        let answer = ask(&egress, &format!("{first}{second}")).await;
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{first}: {answer}");
    }
    let asked = server.requests.lock().unwrap();
    assert!(!asked.iter().any(|request| request.contains("/second")), "{asked:?}");
    // Never both lengths.
    assert!(
        !asked.iter().any(|request| request.contains("content-length") && request.contains("chunked")),
        "{asked:?}"
    );
}

#[tokio::test]
async fn names_are_looked_up_by_the_proxy_and_lead_where_they_may() {
    let server = HttpServer::start().await;
    let port = server.port;
    let names = start_names(&[
        ("public.test", &[&["127.0.0.2"]]),
        ("private.test", &[&["127.0.0.1"]]),
        ("metadata.test", &[&["169.254.169.254"]]),
        ("rebinding.test", &[&["127.0.0.2"], &["127.0.0.1"]]),
    ])
    .await;
    let config = NetworkConfig {
        nameservers: vec![names],
        reachable: vec![network("127.0.0.2/32")],
        hosts: hosts(&["own.test"]),
        ..NetworkConfig::default()
    };
    let world = Online::new(&["network:http:*.test:*", "network:tcp:*.test:*"]).network(config);
    let (egress, _) = world.egress();
    for (name, is) in [
        ("public.test", "HTTP/1.1 200"),
        ("own.test", "HTTP/1.1 200"),
        ("private.test", "HTTP/1.1 403"),
        ("metadata.test", "HTTP/1.1 403"),
        ("rebinding.test", "HTTP/1.1 200"),
        ("rebinding.test", "HTTP/1.1 403"),
        ("nowhere.test", "HTTP/1.1 502"),
    ] {
        let answer = ask(&egress, &get(&format!("http://{name}:{port}/local"))).await;
        assert!(answer.starts_with(is), "{name}: {answer}");
        if is.ends_with("403") {
            assert!(answer.contains("proxy-status: mentat; error=destination_ip_prohibited"), "{answer}");
        }
    }
    let (agent, proxy) = tokio::io::duplex(64 << 10);
    let to = format!("private.test:{port}");
    let (_, refused) = tokio::join!(egress.serve(proxy), tunnel(agent, &to));
    assert!(refused.unwrap_err().starts_with("HTTP/1.1 403"));
}

#[tokio::test]
async fn a_tunnel_for_connections_carries_anything_and_one_for_https_an_encrypted_connection_with_its_host() {
    let folder = tempfile::tempdir().unwrap();
    let (server, roots) = HttpServer::start_encrypted(&["api.test", "other.test"], folder.path()).await;
    let (port, read) = repeater().await;
    let config = NetworkConfig { hosts: hosts(&["api.test"]), ..NetworkConfig::default() };
    let world = Online::new(&[
        &format!("network:tcp:127.0.0.1:{port}"),
        &format!("network:https:api.test:{}", server.port),
        &format!("network:https:api.test:{port}"),
    ])
    .network(config);
    let (egress, streams) = world.egress();

    let (agent, proxy) = tokio::io::duplex(64 << 10);
    let to = format!("127.0.0.1:{port}");
    let speaking = async {
        let mut tunnel = tunnel(agent, &to).await.unwrap();
        tunnel.write_all(b"any bytes").await.unwrap();
        tunnel.shutdown().await.unwrap();
        let mut answer = String::new();
        tunnel.read_to_string(&mut answer).await.unwrap();
        answer
    };
    assert_eq!(tokio::join!(egress.serve(proxy), speaking).1, "any bytes");
    assert_eq!(read.load(std::sync::atomic::Ordering::SeqCst), 9);

    let mut store = RootCertStore::empty();
    store.add(CertificateDer::from_pem_file(&roots).unwrap()).unwrap();
    let client = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(store)
        .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(client));
    let encrypted = async |name: &'static str| {
        let (agent, proxy) = tokio::io::duplex(64 << 10);
        let to = format!("api.test:{}", server.port);
        let speaking = async {
            let tunnel = tunnel(agent, &to).await.unwrap();
            let mut tls = connector.connect(ServerName::try_from(name).unwrap(), tunnel).await?;
            tls.write_all(b"GET /told HTTP/1.1\r\nhost: api.test\r\nconnection: close\r\n\r\n").await?;
            let mut answer = String::new();
            tls.read_to_string(&mut answer).await.map(|_| answer)
        };
        tokio::join!(egress.serve(proxy), speaking).1
    };
    let answer = encrypted("api.test").await.unwrap();
    assert!(answer.contains("GET /told\nconnection: close\nhost: api.test"), "{answer}");
    assert!(encrypted("other.test").await.is_err());
    assert_eq!(server.requests.lock().unwrap().len(), 1);

    // Nothing else goes through it, not a byte.
    read.store(0, std::sync::atomic::Ordering::SeqCst);
    for bytes in [&b"SSH-2.0-x\r\n"[..], b"GET / HTTP/1.1\r\n\r\n", &[22, 3, 1, 0xff, 0xff], &[22; 20_000]] {
        let (agent, proxy) = tokio::io::duplex(64 << 10);
        let to = format!("api.test:{port}");
        let speaking = async {
            let mut tunnel = tunnel(agent, &to).await.unwrap();
            let _ = tunnel.write_all(bytes).await;
            let _ = tunnel.shutdown().await;
            let mut answer = Vec::new();
            let _ = tunnel.read_to_end(&mut answer).await;
            answer
        };
        assert_eq!(tokio::join!(egress.serve(proxy), speaking).1, b"");
    }
    assert_eq!(read.load(std::sync::atomic::Ordering::SeqCst), 0);
    let log = log(&streams);
    assert!(log.contains("is for another host than the tunnel"), "{log}");
    assert!(log.contains("begins no encrypted connection"), "{log}");
}

#[tokio::test]
async fn who_ends_its_side_after_a_request_is_answered() {
    let server = HttpServer::start().await;
    let here = format!("127.0.0.1:{}", server.port);
    let (egress, streams) = Online::new(&[&format!("network:http:{here}")]).egress();
    for (written, told) in [
        (get(&format!("http://{here}/told")), "GET /told"),
        (format!("GET http://{here}/told HTTP/1.0\r\n\r\n"), "GET /told"),
        (format!("POST http://{here}/told HTTP/1.1\r\ncontent-length: 5\r\n\r\nhello"), "hello"),
        (
            format!(
                "POST http://{here}/told HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
            ),
            "hello",
        ),
    ] {
        let answer = ask_and_end(&egress, &written).await;
        // In the version that it was asked in.
        assert!(answer.starts_with("HTTP/1.") && answer.contains(" 200 OK\r\n"), "{written}: {answer}");
        assert!(answer.contains(told), "{written}: {answer}");
    }
    assert_eq!((server.count(), log(&streams).as_str()), (4, ""));
    // Who ends within a request has asked for nothing.
    for cut in [
        format!("GET http://{here}/told HTTP/1.1\r\nx:"),
        format!("POST http://{here}/told HTTP/1.1\r\ncontent-length: 5\r\n\r\nhe"),
    ] {
        let answer = ask_and_end(&egress, &cut).await;
        assert!(!answer.starts_with("HTTP/1.1 200"), "{cut}: {answer}");
    }
}

#[tokio::test]
async fn who_goes_away_is_waited_for_no_longer_than_the_host() {
    let server = HttpServer::start().await;
    let here = format!("127.0.0.1:{}", server.port);
    let config = NetworkConfig {
        connections: 1,
        response_timeout: Duration::from_millis(300),
        ..NetworkConfig::default()
    };
    let (egress, _) = Online::new(&[&format!("network:http:{here}")]).network(config).egress();
    let since = Instant::now();
    for path in ["slow", "stall"] {
        let (mut agent, proxy) = tokio::io::duplex(64 << 10);
        agent.write_all(get(&format!("http://{here}/{path}")).as_bytes()).await.unwrap();
        drop(agent);
        egress.serve(proxy).await;
    }
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    // Its place is free again.
    let answer = ask(&egress, &get(&format!("http://{here}/told"))).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn each_side_of_a_tunnel_ends_by_itself() {
    let (port, read) = repeater().await;
    let to = format!("127.0.0.1:{port}");
    // A host that says all first, and hears what is said to it then.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let first = listener.local_addr().unwrap().to_string();
    // One that never says anything, nor ends.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let mute = silent.local_addr().unwrap().to_string();
    let config = NetworkConfig {
        connections: 1,
        response_timeout: Duration::from_millis(700),
        ..NetworkConfig::default()
    };
    let listed = [&to, &first, &mute].map(|to| format!("network:tcp:{to}"));
    let listed: Vec<&str> = listed.iter().map(String::as_str).collect();
    let (egress, streams) = Online::new(&listed).network(config).egress();

    // All that the agent says, and its end, is there before the tunnel is.
    let answer = ask_and_end(&egress, &format!("CONNECT {to} HTTP/1.1\r\n\r\nany bytes")).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\nany bytes"), "{answer}");
    assert_eq!(read.load(std::sync::atomic::Ordering::SeqCst), 9);

    let hearing = tokio::spawn(async move {
        let (mut host, _) = listener.accept().await.unwrap();
        host.write_all(b"all there is").await.unwrap();
        host.shutdown().await.unwrap();
        let mut heard = String::new();
        host.read_to_string(&mut heard).await.unwrap();
        heard
    });
    let (agent, proxy) = tokio::io::duplex(64 << 10);
    let speaking = async {
        let mut tunnel = tunnel(agent, &first).await.unwrap();
        let mut answer = String::new();
        tunnel.read_to_string(&mut answer).await.unwrap();
        tunnel.write_all(b"and an answer").await.unwrap();
        tunnel.shutdown().await.unwrap();
        answer
    };
    assert_eq!(tokio::join!(egress.serve(proxy), speaking).1, "all there is");
    assert_eq!(hearing.await.unwrap(), "and an answer");
    assert_eq!(log(&streams), "");

    // Half of it is no reason to wait for longer, and its place is free again.
    let since = Instant::now();
    let answer = ask_and_end(&egress, &format!("CONNECT {mute} HTTP/1.1\r\n\r\nis anybody there")).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    let answer = ask_and_end(&egress, &format!("CONNECT {to} HTTP/1.1\r\n\r\nagain")).await;
    assert!(answer.ends_with("again"), "{answer}");
    let log = log(&streams);
    assert!(log.contains("nothing went through the tunnel"), "{log}");
}

#[tokio::test]
async fn connections_bytes_and_waiting_are_bounded() {
    let server = HttpServer::start().await;
    let here = format!("127.0.0.1:{}", server.port);
    let (port, _) = repeater().await;
    let there = format!("127.0.0.1:{port}");
    let config = NetworkConfig {
        connections: 2,
        response_timeout: Duration::from_millis(300),
        request_bytes: ByteCount(100_000),
        response_bytes: ByteCount(100_000),
        ..NetworkConfig::default()
    };
    let world =
        Online::new(&[&format!("network:http:{here}"), &format!("network:tcp:{there}")]).network(config);
    let (egress, streams) = world.egress();
    let since = Instant::now();
    let answer = ask(&egress, &get(&format!("http://{here}/slow"))).await;
    assert!(answer.starts_with("HTTP/1.1 504 ") && answer.contains("http_response_timeout"), "{answer}");
    let answer = ask(&egress, &get(&format!("http://{here}/stall"))).await;
    assert!(answer.contains("three") && !answer.ends_with("0\r\n\r\n"), "its end was not made up: {answer}");
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    let large = "x".repeat(100_001);
    let posted = format!("POST http://{here}/told HTTP/1.1\r\ncontent-length: 100001\r\n\r\n{large}");
    assert!(ask(&egress, &posted).await.starts_with("HTTP/1.1 413 "));
    let answer = ask(&egress, &get(&format!("http://{here}/large?bytes=100001"))).await;
    assert!(answer.len() < 100_001 + 500, "{}", answer.len());

    // A tunnel in which nothing happens, and one in which too much does.
    let through = async |bytes: usize| {
        let (agent, proxy) = tokio::io::duplex(1 << 20);
        let speaking = async {
            let mut tunnel = tunnel(agent, &there).await.unwrap();
            let _ = tunnel.write_all(&vec![b'x'; bytes]).await;
            let mut answer = Vec::new();
            let _ = tunnel.read_to_end(&mut answer).await;
            answer.len()
        };
        tokio::join!(egress.serve(proxy), speaking).1
    };
    assert_eq!(through(10).await, 10);
    assert!(through(200_000).await <= 100_000);

    // Two that are open, and a third.
    let open = async || {
        let (agent, proxy) = tokio::io::duplex(64 << 10);
        tokio::join!(egress.serve(proxy), async {
            let tunnel = tunnel(agent, &there).await;
            tokio::time::sleep(Duration::from_millis(200)).await;
            tunnel.err().unwrap_or_default()
        })
        .1
    };
    let (one, two, three) = tokio::join!(open(), open(), open());
    let refused: Vec<String> = [one, two, three].into_iter().filter(|head| !head.is_empty()).collect();
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert!(
        refused[0].starts_with("HTTP/1.1 503") && refused[0].contains("connection_limit_reached"),
        "{refused:?}"
    );
    let log = log(&streams);
    for says in
        ["took too long", "nothing went through the tunnel", "were sent through the tunnel", "is its limit"]
    {
        assert!(log.contains(says), "{says} is not in {log}");
    }
}

#[tokio::test]
async fn a_denial_is_told_where_it_ends_executions_and_what_is_open_ends_with_the_execution() {
    let (port, _) = repeater().await;
    let there = format!("127.0.0.1:{port}");
    let mut world = Online::new(&[&format!("network:tcp:{there}")]);
    world.world.on_violation = OnViolation::Terminate;
    let (egress, _) = world.egress();
    let (agent, proxy) = tokio::io::duplex(64 << 10);
    let serving = egress.serve(proxy);
    let mut open = tokio::select! {
        () = serving => panic!("it is still open"),
        open = tunnel(agent, &there) => open.unwrap(),
    };
    // The execution is over: its future, and all that it served, is gone.
    assert_eq!(open.read(&mut [0; 10]).await.unwrap(), 0);
    let answer = ask(&egress, &get("http://a.example/")).await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    let why = tokio::time::timeout(Duration::from_secs(1), egress.violated()).await.unwrap();
    assert!(why.contains("`network:http:a.example`"), "{why}");
}
