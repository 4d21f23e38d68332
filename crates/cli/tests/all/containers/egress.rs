//! The network from inside a container: what its grant gives it goes by the proxy, and there is no other way, whatever its
//! program tries.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use mentat_proto::v1;

use super::engine::{Engine, IMAGE};
use super::{load, manifest, reason, run};
use crate::encryption::Authority;
use crate::network::{pages, repeater};
use crate::program::text;
use crate::server::{Server, eventually, execute};

const POLICIES: &str = "@id(\"net\") permit (principal, action in Action::\"network\", resource in Domain::\"internal\");\n\
    @id(\"never\") forbid (principal, action in Action::\"network\", resource in Domain::\"forbidden.internal\");\n";
const HOSTS: &str = "network.hosts=[{ name = \"web.internal\", addresses = [\"127.0.0.1\"] }, \
    { name = \"forbidden.internal\", addresses = [\"127.0.0.1\"] }, { name = \"db.internal\", addresses = [\"127.0.0.1\"] }, \
    { name = \"api.internal\", addresses = [\"127.0.0.1\"] }]";

/// A server whose agents may reach what is called `internal`.
fn start(engine: &Engine, folder: &Path, more: &[&str]) -> Server {
    std::fs::write(folder.join("own.cedar"), POLICIES).unwrap();
    let policies = format!("policy.dir={}", folder.display());
    let settings: Vec<&str> =
        [policies.as_str(), HOSTS, "audit.checkpoint_ms=20"].iter().chain(more).copied().collect();
    engine.server(&settings)
}

fn capabilities(capabilities: &[&str]) -> String {
    format!("wasm: {{ timeout_ms: 60000, capabilities: {} }}\n", serde_json::to_string(capabilities).unwrap())
}

/// What the probe finds, by what it tried, and its log.
async fn look(server: &Server, id: &str, attempts: &[String]) -> (String, String) {
    let answer = run(server, id, &attempts.join("\n")).await.unwrap();
    let log: Vec<String> = answer.logs.into_iter().map(|line| line.message).collect();
    assert_eq!(answer.exit_code, 0, "{log:?}");
    (text(&answer.output), log.join("\n"))
}

fn has(facts: &str, wanted: &[String]) {
    for fact in wanted {
        assert!(facts.lines().any(|told| told == fact), "`{fact}` is not among {facts}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_reaches_what_it_may_by_its_proxy_and_nothing_else() {
    let engine = Engine::start();
    let folder = tempfile::tempdir().unwrap();
    let ((web, asked), db) = (pages(), repeater());
    let server = start(&engine, folder.path(), &[]);
    let listed = capabilities(&[
        &format!("network:http:*.internal:{web}"),
        &format!("network:tcp:db.internal:{db}"),
        "network:tcp:localhost:*",
        "network:https:a.example",
        "network:udp:db.internal:53",
    ]);
    // Whoever writes the manifest cannot lead it elsewhere either.
    let own = manifest("a.look", "look", &listed).replace(
        "env: [",
        "env: [\"HTTP_PROXY=http://192.0.2.1:1\", \"https_proxy=http://192.0.2.1:1\", \"NO_PROXY=*\", ",
    );
    server.load_module(&own, &[]).await.unwrap();
    let door = server.grpc.trim_start_matches("http://").to_owned();
    let attempts: Vec<String> = [
        format!("ask GET http://web.internal:{web}/page HTTP/1.1"),
        format!(
            "ask GET http://web.internal:{web}/page HTTP/1.1\\nhost: db.internal\\nconnection: x\\nx: hop"
        ),
        format!("ask GET http://forbidden.internal:{web}/page HTTP/1.1"),
        format!("ask GET http://web.internal:{db}/page HTTP/1.1"),
        format!("ask GET http://127.0.0.1:{web}/page HTTP/1.1"),
        format!("ask GET http://web.internal:{web}@127.0.0.1:{web}/ HTTP/1.1"),
        format!("ask GET /page HTTP/1.1\\nhost: web.internal:{web}"),
        "ask GET http://169.254.169.254/latest/meta-data/ HTTP/1.1".into(),
        "ask GET https://a.example/ HTTP/1.1".into(),
        format!("tunnel db.internal:{db} hello"),
        format!("tunnel web.internal:{web} hello"),
        format!("tunnel 127.0.0.1:{db} hello"),
        // It leads to this machine, which is no public address.
        format!("tunnel localhost:{db} hello"),
        format!("connect 127.0.0.1:{web}"),
        format!("connect {door}"),
        format!("connect [::1]:{web}"),
        "connect 192.0.2.1:80".into(),
        "connect [2001:db8::1]:443".into(),
        "listeners".into(),
        // The host takes a second, and knows long before that nothing more is said.
        format!("ask-and-end GET http://web.internal:{web}/slow HTTP/1.0"),
    ]
    .into();
    let (facts, log) = look(&server, "a.look", &attempts).await;
    let came = |number: usize, came: &str| format!("{}: {came}", attempts[number]);
    has(
        &facts,
        &[
            format!("{}: 200 host: web.internal:{web}", attempts[0]),
            format!("{}: 200 host: web.internal:{web}", attempts[1]),
            came(9, "200 repeat: hello"),
            came(13, "ConnectionRefused"),
            came(14, "ConnectionRefused"),
            came(15, "ConnectionRefused"),
            came(16, "NetworkUnreachable"),
            came(17, "NetworkUnreachable"),
            // 127.0.0.1:3128, as the kernel writes it.
            came(18, "0100007F:0C38"),
            format!("{}: 200 host: web.internal:{web}", attempts[19]),
            "device lo".into(),
            "env http_proxy=http://127.0.0.1:3128".into(),
            "env HTTP_PROXY=http://127.0.0.1:3128".into(),
            "env https_proxy=http://127.0.0.1:3128".into(),
            "env ALL_PROXY=http://127.0.0.1:3128".into(),
            "env NO_PROXY=localhost,127.0.0.1,::1".into(),
        ],
    );
    for (number, status) in
        [(2, 403), (3, 403), (4, 403), (5, 400), (6, 400), (7, 403), (8, 403), (10, 403), (11, 403)]
    {
        let begin = came(number, &status.to_string());
        assert!(facts.lines().any(|line| line.starts_with(&begin)), "{begin}: {facts}");
    }
    assert!(facts.contains(&came(12, "403 ")) || facts.contains(&came(12, "502 ")), "{facts}");
    assert_eq!(asked.lock().unwrap().len(), 3);
    for says in [
        "forbidden by the policy `never`",
        "`network:http:169.254.169.254` is not in the manifest",
        "is permitted by no policy",
        "`network:udp:db.internal:53` is kept back by the sandbox",
        "this is a proxy",
    ] {
        assert!(log.contains(says), "{says} is not in {log}");
    }

    // Each decision is on record, those of the proxy as those before it.
    let mut client = server.client().await;
    let answer = client.execute_agent(execute("a.look", attempts.join("\n"))).await.unwrap().into_inner();
    eventually("the records", async || {
        let request = v1::GetExecutionAuditRequest {
            execution_id: answer.execution_id.clone(),
            ..v1::GetExecutionAuditRequest::default()
        };
        let told = client.get_execution_audit(request).await.map(tonic::Response::into_inner);
        let records = told.map(|told| told.records.join("\n")).unwrap_or_default();
        [
            format!("network:http:web.internal:{web}"),
            format!("network:http:forbidden.internal:{web}"),
            format!("network:tcp:db.internal:{db}"),
            "network:http:169.254.169.254".into(),
            "network:https:a.example".into(),
            "\"exit_code\":0".into(),
        ]
        .iter()
        .all(|wanted| records.contains(wanted))
    })
    .await;
    let metrics =
        ureq::get(format!("{}/metrics", server.http)).call().unwrap().body_mut().read_to_string().unwrap();
    let counted = |result: &str| {
        let line = metrics.lines().find(|line| {
            line.starts_with("capability_requests_total") && line.contains("network") && line.contains(result)
        });
        line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).unwrap_or_default()
    };
    assert!(counted("granted") >= 4.0 && counted("denied") >= 10.0, "{metrics}");
    engine.is_empty();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denial_at_the_proxy_ends_the_execution_where_the_operator_wants_that() {
    let engine = Engine::start();
    let folder = tempfile::tempdir().unwrap();
    let server = start(&engine, folder.path(), &["security.on_violation=terminate"]);
    load(&server, "a.look", "look", &capabilities(&["network:http:web.internal"])).await;
    let (_, why, message) = reason(&server, "a.look", "ask GET http://other.internal/ HTTP/1.1").await;
    assert_eq!(why, "SECURITY_VIOLATION");
    assert!(message.contains("`network:http:other.internal`"), "{message}");
    engine.is_empty();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_stalls_is_given_up_and_what_is_open_ends_with_the_execution() {
    let engine = Engine::start();
    let folder = tempfile::tempdir().unwrap();
    // It takes connections, and says nothing.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = start(&engine, folder.path(), &["network.response_timeout_ms=700"]);
    let listed = capabilities(&[
        &format!("network:http:web.internal:{port}"),
        &format!("network:tcp:db.internal:{port}"),
    ]);
    load(&server, "a.look", "look", &listed).await;
    let attempts =
        [format!("ask GET http://web.internal:{port}/ HTTP/1.1"), format!("tunnel db.internal:{port} hello")];
    let since = Instant::now();
    let (facts, log) = look(&server, "a.look", &attempts).await;
    assert!(since.elapsed() < Duration::from_secs(15), "{:?}", since.elapsed());
    assert!(facts.contains(&format!("{}: 504 ", attempts[0])), "{facts}");
    has(&facts, &[format!("{}: 200 ", attempts[1])]);
    assert!(
        log.contains("waiting for the response took too long") && log.contains("nothing went through"),
        "{log}"
    );
    engine.is_empty();
    drop((listener, server));

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = start(&engine, folder.path(), &[]);
    load(&server, "a.hold", "hold", &capabilities(&[&format!("network:tcp:db.internal:{port}")])).await;
    let request =
        v1::ExecuteAgentRequest { detach: true, ..execute("a.hold", format!("db.internal:{port}")) };
    let begun = server.client().await.execute_agent(request).await.unwrap().into_inner();
    let (mut held, _) = listener.accept().unwrap();
    held.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(held.read(&mut [0; 10]).is_err(), "it is open");
    let cancel = v1::CancelExecutionRequest { execution_id: begun.execution_id };
    server.client().await.cancel_execution(cancel).await.unwrap();
    held.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    assert_eq!(held.read(&mut [0; 10]).unwrap(), 0, "it is closed");
    engine.is_empty();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_container_finds_the_proxy_of_another_and_one_that_asks_for_nothing_has_none() {
    let engine = Engine::start();
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = start(&engine, folder.path(), &[]);
    load(&server, "a.hold", "hold", &capabilities(&[&format!("network:tcp:db.internal:{port}")])).await;
    load(&server, "a.look", "look", "").await;
    let request =
        v1::ExecuteAgentRequest { detach: true, ..execute("a.hold", format!("db.internal:{port}")) };
    server.client().await.execute_agent(request).await.unwrap();
    let (mut held, _) = listener.accept().unwrap();
    let attempts = [
        "connect 127.0.0.1:3128",
        "connect [::1]:3128",
        "listeners",
        "ask GET http://web.internal/ HTTP/1.1",
    ];
    let (facts, log) = look(&server, "a.look", &attempts.map(str::to_owned)).await;
    has(
        &facts,
        &[
            "connect 127.0.0.1:3128: ConnectionRefused".into(),
            "connect [::1]:3128: ConnectionRefused".into(),
            "listeners: ".into(),
            "ask GET http://web.internal/ HTTP/1.1: NotFound".into(),
        ],
    );
    assert!(!facts.contains("_proxy") && log.is_empty(), "{facts}{log}");
    // Nor is it anywhere on this machine.
    assert!(std::net::TcpStream::connect("127.0.0.1:3128").is_err());
    let _ = held.write_all(b"the end");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_server_may_not_enter_networks_they_are_refused() {
    let engine = Engine::start();
    let server = Server::confined(&[&engine.setting()]);
    load(
        &server,
        "a.look",
        "look",
        &capabilities(&["network:http:web.internal", "network:tcp:db.internal:1"]),
    )
    .await;
    let (facts, log) = look(&server, "a.look", &["listeners".into(), "connect 127.0.0.1:3128".into()]).await;
    has(&facts, &["listeners: ".into(), "connect 127.0.0.1:3128: ConnectionRefused".into()]);
    for capability in ["network:http:web.internal", "network:tcp:db.internal:1"] {
        let says = format!(
            "capability `{capability}` is kept back by the sandbox: the server cannot give a container a way out"
        );
        assert!(log.contains(&says), "{says} is not in {log}");
    }
    engine.is_empty();
}

/// Curl, as Debian has it, with the libraries that it is linked to.
fn curl(folder: &Path) {
    let program = Path::new("/usr/bin/curl");
    assert!(program.exists(), "`cargo xtask test` installs curl (Debian: `apt-get install curl`)");
    let listed = Command::new("ldd").arg(program).output().unwrap();
    let listed = text(&listed.stdout);
    let libraries = listed.split_whitespace().filter(|word| word.starts_with('/'));
    for file in libraries.chain([program.to_str().unwrap()]) {
        let to = folder.join(file.trim_start_matches('/'));
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(file, to).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_nobody_here_wrote_goes_by_the_proxy_and_encrypts_what_it_sends() {
    let engine = Engine::start();
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    authority.sign_server_of("api.internal");
    let target = Server::with(&[
        &authority.setting("tls.certificate", "server.pem"),
        &authority.setting("tls.key", "server.key"),
    ]);
    let port = target.http.rsplit(':').next().unwrap().to_owned();
    let (web, asked) = pages();
    let image = tempfile::tempdir().unwrap();
    curl(image.path());
    std::fs::copy(authority.path("ca.pem"), image.path().join("ca.pem")).unwrap();
    engine.import_folder(
        "localhost/curl:1",
        image.path(),
        &["ENTRYPOINT [\"/usr/bin/curl\", \"--config\", \"-\"]"],
    );
    let server = start(&engine, folder.path(), &[]);
    let listed = capabilities(&[
        &format!("network:https:api.internal:{port}"),
        &format!("network:http:web.internal:{web}"),
    ]);
    let agent = manifest("a.curl", "", &listed).replace(IMAGE, "localhost/curl:1");
    server.load_module(&agent, &[]).await.unwrap();
    let fetch = async |options: &str| {
        let answer = run(&server, "a.curl", &format!("cacert = /ca.pem\nsilent\nshow-error\n{options}\n"))
            .await
            .unwrap();
        let log: Vec<String> = answer.logs.into_iter().map(|line| line.message).collect();
        (answer.exit_code, text(&answer.output), log.join("\n"))
    };
    let (code, page, log) =
        fetch(&format!("url = https://api.internal:{port}/healthz\nheader = \"host: localhost\"")).await;
    assert_eq!((code, page.trim()), (0, "ok"), "{log}");
    let (code, page, log) = fetch(&format!("url = http://web.internal:{web}/x\ndata = hello")).await;
    assert!(code == 0 && page.starts_with("POST /x HTTP/1.1\r\n"), "{page} {log}");
    assert!(page.contains(&format!("host: web.internal:{web}\r\n")), "{page}");
    // Another name in the encrypted part than in front of it; a host without leave; what is not encrypted.
    let elsewhere =
        format!("url = https://other.internal:{port}/healthz\nconnect-to = \"::api.internal:{port}\"");
    let (code, page, log) = fetch(&elsewhere).await;
    assert!(
        code != 0 && page.is_empty() && log.contains("is for another host than the tunnel"),
        "{page} {log}"
    );
    let (code, _, log) = fetch(&format!("url = https://forbidden.internal:{port}/healthz")).await;
    assert!(code != 0 && log.contains("403"), "{log}");
    let (code, _, log) = fetch(&format!("url = http://api.internal:{port}/healthz\nproxytunnel")).await;
    assert!(code != 0 && log.contains("begins no encrypted connection"), "{log}");
    // Its own idea of addresses helps it to nothing.
    let (code, _, log) = fetch(&format!(
        "url = http://web.internal:{web}/y\nnoproxy = *\nresolve = web.internal:{web}:127.0.0.1"
    ))
    .await;
    assert!(code != 0, "{log}");
    assert_eq!(asked.lock().unwrap().len(), 1);
    engine.is_empty();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_is_kept_has_its_way_out_by_the_grant_of_each_execution() {
    let engine = Engine::start();
    let folder = tempfile::tempdir().unwrap();
    let db = repeater();
    let server = start(&engine, folder.path(), &[]);
    let listed = format!(
        "events: ndjson\nwasm: {{ instances: reuse, timeout_ms: 60000, capabilities: [\"network:tcp:db.internal:{db}\"] }}\n"
    );
    load(&server, "a.serve", "serve", &listed).await;
    let ask = format!("\"tunnel db.internal:{db} hello\"");
    for number in 1..=3 {
        let answer = run(&server, "a.serve", &ask).await.unwrap();
        assert_eq!(text(&answer.output), format!("{number} 200 repeat: hello\n"));
    }
    // Another permission is another container.
    let narrowed = v1::SandboxConfig {
        capabilities: Some(v1::CapabilityList::default()),
        ..v1::SandboxConfig::default()
    };
    let request =
        v1::ExecuteAgentRequest { sandbox_config: Some(narrowed), ..execute("a.serve", ask.clone()) };
    let answer = server.client().await.execute_agent(request).await.unwrap().into_inner();
    assert!(
        text(&answer.output).starts_with("1 ") && !text(&answer.output).contains("200"),
        "{}",
        text(&answer.output)
    );
    assert_eq!(text(&run(&server, "a.serve", &ask).await.unwrap().output), "4 200 repeat: hello\n");
    assert_eq!(server.stop(), Some(0));
    engine.is_empty();
}
