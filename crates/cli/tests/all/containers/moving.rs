//! From an image to a module: what `mentat analyze` sees of a program, and what `mentat bench runtimes` measures of one that is
//! both.

use std::path::Path;

use serde_json::{Value, json};

use super::engine::{Engine, compiled, musl};
use crate::program::{mentat, text};

/// What the command line says: exit code, stdout, stderr.
fn call(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = mentat().args(arguments).output().unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// The report of an analysis.
fn analyzed(engine: &Engine, image: &str, more: &[&str]) -> Value {
    let socket = engine.socket();
    let arguments = [&["analyze", image, "--socket", socket.to_str().unwrap(), "--json"], more].concat();
    let (code, said, wrong) = call(&arguments);
    assert_eq!(code, Some(0), "{wrong}");
    serde_json::from_str(&said).unwrap()
}

fn topics(report: &Value) -> Vec<&str> {
    report["findings"].as_array().unwrap().iter().map(|found| found["topic"].as_str().unwrap()).collect()
}

#[test]
fn a_recorded_run_of_an_image_tells_what_its_program_asks_for_and_leaves_nothing() {
    let engine = Engine::start();
    engine.import("localhost/look:1", &["ENV MODE=look", "EXPOSE 8080", "USER 1000"]);
    engine.import("localhost/threads:1", &["ENV MODE=threads"]);
    engine.import("localhost/sleep:1", &["ENV MODE=sleep"]);
    let plain = analyzed(&engine, "localhost/look:1", &[]);
    assert_eq!(topics(&plain), ["listens", "root", "machine_code"]);
    assert_eq!(plain["verdict"], "unknown", "nobody has seen what the program does");
    assert!(plain["unseen"].to_string().contains("--record"));
    let facts = plain["facts"].to_string();
    assert!(facts.contains("/agent: machine code, complete in itself") && facts.contains("MODE"), "{facts}");

    let attempts =
        "read /data/words.txt\nwrite /out/new\nwrite /tmp/x\nexecute /tmp/program\nconnect 192.0.2.1:443";
    let report = analyzed(&engine, "localhost/look:1", &["--record", "--input", attempts]);
    let wanted: Vec<&String> = report["capabilities"].as_object().unwrap().keys().collect();
    assert_eq!(
        wanted,
        [
            "filesystem:read:/data",
            "filesystem:readwrite:/out",
            "filesystem:readwrite:/tmp",
            "network:tcp:192.0.2.1:443"
        ]
    );
    assert_eq!(report["verdict"], "no", "it has started another program: {report:#}");
    assert!(topics(&report).contains(&"processes"));
    let ran = report["facts"].as_array().unwrap().iter().find(|fact| fact[0] == "recorded run").unwrap();
    assert!(ran[1].as_str().unwrap().contains("exit code 0"), "{ran}");

    // Held to what any container is held to, and ended when its time is over.
    let threads = analyzed(&engine, "localhost/threads:1", &["--record"]);
    assert!(topics(&threads).contains(&"threads"), "{threads:#}");
    let sleep = analyzed(&engine, "localhost/sleep:1", &["--record", "--timeout", "1s"]);
    assert!(sleep["facts"].to_string().contains("was ended"), "{sleep:#}");
    assert_eq!(sleep["verdict"], "unknown");
    assert!(sleep["unseen"].to_string().contains("did not come to a good end"), "{sleep:#}");
    assert!(!report["unseen"].to_string().contains("did not come to a good end"), "{report:#}");
    engine.is_empty();

    let socket = engine.socket();
    let socket = socket.to_str().unwrap();
    let (code, _, wrong) = call(&["analyze", "localhost/nothing:1", "--socket", socket]);
    assert_eq!(code, Some(2));
    assert!(wrong.contains("image `localhost/nothing:1` is not in the container engine"), "{wrong}");
    let (code, _, wrong) = call(&["analyze", "localhost/look:1", "--socket", "/nowhere/engine.sock"]);
    assert_eq!(code, Some(9), "{wrong}");
}

#[test]
fn an_image_without_its_program_is_told_what_is_missing() {
    let engine = Engine::start();
    let folder = tempfile::tempdir().unwrap();
    let link = |to: &str, name: &str| std::os::unix::fs::symlink(to, folder.path().join(name)).unwrap();
    link("nowhere/at/all", "link");
    std::fs::create_dir(folder.path().join("folder")).unwrap();
    let socket = engine.socket();
    for (number, (entry, says)) in [
        ("/link", "/link"),
        ("/gone", "`/gone` is not in it"),
        ("gone", "`gone` is in no folder of its `PATH`"),
        ("/folder", "`/folder` is a folder"),
        ("", "it names none"),
    ]
    .into_iter()
    .enumerate()
    {
        let image = format!("localhost/entry:{number}");
        let change = format!("ENTRYPOINT [\"{entry}\"]");
        let changes = if entry.is_empty() { vec![] } else { vec![change.as_str()] };
        engine.import_folder(&image, folder.path(), &changes);
        let plain = analyzed(&engine, &image, &[]);
        let facts = plain["facts"].to_string();
        assert!(facts.contains("none: ") && facts.contains(says), "{facts}");
        let arguments = ["analyze", &image, "--socket", socket.to_str().unwrap(), "--record"];
        let (code, _, wrong) = call(&arguments);
        assert_eq!(code, Some(2), "{entry}: {wrong}");
        assert!(wrong.contains("has no program to execute: ") && wrong.contains(says), "{entry}: {wrong}");
    }
    engine.is_empty();
}

#[test]
fn what_a_killed_analysis_has_left_the_next_one_removes_and_nothing_of_one_that_goes_on() {
    let engine = Engine::start();
    engine.import("localhost/sleep:1", &["ENV MODE=sleep"]);
    engine.import("localhost/echo:1", &["ENV MODE=echo"]);
    let socket = engine.socket();
    let recording = || {
        let before = engine.containers();
        let mut child = mentat()
            .args(["analyze", "localhost/sleep:1", "--record", "--timeout", "60s"])
            .args(["--socket", socket.to_str().unwrap()])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let since = std::time::Instant::now();
        loop {
            let running = engine.podman(&["ps", "--quiet", "--no-trunc"]);
            let new = running.lines().find(|id| !before.iter().any(|known| known == id));
            if let Some(id) = new {
                return (child, id.to_owned());
            }
            assert!(since.elapsed() < std::time::Duration::from_secs(60), "it does not run");
            assert!(child.try_wait().unwrap().is_none(), "it has ended");
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    };
    let (mut killed, left) = recording();
    // It has the same list of system calls as any agent's.
    let security = engine.podman(&["inspect", "--format", "{{.HostConfig.SecurityOpt}}", &left]);
    assert!(security.contains("seccomp="), "{security}");
    let (mut going_on, kept) = recording();
    killed.kill().unwrap();
    killed.wait().unwrap();
    analyzed(&engine, "localhost/echo:1", &[]);
    assert_eq!(engine.containers(), [kept]);
    going_on.kill().unwrap();
    going_on.wait().unwrap();
    analyzed(&engine, "localhost/echo:1", &["--record"]);
    engine.is_empty();
}

#[test]
fn source_is_looked_at_and_the_manifest_gets_its_part() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write(
        "main.py",
        "import os, requests\n\ndef process():\n    return requests.get('https://api.example.com/v1', headers={'k': os.environ['API_KEY']})\n",
    );
    let target = folder.path().to_str().unwrap();
    let report = |target: &str| -> Value {
        let (code, said, wrong) = call(&["analyze", target, "--json"]);
        assert_eq!(code, Some(0), "{wrong}");
        serde_json::from_str(&said).unwrap()
    };
    let told = report(target);
    assert_eq!((&told["verdict"], &told["left_out"]), (&json!("yes"), &json!([])));
    // What was not looked at could be anything, and is told.
    std::fs::create_dir_all(folder.path().join("node_modules/x")).unwrap();
    write("node_modules/x/index.js", "require('child_process')\n");
    write("long.py", &"pass\n".repeat(1 << 18));
    write("run", "#!/bin/sh\nexec python3 main.py\n");
    let told = report(target);
    assert_eq!(told["verdict"], "unknown");
    assert_eq!(
        told["left_out"],
        json!([
            { "why": "dependencies", "may_matter": true, "count": 1, "names": ["node_modules"] },
            { "why": "other_scripts", "may_matter": true, "count": 1, "names": ["run"] },
            { "why": "too_large", "may_matter": true, "count": 1, "names": ["long.py"] },
        ])
    );
    write("agent", "#!/usr/bin/env python3\nimport subprocess\n");
    write("manifest.yaml", "id: a.b\nversion: 1.0.0\nruntime: python3.12\nimage: x:1\n");
    let (code, said, wrong) = call(&["analyze", target]);
    assert_eq!(code, Some(0), "{wrong}");
    for line in [
        "could it be a module: not as it is",
        "  other programs: import subprocess",
        "    at agent:2",
        "  folders of dependencies: node_modules",
        "  scripts that are not read here: run",
        "  files of which the first MiB was looked at and no more: long.py",
        "    - \"env:API_KEY\"  # main.py:4",
    ] {
        assert!(said.lines().any(|told| told.trim_start() == line.trim_start()), "{line} is not in {said}");
    }
    let manifest = folder.path().join("manifest.yaml");
    let (code, _, wrong) = call(&["analyze", target, "--write", manifest.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{wrong}");
    let (code, explained, wrong) = call(&["validate", manifest.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{wrong}");
    assert!(explained.contains("network:https:api.example.com"), "{explained}");
    let (code, _, wrong) = call(&["analyze", target, "--write", manifest.to_str().unwrap()]);
    assert_eq!(code, Some(2));
    assert!(wrong.contains("has a `wasm` part already"), "{wrong}");
    assert_eq!(call(&["analyze", target, "--record"]).0, Some(2));
    assert_eq!(call(&["analyze", folder.path().join("main.py").to_str().unwrap()]).0, Some(2));
    let empty = tempfile::tempdir().unwrap();
    std::fs::create_dir(empty.path().join("vendor")).unwrap();
    let (code, _, wrong) = call(&["analyze", empty.path().to_str().unwrap()]);
    assert_eq!(code, Some(2));
    assert!(wrong.contains("not looked at were folders of dependencies: vendor"), "{wrong}");
}

/// An agent's folder, of one source compiled both ways.
fn both(engine: &Engine, folder: &Path, more: &str) {
    engine.import_program("localhost/both:1", &compiled("both", &musl()));
    std::fs::copy(compiled("both", "wasm32-wasip1"), folder.join("agent.wasm")).unwrap();
    let manifest = format!(
        "id: a.both\nversion: 1.0.0\nruntime: wasm\nmodule: agent.wasm\nimage: localhost/both:1\nevents: ndjson\n{more}"
    );
    std::fs::write(folder.join("manifest.yaml"), manifest).unwrap();
}

#[test]
fn one_source_compiled_both_ways_is_measured_side_by_side() {
    let engine = Engine::start();
    let folder = tempfile::tempdir().unwrap();
    both(&engine, folder.path(), "wasm: { instances: reuse }\n");
    let (agent, socket) = (folder.path().to_str().unwrap(), engine.socket());
    let usual = [
        "bench",
        "runtimes",
        agent,
        "--socket",
        socket.to_str().unwrap(),
        "--rounds",
        "3",
        "--parallel",
        "2",
    ];
    let (code, said, wrong) = call(&[&usual[..], &["--input", "\"to be or not to be\"", "--json"]].concat());
    assert_eq!(code, Some(0), "{wrong}");
    let report: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        (&report["agent"], &report["rounds"], &report["parallel"]),
        (&json!("a.both"), &json!(3), &json!(2))
    );
    let runtimes = report["runtimes"].as_array().unwrap();
    let kinds: Vec<&str> = runtimes.iter().map(|figures| figures["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["wasm", "container", "kept container"]);
    for figures in runtimes {
        for key in ["ready_us", "first_us", "answer_us", "slowest_us", "memory_bytes", "in_a_gibibyte"] {
            assert!(figures[key].as_u64().unwrap() > 0, "{key} of {figures}");
        }
        assert!(figures["per_second"].as_f64().unwrap() > 0.0);
    }
    // What everybody knows beforehand, on any machine.
    let start = |place: usize| runtimes[place]["start_us"].as_u64().unwrap();
    assert!(start(0) * 10 < start(1) && start(2) * 10 < start(1), "{report:#}");
    engine.is_empty();

    let (code, said, wrong) = call(&[&usual[..], &["--input", "\"x\""]].concat());
    assert_eq!(code, Some(0), "{wrong}");
    assert!(said.starts_with("a.both 1.0.0: 3 bytes of input, 3 rounds, 2 at a time"), "{said}");
    assert!(said.contains("kept container") && said.contains(" x)"), "{said}");

    // What does not answer alike is not the same program.
    engine.import("localhost/other:1", &["ENV MODE=echo"]);
    let manifest = std::fs::read_to_string(folder.path().join("manifest.yaml")).unwrap();
    std::fs::write(folder.path().join("manifest.yaml"), manifest.replace("both:1", "other:1")).unwrap();
    let (code, _, wrong) = call(&[&usual[..], &["--input", "\"x\""]].concat());
    assert_eq!(code, Some(2));
    assert!(wrong.contains("the same program"), "{wrong}");
    std::fs::write(folder.path().join("manifest.yaml"), "id: a.b\nversion: 1.0.0\nruntime: wasm\n").unwrap();
    let (code, _, wrong) = call(&usual);
    assert_eq!(code, Some(2));
    assert!(wrong.contains("with an `image`"), "{wrong}");
    engine.is_empty();
}
