//! What a container can do, told by a program inside it: nothing but what it was given.

use mentat_proto::v1;
use serde_json::Value;

use super::engine::Engine;
use super::{load, run};
use crate::server::{Server, eventually, execute};

/// What the probe finds, a fact a line, and its log.
async fn look(server: &Server, id: &str, attempts: &[&str]) -> (Vec<String>, Vec<String>) {
    let answer = run(server, id, &attempts.join("\n")).await.unwrap();
    assert_eq!(answer.exit_code, 0, "{:?}", answer.logs);
    let facts = String::from_utf8(answer.output.into()).unwrap().lines().map(str::to_owned).collect();
    (facts, answer.logs.into_iter().map(|line| line.message).collect())
}

fn has(facts: &[String], wanted: &[&str]) {
    for fact in wanted {
        assert!(facts.iter().any(|told| told == fact), "`{fact}` is not among {facts:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_has_no_powers_that_it_was_not_given() {
    let engine = Engine::start();
    let server = engine.server(&[]);
    load(&server, "a.look", "look", "").await;
    let address = server.grpc.trim_start_matches("http://").to_owned();
    let connect = format!("connect {address}");
    let written: Vec<String> = [
        "/x",
        "/tmp/x",
        "/run/x",
        "/var/tmp/x",
        "/etc/hosts",
        "/etc/resolv.conf",
        "/proc/sys/kernel/hostname",
        "/sys/x",
        "/dev/mqueue/x",
    ]
    .iter()
    .map(|path| format!("write {path}"))
    .collect();
    let mut attempts: Vec<&str> = written.iter().map(String::as_str).collect();
    attempts.extend([
        "connect 192.0.2.1:80",
        &connect,
        "listeners",
        "write /dev/shm/x",
        "list /dev/shm",
        "read /etc/hosts",
        "call unshare",
        "call keyctl",
        "call clone",
        "call clone3",
        "call vsock",
        "call later",
    ]);
    let (facts, log) = look(&server, "a.look", &attempts).await;
    assert_eq!(log, Vec::<String>::new());
    let none = "0000000000000000";
    let (effective, bounding) = (format!("CapEff: {none}"), format!("CapBnd: {none}"));
    has(
        &facts,
        &[
            "Gid: 65534 65534 65534 65534",
            "env HOME=/",
            &format!("CapPrm: {none}"),
            &effective,
            &bounding,
            &format!("CapAmb: {none}"),
            "NoNewPrivs: 1",
            "Seccomp: 2",
            "limit Max open files 1024 1024 files",
            "limit Max core file size 0 0 bytes",
            "connect 192.0.2.1:80: NetworkUnreachable",
            &format!("{connect}: ConnectionRefused"),
            "listeners: ",
            "write /dev/shm/x: NotFound",
            "list /dev/shm: NotFound",
            // Nothing of this machine's own list.
            "read /etc/hosts: 127.0.0.1 localhost",
            "::1 localhost",
            // No namespaces, in which it would have every capability; no keyrings, which all containers' users share; no sockets
            // beside its network.
            "call unshare: PermissionDenied",
            "call keyctl: PermissionDenied",
            "call clone: Unsupported",
            "call clone3: Unsupported",
            "call vsock: Unsupported",
            "call later: Unsupported",
        ],
    );
    // Somebody who is nobody else.
    let user = facts.iter().find_map(|fact| fact.strip_prefix("Uid: ")).unwrap();
    let users: Vec<u32> = user.split(' ').map(|number| number.parse().unwrap()).collect();
    assert!(
        users.iter().all(|user| *user == users[0] && (2_100_000_000..2_140_000_000).contains(user)),
        "{users:?}"
    );
    let devices: Vec<&String> = facts.iter().filter(|fact| fact.starts_with("device ")).collect();
    assert_eq!(devices, ["device lo"]);
    for fact in facts.iter().filter(|fact| fact.starts_with("write ")) {
        let refused =
            ["ReadOnlyFilesystem", "PermissionDenied", "NotFound"].iter().any(|why| fact.ends_with(why));
        assert!(refused, "{fact}");
    }
    // Nothing of the service's own environment, and none of the engine's.
    let names = ["MODE", "PATH", "HOSTNAME", "HOME", "TERM", "container"];
    for fact in facts.iter().filter_map(|fact| fact.strip_prefix("env ")) {
        assert!(names.contains(&fact.split('=').next().unwrap()), "{fact}");
    }
    engine.is_empty();
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_memory_and_the_scratch_directory_have_their_limits() {
    let engine = Engine::start();
    let server = engine.server(&["container.pids=20", "container.tmp=8MB"]);
    load(&server, "a.threads", "threads", "").await;
    let threads = run(&server, "a.threads", "").await.unwrap().output;
    let threads: u32 = std::str::from_utf8(&threads).unwrap().parse().unwrap();
    assert!((10..20).contains(&threads), "{threads}");
    let scratch = "wasm: { capabilities: [\"filesystem:readwrite:/tmp\"] }\n";
    load(&server, "a.scratch", "look", scratch).await;
    let attempts = ["fill /tmp/full", "execute /tmp/program", "write /tmp/x", "write /x"];
    let (facts, _) = look(&server, "a.scratch", &attempts).await;
    // What is full takes no program either.
    has(&facts, &["fill /tmp/full: 8 MB", "write /x: ReadOnlyFilesystem"]);
    let (facts, _) = look(&server, "a.scratch", &["execute /tmp/program", "list /tmp"]).await;
    has(&facts, &["execute /tmp/program: PermissionDenied", "list /tmp: 1 entries"]);
    let (facts, _) = look(&server, "a.scratch", &["list /tmp", "write /dev/shm/x"]).await;
    has(&facts, &["list /tmp: 0 entries", "write /dev/shm/x: done"]);
    engine.is_empty();
}

#[tokio::test(flavor = "multi_thread")]
async fn directories_and_variables_are_those_that_policy_grants_in_their_modes() {
    let engine = Engine::start();
    let data = tempfile::tempdir().unwrap();
    let folder = |name: &str| {
        let folder = data.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("known"), name).unwrap();
        // Whoever the container's user is.
        let anyone = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(&folder, anyone).unwrap();
        folder.display().to_string()
    };
    let mounts = format!(
        "sandbox.mounts=[{{ guest = \"/in\", host = \"{}\" }}, {{ guest = \"/work\", host = \"{}\", access = \
         \"read-write\" }}, {{ guest = \"/box\", host = \"{}\", access = \"write-only\" }}, {{ guest = \"/secret\", host = \
         \"{}\" }}, {{ guest = \"/gone\", host = \"{}\" }}]",
        folder("in"),
        folder("work"),
        folder("box"),
        folder("secret"),
        folder("gone")
    );
    std::fs::write(
        data.path().join("own.cedar"),
        "@id(\"files\") permit (principal, action in Action::\"filesystem\", resource);\n\
         @id(\"env\") permit (principal, action in Action::\"env\", resource == Variable::\"GIVEN\");\n\
         @id(\"never\") forbid (principal, action in Action::\"filesystem\", resource in Path::\"/secret\");\n",
    )
    .unwrap();
    let policies = format!("policy.dir={}", data.path().display());
    let env =
        "sandbox.env=[{ name = \"GIVEN\", value = \"a value\" }, { name = \"KEPT\", value = \"kept\" }]";
    let server = engine.server(&[&mounts, &policies, env, "audit.checkpoint_ms=20"]);
    let capabilities = "wasm: { capabilities: [\"filesystem:readwrite:/in\", \"filesystem:readwrite:/work\", \
         \"filesystem:write:/box\", \"filesystem:read:/secret\", \"filesystem:read:/gone\", \"filesystem:read:/work/part\", \
         \"env:GIVEN\", \"env:KEPT\", \"network:https:example.com\"] }\n";
    load(&server, "a.look", "look", capabilities).await;
    std::fs::remove_dir_all(data.path().join("gone")).unwrap();
    let attempts = [
        "read /in/known",
        "write /in/new",
        "rename /in/known",
        "read /work/known",
        "write /work/new",
        "read /box/known",
        "read /secret/known",
        "list /gone",
    ];
    let (facts, log) = look(&server, "a.look", &attempts).await;
    has(
        &facts,
        &[
            "read /in/known: in",
            "write /in/new: ReadOnlyFilesystem",
            "rename /in/known: ReadOnlyFilesystem",
            "read /work/known: work",
            "write /work/new: done",
            "read /box/known: NotFound",
            "read /secret/known: NotFound",
            "list /gone: NotFound",
            "env GIVEN=a value",
            // Files belong to users, so that whoever has the operator's is whom the operator says.
            "Uid: 65534 65534 65534 65534",
        ],
    );
    assert!(!facts.iter().any(|fact| fact.contains("KEPT")), "{facts:?}");
    assert_eq!(std::fs::read_to_string(data.path().join("work/new")).unwrap(), "written");
    for says in [
        "can be read where it can be written",
        "forbidden by the policy `never`",
        "a part of one",
        "the directory of `/gone` cannot be opened",
        "capability `env:KEPT` is permitted by no policy",
    ] {
        assert!(log.iter().any(|line| line.contains(says)), "{says} is not in {log:#?}");
    }
    // Each decision is on record.
    let mut client = server.client().await;
    let answer = client.execute_agent(execute("a.look", "")).await.unwrap().into_inner();
    eventually("the records", async || {
        let request = v1::GetExecutionAuditRequest {
            execution_id: answer.execution_id.clone(),
            ..v1::GetExecutionAuditRequest::default()
        };
        let told = client.get_execution_audit(request).await.map(tonic::Response::into_inner);
        let records: Vec<Value> = told
            .map(|told| told.records.iter().map(|record| serde_json::from_str(record).unwrap()).collect())
            .unwrap_or_default();
        let decided = records.iter().filter(|record| record["event_type"] == "capability_decision").count();
        decided == 8 && records.iter().any(|record| record["event_type"] == "execution")
    })
    .await;
    engine.is_empty();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denial_ends_the_execution_where_the_operator_wants_that() {
    let engine = Engine::start();
    let server = engine.server(&["security.on_violation=terminate"]);
    load(&server, "a.look", "look", "wasm: { capabilities: [\"network:udp:example.com:53\"] }\n").await;
    let (_, reason, message) = super::reason(&server, "a.look", "").await;
    assert_eq!(reason, "SECURITY_VIOLATION");
    assert!(message.contains("no way for datagrams"), "{message}");
    engine.is_empty();
}
