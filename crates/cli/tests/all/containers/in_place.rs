//! Images that are executed in place of modules: what is forbidden to the module is forbidden to its image as well, it is on
//! record, and a replay comes to the same.

use std::path::Path;

use base64::Engine as _;
use mentat_manifest::ModuleDigest;
use mentat_proto::v1;
use serde_json::Value;

use super::engine::{Engine, IMAGE};
use super::manifest;
use crate::guests::{EXIT_3, UNKNOWN_IMPORT, assemble};
use crate::program::{run, text};
use crate::server::{Server, eventually, execute};

/// Variables, and whether an image has them by the policies of [`Names::policies`].
const VARIABLES: [(&str, bool); 5] =
    [("AGENT", true), ("BOTH", true), ("IMAGE", false), ("MODULE", false), ("NEVER", false)];

/// The digests of an agent's module and of its image.
struct Names {
    module: String,
    image: String,
}

impl Names {
    fn new(engine: &Engine, guest: &str) -> Self {
        let image = engine.podman(&["image", "inspect", "--format", "{{.Id}}", IMAGE]);
        Self {
            module: ModuleDigest::of(&assemble(guest)).to_string(),
            image: format!("sha256:{}", image.trim()),
        }
    }

    /// One that forbids is about the module alone, and nothing else keeps its variable from the image.
    fn policies(&self) -> String {
        let Self { module, image } = self;
        let permit = |name: &str, condition: &str| {
            format!(
                "@id(\"{name}\") permit (principal == Agent::\"a.both\", action == Action::\"env:read\", resource == \
                 Variable::\"{}\"){condition};\n",
                name.to_uppercase()
            )
        };
        [
            permit("agent", ""),
            permit("both", &format!(" when {{ [\"{module}\", \"{image}\"].contains(principal.module) }}")),
            permit("image", &format!(" when {{ principal.module == \"{image}\" }}")),
            permit("module", &format!(" when {{ principal.module == \"{module}\" }}")),
            permit("never", ""),
            format!(
                "@id(\"forbidden\") forbid (principal, action, resource == Variable::\"NEVER\") when {{ principal.module == \
                 \"{module}\" }};\n"
            ),
        ]
        .concat()
    }
}

/// A folder of policies.
fn folder(policies: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("own.cedar"), policies).unwrap();
    folder
}

fn settings(policies: &Path) -> Vec<String> {
    let variables =
        VARIABLES.map(|(name, _)| format!("{{ name = \"{name}\", value = \"given\" }}")).join(", ");
    vec![
        format!("policy.dir={}", policies.display()),
        format!("sandbox.env=[{variables}]"),
        "audit.checkpoint_ms=20".into(),
    ]
}

/// The manifest of an agent whose image tells what it has, and that asks for all variables.
fn both() -> String {
    let asked = VARIABLES.map(|(name, _)| format!("\"env:{name}\"")).join(", ");
    manifest("a.both", "look", &format!("wasm: {{ capabilities: [{asked}] }}\n"))
        .replace("runtime: container", "runtime: wasm")
}

/// Executes the agent, looks at what its image was given and told, and answers the records of it.
async fn check(server: &Server, names: &Names) -> Vec<Value> {
    let request = v1::ExecuteAgentRequest { include_logs: true, receipt: true, ..execute("a.both", "") };
    let answer = server.client().await.execute_agent(request).await.unwrap().into_inner();
    assert_eq!(answer.runtime, "container");
    let facts = text(&answer.output);
    for (name, is_given) in VARIABLES {
        assert_eq!(facts.contains(&format!("env {name}=given")), is_given, "{name}: {facts}");
    }
    let receipt: Value = serde_json::from_slice(&answer.receipt).unwrap();
    let payload = base64::engine::general_purpose::STANDARD.decode(receipt["payload"].as_str().unwrap());
    let statement: Value = serde_json::from_slice(&payload.unwrap()).unwrap();
    assert_eq!(statement["predicate"]["agent"]["in_place_of"], names.module.as_str());
    let log: Vec<&str> = answer.logs.iter().map(|line| line.message.as_str()).collect();
    let module = format!("of the module `{}`, in whose place the image is executed, is", names.module);
    for (name, begins, why) in [
        (
            "IMAGE",
            module.as_str(),
            "permitted by no policy; this one would: permit (principal == Agent::\"a.both\"",
        ),
        ("MODULE", "is", "permitted by no policy"),
        (
            "NEVER",
            module.as_str(),
            "forbidden by the policy `forbidden`; the operator excepts it there with `unless",
        ),
    ] {
        let told = format!("capability `env:{name}` {begins} {why}");
        assert!(log.iter().any(|line| line.starts_with(&told)), "{told}: {log:?}");
    }
    let url = format!("{}/v1/executions/{}/audit", server.http, answer.execution_id);
    let mut records = Vec::new();
    eventually("the record of the end", async || {
        let trail =
            ureq::get(&url).call().ok().and_then(|mut answer| answer.body_mut().read_json::<Value>().ok());
        records = trail.and_then(|trail| trail["records"].as_array().cloned()).unwrap_or_default();
        records.last().is_some_and(|last| last["event_type"] == "execution")
    })
    .await;
    assert_eq!(records.len(), VARIABLES.len() + 1, "{records:?}");
    for record in &records {
        let agent = &record["agent"];
        assert_eq!(
            (&agent["module"], &agent["runtime"]),
            (&names.image.as_str().into(), &"container".into())
        );
        assert_eq!(agent["in_place_of"], names.module.as_str(), "{record}");
    }
    records
}

/// The records of decisions say of which of the two a denial was.
fn check_decisions(records: &[Value], names: &Names) {
    for record in &records[..VARIABLES.len()] {
        let decision = &record["security"]["decision"];
        let (reason, refused_to) = match decision["capability"].as_str().unwrap() {
            "env:AGENT" | "env:BOTH" => ("permitted", None),
            "env:IMAGE" => ("not_permitted", Some(names.module.as_str())),
            "env:MODULE" => ("not_permitted", None),
            "env:NEVER" => ("forbidden", Some(names.module.as_str())),
            other => panic!("{other}"),
        };
        assert_eq!(
            (decision["reason"].as_str(), decision["refused_to"].as_str()),
            (Some(reason), refused_to)
        );
    }
}

/// What a replay of a server's log finds: how many decisions, and which would come out otherwise.
fn replay(policies: &Path, server: &Server) -> (u64, Vec<String>) {
    let audit = server.data().join("audit");
    let paths = ["--policy", policies.to_str().unwrap(), "--audit", audit.to_str().unwrap(), "--json"];
    let output = run(&[&["policy", "replay"], &paths[..]].concat());
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let said = |change: &Value| change["capability"].as_str().unwrap().to_owned();
    let changes = told["changes"].as_array().unwrap().iter().map(said).collect();
    (told["decisions"].as_u64().unwrap(), changes)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_forbidden_to_a_module_is_forbidden_to_the_image_that_the_rollout_takes_for_it() {
    let engine = Engine::start();
    let names = Names::new(&engine, EXIT_3);
    let policies = folder(&names.policies());
    let settings = settings(policies.path());
    let settings: Vec<&str> = settings.iter().map(String::as_str).chain(["rollout.percent=0"]).collect();
    let server = engine.server(&settings);
    let loaded = server.load_as(&both(), EXIT_3).await.unwrap();
    assert_eq!((&loaded.module_hash, &loaded.image_hash), (&names.module, &names.image));
    let records = check(&server, &names).await;
    check_decisions(&records, &names);

    // The very policies decide again as they did; without what they say of the module, its image would be given more.
    assert_eq!(replay(policies.path(), &server), (5, Vec::new()));
    let others = folder(&names.policies().replace(&names.module, &ModuleDigest::of(b"another").to_string()));
    let (decisions, changes) = replay(others.path(), &server);
    assert_eq!((decisions, changes), (5, vec!["env:BOTH".to_owned(), "env:NEVER".to_owned()]));
    engine.is_empty();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_forbidden_to_a_module_that_cannot_run_here_is_forbidden_to_its_image_also_after_a_restart() {
    let engine = Engine::start();
    let names = Names::new(&engine, UNKNOWN_IMPORT);
    let policies = folder(&names.policies());
    let settings = settings(policies.path());
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let server = engine.server(&settings);
    let loaded = server.load_as(&both(), UNKNOWN_IMPORT).await.unwrap();
    assert_eq!((&loaded.module_hash, loaded.image_hash.as_str()), (&names.image, ""));
    assert_eq!(loaded.code_origin(), v1::CodeOrigin::Image);
    check_decisions(&check(&server, &names).await, &names);

    let server = server.restart();
    eventually("the engine", async || server.metric("container_engine_up") > 0.0).await;
    check(&server, &names).await;
    assert_eq!(replay(policies.path(), &server), (10, Vec::new()));
    // A version is one content: another module that cannot run here either is not it, though its image is the same.
    server.load_as(&both(), UNKNOWN_IMPORT).await.expect("the same once more");
    let other = UNKNOWN_IMPORT.replace("conjure", "enchant");
    let refused = server.load_as(&both(), &other).await.unwrap_err();
    assert!(refused.message().contains("is loaded with other content"), "{}", refused.message());
    engine.is_empty();
}
