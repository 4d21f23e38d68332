//! Powers in the service: policies, mounts and callers' narrowing, through a started server.

use mentat_proto::v1::{CapabilityList, ExecuteAgentRequest, ExecuteAgentResponse, SandboxConfig};
use tonic::Code;

use crate::guests::manifest_with;
use crate::server::{Server, eventually, execute};

const CAT: &str = include_str!("cat.wat");
const READ_DATA: &str = "  capabilities: [\"filesystem:read:/data\"]\n";
const PERMIT: &str = "@id(\"data\") permit (principal, action, resource in Path::\"/data\");";

/// A server with a folder mounted at `/data`, whose policies are in another.
struct World {
    server: Server,
    folder: tempfile::TempDir,
}

impl World {
    fn new(policies: &str, more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["data", "policies"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        std::fs::write(folder.path().join("data/hello.txt"), "hello").unwrap();
        std::fs::write(folder.path().join("policies/own.cedar"), policies).unwrap();
        let mounts =
            format!("sandbox.mounts=[{{ guest = \"/data\", host = \"{}/data\" }}]", folder.path().display());
        let dir = format!("policy.dir={}/policies", folder.path().display());
        let settings = [&[mounts.as_str(), dir.as_str(), "policy.reload_ms=20"], more].concat();
        Self { server: Server::with(&settings), folder }
    }

    fn write_policies(&self, text: &str) {
        std::fs::write(self.folder.path().join("policies/own.cedar"), text).unwrap();
    }

    async fn load(&self) {
        self.server.load_as(&manifest_with("a.cat", "1.0.0", READ_DATA), CAT).await.unwrap();
    }

    async fn execute(&self, request: ExecuteAgentRequest) -> Result<ExecuteAgentResponse, tonic::Status> {
        let request = ExecuteAgentRequest { include_logs: true, ..request };
        self.server.client().await.execute_agent(request).await.map(tonic::Response::into_inner)
    }

    async fn cat(&self) -> ExecuteAgentResponse {
        self.execute(execute("a.cat", "hello.txt")).await.unwrap()
    }
}

fn logged(response: &ExecuteAgentResponse) -> String {
    response.logs.iter().map(|line| line.message.as_str()).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn a_command_reads_what_its_manifest_and_a_policy_give_it_and_the_log_says_why_not() {
    let world = World::new("// none\n", &[]);
    world.load().await;
    let denied = world.cat().await;
    // Bad descriptor: there is no directory at all.
    assert_eq!((denied.exit_code, &denied.output[..]), (8, &b""[..]));
    assert!(
        logged(&denied).contains("`filesystem:read:/data` is permitted by no policy"),
        "{}",
        logged(&denied)
    );

    world.write_policies(PERMIT);
    eventually("the policy is in force", async || world.cat().await.output == "hello").await;

    world.write_policies("permit (principal, action, resource");
    eventually("the mistake is told", async || world.server.log().contains("own.cedar:1:36")).await;
    assert_eq!(world.cat().await.output, "hello", "the set before stays in force");

    world.write_policies(&format!("{PERMIT}\n@id(\"closed\") forbid (principal, action, resource);"));
    eventually("it is forbidden", async || world.cat().await.exit_code == 8).await;
    assert!(logged(&world.cat().await).contains("forbidden by the policy `closed`"));
}

#[tokio::test]
async fn a_caller_takes_away_and_cannot_add() {
    let world = World::new("permit (principal, action, resource);", &[]);
    world.load().await;
    let with = async |allow: &[&str]| {
        let capabilities =
            Some(CapabilityList { allow: allow.iter().map(|text| (*text).to_owned()).collect() });
        let config = SandboxConfig { capabilities, ..SandboxConfig::default() };
        world
            .execute(ExecuteAgentRequest { sandbox_config: Some(config), ..execute("a.cat", "hello.txt") })
            .await
    };
    assert_eq!(with(&["filesystem:readwrite:/"]).await.unwrap().output, "hello");
    let nothing = with(&[]).await.unwrap();
    assert_eq!(nothing.exit_code, 8);
    assert!(logged(&nothing).contains("taken away by the caller"), "{}", logged(&nothing));
    assert_eq!(with(&["nonsense"]).await.unwrap_err().code(), Code::InvalidArgument);
    let narrower = manifest_with("a.cat", "1.0.0", "  capabilities: [\"env:HOME\"]\n");
    let request = ExecuteAgentRequest { manifest: narrower, ..execute("a.cat", "hello.txt") };
    assert_eq!(world.execute(request).await.unwrap().exit_code, 8);
}

#[tokio::test]
async fn a_denial_ends_the_execution_where_the_operator_wants_that() {
    let world = World::new("// none\n", &["security.on_violation=terminate"]);
    world.load().await;
    let status = world.execute(execute("a.cat", "hello.txt")).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(status.message().contains("permitted by no policy"), "{status}");
}

#[tokio::test]
async fn policies_with_a_mistake_keep_a_server_from_starting() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("own.cedar"),
        "permit (principal, action == Action::\"fly\", resource);",
    )
    .unwrap();
    let dir = format!("policy.dir={}", folder.path().display());
    let output = crate::program::run(&["serve", "--set", &dir, "--set", "server.data_dir=/nowhere"]);
    let said = crate::program::text(&output.stderr);
    assert!(said.contains("own.cedar:1:") && said.contains("fly"), "{said}");
    assert_eq!(output.status.code(), Some(2));
}

#[tokio::test]
async fn scratch_files_need_no_mount_and_what_a_kill_leaves_of_them_goes_with_the_next_start() {
    let guest = r#"(module
        (import "mentat" "request_capability" (func $request (param i32 i32) (result i32)))
        (import "mentat" "invoke_capability" (func $invoke (param i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "filesystem:readwrite:/tmp")
        (data (i32.const 100) "{\22op\22:\22write\22,\22path\22:\22/tmp/x\22,\22data\22:\22x\22}")
        (func (export "process") (result i32)
          (call $invoke (call $request (i32.const 0) (i32.const 25)) (i32.const 100) (i32.const 41))))"#;
    let mut server = Server::start();
    let manifest = manifest_with("a.tmp", "1.0.0", "  capabilities: [\"filesystem:readwrite:/tmp\"]\n");
    server.load_as(&manifest, guest).await.unwrap();
    let scratch = server.data().join("scratch");
    let left = || std::fs::read_dir(&scratch).unwrap().count();
    let run = async |server: &Server| {
        let answer = server.client().await.execute_agent(execute("a.tmp", "")).await;
        // The length of `{"written":1}`.
        assert_eq!(answer.unwrap().into_inner().exit_code, 13);
    };
    run(&server).await;
    eventually("the scratch directory is gone", async || left() == 0).await;
    server.kill();
    std::fs::create_dir(scratch.join("mentat-scratch-old")).unwrap();
    let server = server.restart();
    assert_eq!(left(), 0);
    run(&server).await;
}

#[tokio::test]
async fn a_replay_counts_what_no_policy_was_asked_and_refuses_what_is_no_log() {
    let world = World::new("// none\n", &["audit.checkpoint_ms=20"]);
    world.load().await;
    world.cat().await;
    let capabilities = Some(CapabilityList { allow: Vec::new() });
    let config = SandboxConfig { capabilities, ..SandboxConfig::default() };
    let narrowed = ExecuteAgentRequest { sandbox_config: Some(config), ..execute("a.cat", "hello.txt") };
    world.execute(narrowed).await.unwrap();
    let audit = world.server.data().join("audit");
    let replay = |policies: &std::path::Path, log: &std::path::Path, more: &[&str]| {
        let paths = ["--policy", policies.to_str().unwrap(), "--audit", log.to_str().unwrap()];
        crate::program::run(&[&["policy", "replay"], &paths[..], more].concat())
    };
    let new = world.folder.path().join("new.cedar");
    std::fs::write(&new, PERMIT).unwrap();
    eventually("both executions are recorded", async || {
        let said = crate::program::text(&replay(&new, &audit, &[]).stdout);
        said.ends_with(
            "1 of 1 decisions would come out differently\n1 more were up to manifests or callers, and no policy was asked\n",
        )
    })
    .await;
    let output = replay(&new, &audit, &["--json"]);
    assert!(output.status.success());
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&told["decisions"], &told["not_asked"]), (&1.into(), &1.into()), "{told}");
    let change = &told["changes"][0];
    let expected = ("a.cat", "filesystem:read:/data", "permitted by nothing", "permitted by data");
    let said = |key: &str| change[key].as_str().unwrap().to_owned();
    assert_eq!((&*said("agent"), &*said("capability"), &*said("was"), &*said("would_be")), expected);
    let same = replay(&world.folder.path().join("policies"), &audit, &["--json"]);
    assert_eq!(
        serde_json::from_slice::<serde_json::Value>(&same.stdout).unwrap()["changes"],
        serde_json::json!([])
    );
    for (policies, log, says) in [
        (new.as_path(), world.folder.path(), "no audit log"),
        (audit.as_path(), audit.as_path(), "there is no `*.cedar` file"),
    ] {
        let output = replay(policies, log, &[]);
        assert_eq!(output.status.code(), Some(2));
        let said = crate::program::text(&output.stderr);
        assert!(said.contains(says), "{said}");
    }
}
