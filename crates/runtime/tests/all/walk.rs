//! One authority: every function that a guest can import is known, and those that could touch something outside the
//! execution do not without a grant. The table of them is `walk/functions.txt`; that it is the linker's own list is
//! tested beside the linker.

mod puppet;

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use mentat_manifest::{FileAccess, Manifest};
use mentat_runtime::model::{Invocation, Outcome};
use mentat_runtime::security::authority::Authority;
use mentat_runtime::security::cedar::{Policies, PolicySource};
use mentat_runtime::security::offers::{Mount, Offers};
use mentat_runtime::security::policy::{OnViolation, Rules};
use mentat_runtime::{MediaConfig, MediaPlace, Module, NetworkConfig, Runtime};

use self::puppet::{Props, Puppet, Step};
use crate::harness::{Test, grant, runtime_with_media};

const TABLE: &str = include_str!("walk/functions.txt");
const EVERYTHING: &str = "permit (principal, action, resource);";

/// The lines of one half of the table: the function, and what is said of it.
fn table(half: &'static str) -> impl Iterator<Item = (&'static str, &'static str)> {
    let lines = TABLE.lines().filter_map(move |line| line.strip_prefix(half)?.strip_prefix(' '));
    lines
        .map(|line| line.rsplit_once(": ").unwrap_or_else(|| panic!("`{line}` says nothing of its function")))
}

/// A runtime with a media store in which there is one object, as long as nobody stores another.
struct Stage {
    runtime: Arc<Runtime>,
    media: tempfile::TempDir,
}

fn stage() -> &'static Stage {
    static STAGE: OnceLock<Stage> = OnceLock::new();
    STAGE.get_or_init(|| {
        let media = tempfile::tempdir().unwrap();
        let object = media.path().join("objects/default/x");
        std::fs::create_dir_all(object.parent().unwrap()).unwrap();
        std::fs::write(object, "as it was").unwrap();
        let place = MediaPlace::Directory(media.path().into());
        let runtime =
            runtime_with_media(MediaConfig { place, ..MediaConfig::default() }, NetworkConfig::default());
        Stage { runtime: Arc::new(runtime), media }
    })
}

/// Every file below a folder.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

/// What lies outside an execution: files, objects, a variable, and somebody who listens.
struct Outside {
    folder: tempfile::TempDir,
    /// When the file in the folder was changed.
    modified: SystemTime,
    stream: TcpListener,
    datagrams: UdpSocket,
}

impl Outside {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "as it was").unwrap();
        let modified = std::fs::metadata(&file).unwrap().modified().unwrap();
        // One port for both, so that one number leads to either.
        let (stream, datagrams) = loop {
            let stream = TcpListener::bind("127.0.0.1:0").unwrap();
            if let Ok(datagrams) = UdpSocket::bind(stream.local_addr().unwrap()) {
                break (stream, datagrams);
            }
        };
        stream.set_nonblocking(true).unwrap();
        datagrams.set_nonblocking(true).unwrap();
        Self { folder, modified, stream, datagrams }
    }

    fn port(&self) -> u16 {
        self.stream.local_addr().unwrap().port()
    }

    fn offers(&self) -> Offers {
        let mount = Mount::new(self.folder.path(), "/data", FileAccess::ReadWrite).unwrap();
        let mut offers = Offers { mounts: vec![mount], ..Offers::default() };
        offers.env.insert("KEY".into(), "value".into());
        offers
    }

    /// Runs a module with these capabilities under these policies.
    async fn run(
        &self,
        module: &Arc<Module>,
        capabilities: &[&str],
        policies: &str,
        input: Vec<u8>,
    ) -> Outcome {
        let list = serde_json::to_string(capabilities).unwrap();
        let manifest = format!(
            "id: a.b\nversion: 1.0.0\nruntime: wasm\nmodule: a.wasm\nwasm: {{ capabilities: {list} }}\n"
        );
        let policies =
            Policies::parse(&[PolicySource { name: "test".into(), text: policies.into() }]).unwrap();
        let authority = Authority::new(Rules::default(), OnViolation::Deny, self.offers(), policies, None);
        let invocation = Invocation::new(input);
        let grant = grant(&authority, &Manifest::parse(&manifest).unwrap(), &[], invocation.execution_id);
        stage().runtime.execute(module, &grant, invocation).await
    }

    /// Everything that a guest could have changed here or come to is as it was.
    fn check_untouched(&self, by: &str) {
        let entries = std::fs::read_dir(self.folder.path()).unwrap();
        let names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["file"], "after {by}");
        let file = self.folder.path().join("file");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "as it was", "after {by}");
        assert_eq!(std::fs::metadata(&file).unwrap().modified().unwrap(), self.modified, "after {by}");
        let (mut objects, media) = (Vec::new(), stage().media.path());
        files(media, &mut objects);
        assert_eq!(objects, [media.join("objects/default/x")], "after {by}");
        assert_eq!(self.stream.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "after {by}");
        assert_eq!(
            self.datagrams.recv(&mut [0; 16]).unwrap_err().kind(),
            ErrorKind::WouldBlock,
            "after {by}"
        );
    }
}

/// The powers that stand in the way of nothing: nothing is listed, or all is listed and nothing permitted.
const WITHOUT: [(&[&str], &str); 2] = [
    (&[], EVERYTHING),
    (&["filesystem:readwrite:/data", "network:*:*", "env:KEY", "media:write:"], "// none\n"),
];

/// A core module that calls one function with these arguments, answers what it answers, and gives out 256 bytes of the
/// place that results are written to.
fn core_guest(module: &str, name: &str, signature: &str, arguments: &str) -> String {
    let (params, result) = signature.split_once(" -> ").unwrap();
    let params: Vec<&str> =
        params.trim_matches(['(', ')']).split(", ").filter(|kind| !kind.is_empty()).collect();
    let arguments: Vec<&str> = arguments.split(' ').filter(|argument| !argument.is_empty()).collect();
    assert_eq!(params.len(), arguments.len(), "the arguments of {module} {name}");
    let pushed: String =
        params.iter().zip(arguments).map(|(kind, argument)| format!(" ({kind}.const {argument})")).collect();
    let (result, answer) = if result == "()" { ("", "(i32.const 0)") } else { ("(result i32)", "") };
    format!(
        r#"(module
          (import "{module}" "{name}" (func $called (param {}) {result}))
          (import "mentat" "write_output" (func $write_output (param i32 i32) (result i32)))
          (memory (export "memory") 2)
          (data (i32.const 64) "\00\10\00\00\04\00\00\00")
          (data (i32.const 1024) "file") (data (i32.const 1056) "new")
          (data (i32.const 1088) "filesystem:readwrite:/data") (data (i32.const 1120) "{{}}")
          (data (i32.const 1152) "media://x") (data (i32.const 1184) "text/plain")
          (func (export "process") (result i32)
            (call $called{pushed}) {answer}
            (drop (call $write_output (i32.const 2048) (i32.const 256)))))"#,
        params.join(" ")
    )
}

/// The core functions that are outside: module, name, signature, arguments.
fn core_functions() -> impl Iterator<Item = (&'static str, &'static str, &'static str, &'static str)> {
    table("core").filter_map(|(function, what)| {
        let arguments = what.strip_prefix("outside")?.trim();
        let (module, rest) = function.split_once(' ')?;
        let (name, signature) = rest.split_once(' ')?;
        Some((module, name, signature, arguments))
    })
}

#[tokio::test]
async fn no_core_function_touches_anything_outside_without_a_grant() {
    let outside = Outside::new();
    for (module, name, signature, arguments) in core_functions() {
        let guest = Test::wat(&core_guest(module, name, signature, arguments))
            .load_in(&stage().runtime)
            .await
            .unwrap()
            .module;
        for (capabilities, policies) in WITHOUT {
            let outcome = outside.run(&guest, capabilities, policies, Vec::new()).await;
            outside.check_untouched(name);
            match outcome.result {
                // There is an environment, and nothing in it.
                Ok(answer) if name.starts_with("environ_") => {
                    assert_eq!(answer.output[..8], [0; 8], "{module} {name}");
                }
                Ok(answer) => assert_ne!(answer.exit_code, 0, "{module} {name} did what it was asked to"),
                Err(error) => assert_eq!(error.reason().as_str(), "TRAP", "{module} {name}: {error}"),
            }
        }
    }
}

#[tokio::test]
async fn with_a_grant_core_functions_do_what_they_did_not_without() {
    for (called, granted) in [
        ("path_open", "filesystem:readwrite:/data"),
        ("path_create_directory", "filesystem:readwrite:/data"),
        ("path_rename", "filesystem:readwrite:/data"),
        ("path_unlink_file", "filesystem:readwrite:/data"),
        ("fd_prestat_get", "filesystem:readwrite:/data"),
        ("environ_sizes_get", "env:KEY"),
        ("download_media", "media:read:x"),
        ("upload_media", "media:write:"),
    ] {
        let belongs = |module: &str| module.ends_with("preview1") || module == "mentat";
        let found = core_functions().find(|(module, name, ..)| *name == called && belongs(module));
        let (module, name, signature, arguments) = found.unwrap();
        let guest = Test::wat(&core_guest(module, name, signature, arguments))
            .load_in(&stage().runtime)
            .await
            .unwrap()
            .module;
        let outside = Outside::new();
        let outcome = outside.run(&guest, &[granted], EVERYTHING, Vec::new()).await;
        let answer = outcome.result.unwrap_or_else(|error| panic!("{name}: {error}"));
        if name.ends_with("_media") {
            // The length of the object, and that of the reference.
            assert_eq!(answer.exit_code, if name == "download_media" { 9 } else { 79 }, "{name}");
            continue;
        }
        assert_eq!(answer.exit_code, 0, "{name}");
        let names: BTreeSet<_> = std::fs::read_dir(outside.folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        let changed = !names.iter().eq(["file"]);
        assert!(changed || answer.output.iter().any(|byte| *byte != 0), "{name} did nothing");
    }
}

/// The folders of WIT that the host's interfaces stand in, ours and WASI's own.
fn wit() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let cargo = Command::new("cargo")
        .args(["metadata", "--format-version", "1", "--locked", "--offline"])
        .current_dir(root)
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&cargo.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let wasi = packages.iter().find(|package| package["name"] == "wasmtime-wasi-http").unwrap();
    let wasi = Path::new(wasi["manifest_path"].as_str().unwrap()).parent().unwrap().join("wit");
    vec![wasi, root.join("../../wit")]
}

fn puppet() -> Puppet {
    let folders = wit();
    let mut puppet = Puppet::read(&folders.iter().map(PathBuf::as_path).collect::<Vec<_>>());
    // Which interfaces there are is for the test beside the linker to say.
    let interfaces: BTreeSet<&str> =
        table("component").filter_map(|(function, _)| Some(function.split_once(' ')?.0)).collect();
    puppet.retain(|function| interfaces.contains(function.interface.as_str()));
    puppet
}

#[test]
fn every_function_of_every_interface_is_known_to_be_outside_or_not() {
    let known: BTreeSet<String> = table("component").map(|(function, _)| function.to_owned()).collect();
    let offered: BTreeSet<String> = puppet()
        .functions
        .iter()
        .map(|function| format!("{} {}", function.interface, function.name))
        .collect();
    let unknown: Vec<_> = offered.difference(&known).collect();
    assert!(unknown.is_empty(), "walk/functions.txt does not say whether these are outside: {unknown:#?}");
    let gone: Vec<_> = known.difference(&offered).collect();
    assert!(gone.is_empty(), "walk/functions.txt names what is not offered: {gone:#?}");
    for (function, what) in table("component") {
        assert!(["own", "outside"].contains(&what), "`{function}` is `{what}`");
    }
}

/// Sequences of calls that end at something outside: the shortest for each function, all of an interface in their order,
/// and a request over HTTP as it is usually made.
fn ways(puppet: &Puppet) -> Vec<(String, Vec<usize>)> {
    let outside: Vec<usize> = table("component")
        .filter(|(_, what)| *what == "outside")
        .map(|(function, _)| function.split_once(' ').unwrap())
        .map(|(interface, name)| puppet.find(interface, name))
        .collect();
    let mut ways = Vec::new();
    let mut by_interface: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
    for target in outside {
        let function = &puppet.functions[target];
        ways.push((format!("{} {}", function.interface, function.name), puppet.way_to(target)));
        by_interface.entry(&function.interface).or_default().insert(target);
    }
    for (interface, targets) in by_interface {
        let mut all: Vec<usize> = Vec::new();
        for target in targets {
            let new: Vec<usize> =
                puppet.way_to(target).into_iter().filter(|step| !all.contains(step)).collect();
            all.extend(new);
        }
        ways.push((format!("all of {interface}"), all));
    }
    let types = |name: &str| puppet.find("wasi:http/types", name);
    let request = vec![
        types("[constructor]fields"),
        types("[constructor]outgoing-request"),
        types("[method]outgoing-request.set-scheme"),
        types("[method]outgoing-request.set-authority"),
        puppet.find("wasi:http/outgoing-handler", "handle"),
        types("[method]future-incoming-response.subscribe"),
        puppet.find("wasi:io/poll", "[method]pollable.block"),
        types("[method]future-incoming-response.get"),
    ];
    ways.push(("a request over HTTP".into(), request));
    ways
}

#[tokio::test]
async fn no_function_of_a_component_touches_anything_outside_without_a_grant() {
    let outside = Outside::new();
    let puppet = puppet();
    let authority = format!("127.0.0.1:{}", outside.port());
    for text in [authority.as_str(), "localhost", "new", "file", "media://x", "filesystem:readwrite:/data"] {
        let component = puppet.component(&Props { text, port: outside.port() });
        let guest = Test::module(component)
            .load_in(&stage().runtime)
            .await
            .unwrap_or_else(|error| panic!("{error}"))
            .module;
        for (name, way) in ways(&puppet) {
            let calls: Vec<u8> = way.iter().map(|step| u8::try_from(*step).unwrap()).collect();
            for (capabilities, policies) in WITHOUT {
                let outcome = outside.run(&guest, capabilities, policies, calls.clone()).await;
                outside.check_untouched(&name);
                match outcome.result {
                    Ok(answer) => {
                        let last = Step::of(answer.output[answer.output.len() - 1]);
                        // There are lists of directories and variables, and nothing in them.
                        let is_list = name.ends_with("get-directories")
                            || name.ends_with("get-environment")
                            // What comes of it is told by the function that ends it; nobody was reached meanwhile.
                            || name.ends_with("tcp-socket.start-connect")
                            || name.starts_with("all of")
                            || name.starts_with("a request");
                        assert!(
                            is_list || last != Step::Done,
                            "{name} did what it was asked to, with `{text}`"
                        );
                    }
                    Err(error) => assert_eq!(error.reason().as_str(), "TRAP", "{name}: {error}"),
                }
            }
        }
    }
}

#[tokio::test]
async fn with_a_grant_functions_of_components_do_what_they_did_not_without() {
    let puppet = puppet();
    for (text, name) in [
        ("new", "[method]descriptor.create-directory-at"),
        ("new", "[method]descriptor.symlink-at"),
        ("file", "[method]descriptor.unlink-file-at"),
    ] {
        let outside = Outside::new();
        let component = puppet.component(&Props { text, port: outside.port() });
        let guest = Test::module(component).load_in(&stage().runtime).await.unwrap().module;
        let way = puppet.way_to(puppet.find("wasi:filesystem/types", name));
        let calls: Vec<u8> = way.iter().map(|step| u8::try_from(*step).unwrap()).collect();
        let outcome = outside.run(&guest, &["filesystem:readwrite:/data"], EVERYTHING, calls).await;
        let answer = outcome.result.unwrap_or_else(|error| panic!("{name}: {error}"));
        let steps: Vec<Step> = answer.output.iter().map(|byte| Step::of(*byte)).collect();
        assert!(steps.iter().all(|step| *step == Step::Done), "{name}: {steps:?}");
        let exists = |name: &str| outside.folder.path().join(name).symlink_metadata().is_ok();
        assert!(exists("new") || !exists("file"), "{name} did nothing");
    }
}
