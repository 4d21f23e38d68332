//! Agents by way of OCI registries: a real one, and one that lies. What is pushed is what is pulled, run and loaded; what is
//! something else is refused, by the command line and by the server alike.

mod hostile;
mod lying;
mod registry;

use std::path::Path;
use std::process::Output;

use mentat_proto::v1::LoadAgentRequest;
use serde_json::{Value, json};
use tonic_types::StatusExt;

use self::registry::{Docker, LOGIN};
use crate::encryption::Authority;
use crate::guests::{ECHO, assemble, manifest};
use crate::program::{agent_folder, mentat, run, text};
use crate::server::{Server, execute};

/// Runs the program with a home of its own, so that nobody's credentials are read.
fn call(arguments: &[&str]) -> Output {
    let home = tempfile::tempdir().unwrap();
    mentat().env("HOME", home.path()).env_remove("DOCKER_CONFIG").args(arguments).output().unwrap()
}

fn succeeds(arguments: &[&str]) -> String {
    let output = call(arguments);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

fn fails(arguments: &[&str], exit: i32, says: &str) -> String {
    let output = call(arguments);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(exit), "{arguments:?}: {said}");
    assert!(said.contains(says), "{says} is not in {said}");
    assert_eq!(output.stdout, b"", "{arguments:?}");
    said
}

fn echo() -> tempfile::TempDir {
    agent_folder(&manifest("a.echo", "1.0.0"), &assemble(ECHO))
}

/// Pushes the agent that echoes; answers its reference with the digest.
fn push(docker: &Docker, options: &[&str]) -> String {
    let (folder, name) = (echo(), docker.name("agents/echo"));
    let arguments = [&["push", folder.path().to_str().unwrap(), &name], options].concat();
    succeeds(&arguments).trim().to_owned()
}

fn path(folder: &Path) -> &str {
    folder.to_str().unwrap()
}

#[test]
fn what_is_pushed_is_pulled_byte_for_byte_and_runs() {
    let docker = Docker::start();
    let (source, name) = (echo(), docker.name("agents/echo"));
    let report: Value =
        serde_json::from_str(&succeeds(&["push", path(source.path()), &name, "--plain-http", "--json"]))
            .unwrap();
    assert_eq!((&report["tag"], &report["agent"]), (&json!("1.0.0"), &json!("a.echo")));
    assert_eq!(report["sent_bytes"], report["size_bytes"]);
    let pinned = report["reference"].as_str().unwrap();
    assert_eq!(pinned, format!("{name}@{}", report["digest"].as_str().unwrap()));

    let scratch = tempfile::tempdir().unwrap();
    for (reference, folder) in [(pinned.to_owned(), "by-digest"), (format!("{name}:1.0.0"), "by-tag")] {
        let folder = scratch.path().join(folder);
        let printed = succeeds(&["pull", &reference, path(&folder), "--plain-http"]);
        assert_eq!(printed.trim(), pinned);
        for file in ["manifest.yaml", "agent.wasm"] {
            let (pulled, pushed) =
                (std::fs::read(folder.join(file)), std::fs::read(source.path().join(file)));
            assert_eq!(pulled.unwrap(), pushed.unwrap(), "{file}");
        }
        assert_eq!(run(&["run", path(&folder), "--input", "from disk"]).stdout, b"from disk");
    }
    assert_eq!(succeeds(&["run", pinned, "--plain-http", "--input", "from afar"]), "from afar");
    let inspected: Value =
        serde_json::from_str(&succeeds(&["inspect", pinned, "--plain-http", "--json"])).unwrap();
    assert_eq!((&inspected["agent"]["id"], &inspected["module"]), (&json!("a.echo"), &json!(pinned)));
}

#[test]
fn what_the_registry_has_is_not_sent_again_and_the_same_agent_has_the_same_digest() {
    let docker = Docker::start();
    let (folder, name) = (echo(), docker.name("a/b"));
    let push = |tag: &str| -> Value {
        let name = format!("{name}:{tag}");
        serde_json::from_str(&succeeds(&["push", path(folder.path()), &name, "--plain-http", "--json"]))
            .unwrap()
    };
    let (first, second) = (push("one"), push("two"));
    assert_eq!(first["digest"], second["digest"]);
    let (sent, size) = (second["sent_bytes"].as_u64().unwrap(), second["size_bytes"].as_u64().unwrap());
    assert!(sent < size && first["sent_bytes"] == json!(size), "{first} {second}");
}

#[test]
fn the_artifact_is_what_other_tools_take_for_one() {
    let docker = Docker::start();
    let agent = crate::network::fetch();
    let name = docker.name("agents/fetch");
    let report: Value =
        serde_json::from_str(&succeeds(&["push", path(&agent), &name, "--plain-http", "--json"])).unwrap();
    let get = |what: &str, accept: &str| -> (String, Value) {
        let url = format!("http://{}/v2/agents/fetch/{what}", docker.address);
        let mut answer = ureq::get(&url).header("accept", accept).call().unwrap();
        let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
        (kind, serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap())
    };
    let image_type = "application/vnd.oci.image.manifest.v1+json";
    let (kind, image) = get(&format!("manifests/{}", report["tag"].as_str().unwrap()), image_type);
    assert_eq!((kind.as_str(), &image["mediaType"]), (image_type, &json!(image_type)));
    assert_eq!(image["config"]["mediaType"], "application/vnd.wasm.config.v0+json");
    let layers = image["layers"].as_array().unwrap();
    assert_eq!((layers.len(), &layers[0]["mediaType"]), (1, &json!("application/wasm")));
    assert_eq!(layers[0]["annotations"]["org.opencontainers.image.title"], "agent.wasm");
    let (_, config) = get(&format!("blobs/{}", image["config"]["digest"].as_str().unwrap()), "*/*");
    assert_eq!((&config["architecture"], &config["os"]), (&json!("wasm"), &json!("wasip2")));
    assert_eq!(config["layerDigests"], json!([layers[0]["digest"]]));
    let imports = config["component"]["imports"].as_array().unwrap();
    assert!(imports.iter().any(|import| import.as_str().unwrap().starts_with("wasi:http/")), "{config}");
    assert_eq!(config["mentat"]["manifest"], std::fs::read_to_string(agent.join("manifest.yaml")).unwrap());
}

#[test]
fn pulling_leaves_a_folder_with_something_in_it_alone() {
    let docker = Docker::start();
    let pinned = push(&docker, &["--plain-http"]);
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("echo");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("manifest.yaml"), "mine").unwrap();
    fails(&["pull", &pinned, path(&folder), "--plain-http"], 2, "--force");
    assert_eq!(std::fs::read(folder.join("manifest.yaml")).unwrap(), b"mine");
    succeeds(&["pull", &pinned, path(&folder), "--plain-http", "--force"]);
    assert_eq!(run(&["run", path(&folder), "--input", "now"]).stdout, b"now");
    // Nothing is left of a pull that came to nothing.
    let missing = format!("{}:9.9.9", docker.name("agents/echo"));
    fails(&["pull", &missing, path(&scratch.path().join("new")), "--plain-http"], 3, "MANIFEST_UNKNOWN");
    let names: Vec<_> =
        std::fs::read_dir(scratch.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["echo"]);
}

#[test]
fn a_blob_that_was_changed_in_the_registry_is_found_out() {
    let docker = Docker::start();
    let pinned = push(&docker, &["--plain-http"]);
    let module = assemble(ECHO);
    let blob = docker.blob(&module);
    let mut changed = module.clone();
    *changed.last_mut().unwrap() ^= 1;
    std::fs::write(&blob, &changed).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("echo");
    fails(&["pull", &pinned, path(&folder), "--plain-http"], 2, "is not what it was when it was pushed");
    assert!(!folder.exists());
    fails(&["run", &pinned, "--plain-http"], 2, "is not what it was when it was pushed");
    std::fs::write(&blob, &module[..module.len() - 1]).unwrap();
    fails(&["pull", &pinned, path(&folder), "--plain-http"], 2, "bytes");
    assert!(!folder.exists());
}

#[test]
fn a_registry_with_tls_and_a_password_is_spoken_to_by_those_who_know_both() {
    let authority = Authority::new();
    authority.sign_server();
    let docker = Docker::with(Some(&authority), true);
    let (name, ca, auth) = (docker.name("agents/echo"), authority.path("ca.pem"), docker.auth_file(LOGIN));
    let folder = echo();
    let push = |options: &[&str]| [&["push", path(folder.path()), &name], options].concat().join("\n");
    let both = ["--registry-ca", path(&ca), "--registry-auth", path(&auth)];
    let pinned = succeeds(&push(&both).split('\n').collect::<Vec<_>>());
    let pinned = pinned.trim();
    assert_eq!(succeeds(&[&["run", pinned, "--input", "sealed"], &both[..]].concat()), "sealed");

    let refuses = |options: &[&str], exit, says| fails(&[&["run", pinned], options].concat(), exit, says);
    refuses(&["--registry-auth", path(&auth)], 2, "no encrypted connection");
    refuses(&["--registry-ca", path(&ca)], 4, "wants a name and a password");
    let wrong = docker.auth_file("user:wrong");
    let said = refuses(&["--registry-ca", path(&ca), "--registry-auth", path(&wrong)], 4, "are not right");
    assert!(!said.contains("wrong:") && !said.contains(":wrong"), "{said}");
    // Whoever speaks to it without encryption does not get to say the password.
    refuses(&["--plain-http", "--registry-auth", path(&auth)], 2, "400");
}

#[tokio::test]
async fn the_server_loads_from_registries_that_its_operator_allows() {
    let docker = Docker::start();
    let pinned = push(&docker, &["--plain-http"]);
    let allowed = format!("oci.registries=[\"{}/agents\"]", docker.address);
    let server = Server::with(&[&allowed, &format!("oci.insecure=[\"{}\"]", docker.address)]);
    let mut client = server.client().await;
    let request =
        |reference: &str| LoadAgentRequest { reference: reference.to_owned(), ..LoadAgentRequest::default() };

    // By gRPC.
    let loaded = client.load_agent(request(&pinned)).await.unwrap().into_inner();
    assert_eq!((loaded.agent_id.as_str(), loaded.version.as_str()), ("a.echo", "1.0.0"));
    let answer = client.execute_agent(execute("a.echo", "by grpc")).await.unwrap().into_inner();
    assert_eq!(answer.output, "by grpc");
    // By HTTP.
    let load = |body: &Value| {
        let mut answer = ureq::post(format!("{}/v1/agents", server.http))
            .config()
            .http_status_as_error(false)
            .build()
            .send_json(body)
            .unwrap();
        (answer.status().as_u16(), answer.body_mut().read_json::<Value>().unwrap())
    };
    let (status, body) = load(&json!({ "reference": pinned, "agent_id": "a.echo" }));
    assert_eq!((status, &body["agent_id"]), (200, &json!("a.echo")), "{body}");
    let (status, body) = load(&json!({ "reference": pinned, "manifest": "id: a" }));
    assert_eq!((status, &body["error"]["reason"]), (400, &json!("INVALID_REQUEST")), "{body}");
    let (status, body) = load(&json!({ "reference": pinned, "agent_id": "another" }));
    assert_eq!(status, 400, "{body}");
    // By the command line, which pulls by itself or has it pulled.
    let by_server = ["load", &pinned, "--by-server", "--server", &server.grpc];
    assert!(succeeds(&by_server).starts_with("a.echo 1.0.0"));
    let tag = format!("{}:1.0.0", docker.name("agents/echo"));
    assert!(succeeds(&["load", &tag, "--plain-http", "--server", &server.grpc]).starts_with("a.echo 1.0.0"));

    // A tag is refused, whatever it means now; so is what is not allowed, before anybody is asked.
    let refused = client.load_agent(request(&tag)).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    assert!(refused.message().contains("what a tag means can change"), "{refused}");
    for elsewhere in [pinned.replace("/agents/", "/other/"), pinned.replace("127.0.0.1", "127.0.0.2")] {
        let denied = client.load_agent(request(&elsewhere)).await.unwrap_err();
        assert_eq!(denied.code(), tonic::Code::PermissionDenied, "{denied}");
        assert!(denied.message().contains("`oci.registries`"), "{denied}");
    }
    // One that is down is none of the caller's doing, and not the server's load either.
    let down = pinned.replace(&docker.address, "127.0.0.1:1");
    let away = Server::with(&["oci.registries=[\"127.0.0.1:1\"]", "oci.insecure=[\"127.0.0.1:1\"]"]);
    let unavailable = away.client().await.load_agent(request(&down)).await.unwrap_err();
    assert_eq!(unavailable.code(), tonic::Code::Unavailable, "{unavailable}");
    let info = unavailable.get_error_details().error_info().cloned().unwrap();
    assert_eq!(info.reason, "UNAVAILABLE");
    let output = run(&["load", &down, "--by-server", "--server", &away.grpc]);
    assert_eq!(output.status.code(), Some(9), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("[UNAVAILABLE]"), "{}", text(&output.stderr));
    assert_eq!(away.metric("oci_pulls_total{result=\"unavailable\"}"), 2.0);
    let both = LoadAgentRequest { wasm_bytes: assemble(ECHO).into(), ..request(&pinned) };
    assert_eq!(client.load_agent(both).await.unwrap_err().code(), tonic::Code::InvalidArgument);

    let metrics =
        ureq::get(format!("{}/metrics", server.http)).call().unwrap().body_mut().read_to_string().unwrap();
    for line in ["oci_pulls_total{result=\"pulled\"} 4", "oci_pulls_total{result=\"denied\"} 2"] {
        assert!(metrics.contains(line), "{metrics}");
    }

    // Nothing of the registry is needed any more.
    drop(docker);
    let server = server.restart();
    let answer = server.client().await.execute_agent(execute("a.echo", "still")).await.unwrap().into_inner();
    assert_eq!(answer.output, "still");
}

#[tokio::test]
async fn a_signed_agent_is_as_good_out_of_a_registry_and_no_other_is() {
    let desk = crate::pki::Desk::with_alice();
    desk.agent();
    let plain = desk.read("agent/manifest.yaml");
    desk.done("sign agent --key alice@example.com.key --cert alice@example.com.crt");
    let docker = Docker::start();
    let push = |name: &str| {
        let name = docker.name(&format!("agents/{name}"));
        desk.done(&format!("push agent {name} --plain-http")).trim().to_owned()
    };
    let signed = push("signed");
    desk.done(&format!("pull {signed} copy --plain-http"));
    assert_eq!(desk.read("copy/manifest.yaml"), desk.read("agent/manifest.yaml"));
    let told = desk.done("verify copy --roots authority/certs/root_ca.crt --crl authority/crl");
    assert!(told.starts_with("signer: alice@example.com\n"), "{told}");
    // The signed manifest with another module, and the module with no signature.
    desk.write("agent/agent.wasm", assemble(ECHO));
    let swapped = push("swapped");
    desk.write("agent/manifest.yaml", plain);
    let unsigned = push("unsigned");

    let root = format!("attestation.roots=[\"{}\"]", path(&desk.path().join("authority/certs/root_ca.crt")));
    let (allowed, insecure) = (
        format!("oci.registries=[\"{}\"]", docker.address),
        format!("oci.insecure=[\"{}\"]", docker.address),
    );
    let server = Server::with(&[&root, &allowed, &insecure, "attestation.mode=required"]);
    let load = async |reference: &str| {
        let request = LoadAgentRequest { reference: reference.to_owned(), ..LoadAgentRequest::default() };
        let loaded = server.client().await.load_agent(request).await;
        loaded.map(|answer| answer.into_inner().signature.unwrap().signer).map_err(|status| {
            status.get_error_details().error_info().map(|info| info.metadata["code"].clone()).unwrap()
        })
    };
    assert_eq!(load(&swapped).await, Err("signature_mismatch".into()));
    assert_eq!(load(&unsigned).await, Err("unsigned".into()));
    assert_eq!(load(&signed).await.as_deref(), Ok("alice@example.com"));
}

#[tokio::test]
async fn the_servers_password_is_its_own_and_in_no_log() {
    let authority = Authority::new();
    authority.sign_server();
    let docker = Docker::with(Some(&authority), true);
    let (ca, auth) = (authority.path("ca.pem"), docker.auth_file(LOGIN));
    let pinned = push(&docker, &["--registry-ca", path(&ca), "--registry-auth", path(&auth)]);
    let settings = |auth: &Path| {
        [
            format!("oci.registries=[\"{}\"]", docker.address),
            format!("oci.roots={}", path(&ca)),
            format!("oci.credentials={}", path(auth)),
            "log.level=trace".to_owned(),
        ]
    };
    let start = |auth: &Path| {
        let settings = settings(auth);
        Server::with(&settings.each_ref().map(String::as_str))
    };
    let request = LoadAgentRequest { reference: pinned, ..LoadAgentRequest::default() };
    let server = start(&auth);
    server.client().await.load_agent(request.clone()).await.unwrap();
    let log = server.log();
    let (_, password) = LOGIN.split_once(':').unwrap();
    assert!(log.contains("agent pulled") && !log.contains(password), "{log}");
    let server = start(&docker.auth_file("user:not this one"));
    let refused = server.client().await.load_agent(request).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied, "{refused}");
    assert!(
        !refused.message().contains("not this one") && !server.log().contains("not this one"),
        "{refused}"
    );
}

#[test]
fn what_cannot_be_pushed_or_named_is_said_clearly() {
    let folder = echo();
    let agent = path(folder.path());
    fails(&["push", agent, "harbor.lan/echo"], 2, "begins with `oci://`");
    fails(&["push", agent, &format!("oci://harbor.lan/echo@sha256:{}", "0".repeat(64))], 2, "push to a tag");
    fails(&["push", path(&folder.path().join("agent.wasm")), "oci://harbor.lan/echo"], 2, "a module alone");
    fails(&["pull", "oci://127.0.0.1:1/echo"], 2, "does not say which");
    fails(&["pull", "oci://127.0.0.1:1/echo:1"], 9, "cannot be reached");
    fails(&["load", agent, "--by-server"], 2, "--by-server");
    fails(&["run", "oci://127.0.0.1:1/Echo:1"], 2, "a repository has");
    fails(&["run", "oci://127.0.0.1:1/echo:1", "--registry-auth", "/no/such/file"], 2, "/no/such/file");
}
