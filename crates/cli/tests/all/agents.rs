//! The example agents on their own cases: input in, output, exit code and last log line out.

use std::path::{Path, PathBuf};

use crate::program::{mentat, text};

fn folders(path: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    found.sort();
    found
}

#[test]
fn every_agent_answers_its_cases() {
    let agents = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../agents");
    let mut complaints = Vec::new();
    let mut cases = 0;
    for agent in folders(&agents).iter().filter(|agent| agent.join("manifest.yaml").exists()) {
        assert!(
            agent.join("agent.wasm").exists(),
            "{} is not built; run `cargo xtask agents`",
            agent.display()
        );
        for case in folders(&agent.join("cases")) {
            cases += 1;
            let read = |name: &str| std::fs::read(case.join(name)).unwrap_or_default();
            let mut command = mentat();
            command.arg("run").arg(agent).arg("--input").arg(format!("@{}", case.join("input").display()));
            let arguments = text(&read("args"));
            if !arguments.is_empty() {
                command.arg("--").args(arguments.lines());
            }
            let output = command.output().unwrap();
            let exit: i32 = text(&read("exit")).trim().parse().unwrap_or(0);
            let said = text(&output.stderr);
            let name = case.strip_prefix(&agents).unwrap().display().to_string();
            if output.status.code() != Some(exit) {
                complaints.push(format!("{name}: exit code {:?}, not {exit}: {said}", output.status.code()));
            } else if output.stdout != read("expect") {
                complaints.push(format!("{name}: wrote {:?}", text(&output.stdout)));
            } else if case.join("log").exists() {
                let logged = text(&read("log"));
                let last = said.lines().last().unwrap_or_default();
                if !last.ends_with(logged.trim_end()) {
                    complaints.push(format!("{name}: logged {last:?}, not {logged:?}"));
                }
            }
        }
    }
    assert!(cases >= 30, "only {cases} cases were found");
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}
