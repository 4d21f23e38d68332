//! Ordinary programs and their files: C's `fopen`, Rust's `std::fs` in a core module and in a component. They work where
//! they were granted what they open, and get the ordinary error of their language where they were not.

use std::path::{Path, PathBuf};

use mentat_proto::v1::ExecuteAgentRequest;

use crate::program::{run, text};
use crate::server::{Server, execute};

const PROGRAMS: [&str; 3] = ["files-c", "files-rust", "files-component"];

fn program(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/programs").join(name);
    assert!(folder.join("agent.wasm").exists(), "{name} is not built; run `cargo xtask agents`");
    folder
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("drafts")).unwrap();
    std::fs::write(folder.path().join("x"), "from a file").unwrap();
    std::fs::write(folder.path().join("drafts/y"), "a draft").unwrap();
    folder
}

/// Output, exit code and what is said besides, of a module without a manifest.
fn run_module(name: &str, input: &str, powers: &[&str]) -> (String, i32, String) {
    let module = program(name).join("agent.wasm");
    let arguments = [&["run", module.to_str().unwrap(), "--input", input], powers].concat();
    let output = run(&arguments);
    (text(&output.stdout), output.status.code().unwrap(), text(&output.stderr))
}

#[test]
fn what_was_mounted_is_opened_and_what_was_set_is_read() {
    let folder = folder();
    let mount = format!("{}:/data:rw", folder.path().display());
    for name in PROGRAMS {
        let input = "read /data/x\nwrite /data/new hello\nread /data/new\nenv GREETING\nenv HOME";
        let (output, code, said) = run_module(name, input, &["--mount", &mount, "--env", "GREETING=hi"]);
        assert_eq!((output.as_str(), code), ("from a filehellohi\nunset\n", 0), "{name}: {said}");
        assert_eq!(std::fs::read_to_string(folder.path().join("new")).unwrap(), "hello");
    }
}

#[test]
fn what_was_not_mounted_is_an_ordinary_error() {
    let folder = folder();
    let mounted = |access: &str| format!("{}:/data:{access}", folder.path().display());
    let number = |name: &str, number: u32| match name {
        "files-c" => String::new(),
        _ => format!(" (os error {number})"),
    };
    for name in PROGRAMS {
        let (output, code, _) = run_module(name, "read /data/x", &[]);
        assert_eq!(code, 1);
        assert_eq!(output, format!("/data/x: No such file or directory{}\n", number(name, 44)));

        let (output, code, _) = run_module(name, "read /data/nothing", &["--mount", &mounted("ro")]);
        assert_eq!(code, 1);
        assert_eq!(output, format!("/data/nothing: No such file or directory{}\n", number(name, 44)));

        let (output, code, said) = run_module(name, "write /data/x y", &["--mount", &mounted("ro")]);
        assert_eq!(code, 1);
        assert_eq!(output, format!("/data/x: Operation not permitted{}\n", number(name, 63)));
        assert!(said.contains("allow it with `--mount 'HOST:/data:wo'`"), "{name}: {said}");

        let (output, code, said) = run_module(name, "read /data/x", &["--mount", &mounted("wo")]);
        assert_eq!(code, 1);
        assert_eq!(output, format!("/data/x: Permission denied{}\n", number(name, 2)));
        assert!(said.contains("capability `filesystem:read:/data`"), "{name}: {said}");
    }
    assert_eq!(std::fs::read_to_string(folder.path().join("x")).unwrap(), "from a file");
}

#[tokio::test]
async fn in_a_service_they_open_what_manifest_policy_and_mount_table_give_them() {
    let folder = folder();
    let policies = tempfile::tempdir().unwrap();
    let policy = "@id(\"data\") permit (principal, action, resource in Path::\"/data\");\n\
                  @id(\"drafts\") forbid (principal, action, resource in Path::\"/data/drafts\");\n\
                  @id(\"greeting\") permit (principal, action, resource == Variable::\"GREETING\");";
    std::fs::write(policies.path().join("own.cedar"), policy).unwrap();
    let server = Server::with(&[
        &format!(
            "sandbox.mounts=[{{ guest = \"/data\", host = \"{}\", access = \"read-write\" }}]",
            folder.path().display()
        ),
        "sandbox.env=[{ name = \"GREETING\", value = \"hi\" }]",
        &format!("policy.dir={}", policies.path().display()),
    ]);
    for name in PROGRAMS {
        let manifest = std::fs::read_to_string(program(name).join("manifest.yaml")).unwrap();
        let module = std::fs::read(program(name).join("agent.wasm")).unwrap();
        server.load_module(&manifest, &module).await.unwrap();
        let ask = async |input: &str| {
            let request = ExecuteAgentRequest {
                include_logs: true,
                ..execute(&format!("tests.{name}"), input.to_owned())
            };
            let answer = server.client().await.execute_agent(request).await.unwrap().into_inner();
            let logs: Vec<String> = answer.logs.iter().map(|line| line.message.clone()).collect();
            (text(&answer.output), answer.exit_code, logs.join("\n"))
        };
        let granted = ask("read /data/x\nwrite /data/new hello\nread /data/new\nenv GREETING").await;
        assert_eq!((granted.0.as_str(), granted.1), ("from a filehellohi\n", 0), "{name}: {}", granted.2);

        let (output, code, logs) = ask("read /data/drafts/y").await;
        assert_eq!(code, 1);
        assert!(output.starts_with("/data/drafts/y: Permission denied"), "{name}: {output}");
        let why = "capability `filesystem:read:/data/drafts/y` is forbidden by the policy `drafts`";
        assert!(logs.starts_with(why) && logs.lines().count() == 1, "{name}: {logs}");
    }
}

/// CPython for WASI, as it was installed among the tools.
fn cpython() -> PathBuf {
    let libraries = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools/python/lib");
    let versions = std::fs::read_dir(&libraries).map(|entries| entries.filter_map(Result::ok).collect());
    let versions: Vec<std::fs::DirEntry> = versions.unwrap_or_default();
    let mut modules = versions
        .iter()
        .map(|version| version.path().join("site-packages/wasm_runtime/python-3.11.3.wasm"))
        .filter(|module| module.exists());
    modules.next().expect("CPython is not installed; run `cargo xtask agents`")
}

#[test]
fn cpython_reads_the_script_that_it_was_given_and_nothing_else() {
    const SCRIPT: &str = r#"
import os, sys
print(sys.argv[1:], sorted(os.listdir("/scripts")), open("/scripts/data.txt").read(), sys.stdin.read())
for path, mode in [("/scripts/new.txt", "w"), ("/scripts/secret/key", "r"), ("/etc/passwd", "r")]:
    try:
        open(path, mode).close()
        print("opened", path)
    except OSError as error:
        print(type(error).__name__, error)
with open("/tmp/own", "w") as file:
    file.write("scratch")
print(open("/tmp/own").read(), os.environ.get("HOME"))
"#;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("x.py"), SCRIPT).unwrap();
    std::fs::write(folder.path().join("data.txt"), "some data").unwrap();
    let python = cpython();
    let python = python.to_str().unwrap();
    let mount = format!("{}:/scripts", folder.path().display());
    let scratch = ["--allow", "filesystem:readwrite:/tmp"];
    let given = [&["run", python, "--input", "typed", "--mount", &mount], &scratch[..]].concat();
    let output = run(&[&given[..], &["--", "/scripts/x.py", "one"]].concat());
    let expected = "['one'] ['data.txt', 'x.py'] some data typed\n\
                    PermissionError [Errno 63] Operation not permitted: '/scripts/new.txt'\n\
                    FileNotFoundError [Errno 44] No such file or directory: '/scripts/secret/key'\n\
                    FileNotFoundError [Errno 44] No such file or directory: '/etc/passwd'\n\
                    scratch None\n";
    assert_eq!(
        (text(&output.stdout).as_str(), output.status.code()),
        (expected, Some(0)),
        "{}",
        text(&output.stderr)
    );

    let output = run(&["run", python, "--", "/scripts/x.py"]);
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    assert!(said.contains("can't open file '/scripts/x.py': [Errno 44] No such file or directory"), "{said}");
}
