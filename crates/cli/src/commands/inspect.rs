//! `mentat inspect`: what a module says of itself, and what would keep it from being loaded. Reads,
//! never runs or compiles.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;

use mentat_manifest::{ByteCount, escape_untrusted};
use mentat_runtime::{Export, Import, ImportKind, MemoryInfo, ModuleInfo, Shape};
use serde::Serialize;

use super::standing::StandingReport;
use crate::args::InspectArguments;
use crate::local;
use crate::output::{self, ErrorBody, Failure};
use crate::source::AgentSource;

/// Names of one group that are shown at most; JSON has them all.
const MAX_SHOWN: usize = 40;
/// Characters of a name that are shown at most.
const MAX_NAME_CHARS: usize = 120;

#[derive(Serialize)]
struct Report<'a> {
    module: String,
    digest: String,
    size_bytes: u64,
    shape: Option<Shape>,
    shape_reason: &'a str,
    component: bool,
    language: Option<&'a str>,
    processed_by: &'a [String],
    functions: u64,
    start_function: bool,
    memories: Vec<Memory>,
    table_elements: &'a [u64],
    imports: &'a [Import],
    exports: &'a [Export],
    agent: Option<Agent>,
    warnings: Vec<String>,
    /// Why it would not load; `null` where it would.
    problem: Option<ErrorBody<'a>>,
}

#[derive(Serialize)]
struct Memory {
    minimum_bytes: u64,
    maximum_bytes: Option<u64>,
    memory64: bool,
    shared: bool,
}

#[derive(Serialize)]
struct Agent {
    id: String,
    version: String,
    capabilities: Vec<String>,
    /// Who signed it, as its manifest says; nothing here verifies that.
    #[serde(skip_serializing_if = "Option::is_none")]
    signed_by: Option<String>,
    /// What a server with the given configuration would find of the signature.
    #[serde(skip_serializing_if = "Option::is_none")]
    standing: Option<StandingReport>,
}

pub(crate) fn run(arguments: &InspectArguments) -> Result<ExitCode, Failure> {
    let agent = AgentSource::open_or_pull(&arguments.agent, &arguments.registry)?;
    let info = ModuleInfo::read(&agent.module)?;
    let problem = local::check(&agent).err();
    let standing = standing(arguments, &agent, &info)?;
    let report = Report::new(&agent, &info, problem.as_ref(), standing);
    if arguments.json.json {
        output::write_json(&report)?;
    } else {
        output::write_stdout(report.text(&info, problem.as_ref()).as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// By the operator's configuration, where one is given.
fn standing(
    arguments: &InspectArguments,
    agent: &AgentSource,
    info: &ModuleInfo,
) -> Result<Option<StandingReport>, Failure> {
    let Some(config) = &arguments.config else { return Ok(None) };
    let Some(manifest) = &agent.manifest else {
        let message =
            "--config: a module alone has no signature; name an agent's folder or manifest".to_owned();
        return Err(Failure::invalid(message));
    };
    StandingReport::by(config, &arguments.tenant, manifest, &info.digest).map(Some)
}

impl<'a> Report<'a> {
    fn new(
        agent: &AgentSource,
        info: &'a ModuleInfo,
        problem: Option<&'a Failure>,
        standing: Option<StandingReport>,
    ) -> Self {
        Self {
            module: agent.module_path.display().to_string(),
            digest: info.digest.to_string(),
            size_bytes: info.size.0,
            shape: info.shape,
            shape_reason: info.shape_reason(),
            component: info.component,
            language: info.language.as_deref(),
            processed_by: &info.processed_by,
            functions: info.functions,
            start_function: info.start,
            memories: info.memories.iter().map(Memory::from).collect(),
            table_elements: &info.tables,
            imports: &info.imports,
            exports: &info.exports,
            agent: agent.manifest().map(|manifest| Agent {
                id: manifest.id.to_string(),
                version: manifest.version.to_string(),
                capabilities: manifest.capabilities().iter().map(ToString::to_string).collect(),
                signed_by: manifest.attestation.as_ref().map(|block| shown(&block.signer.subject)),
                standing,
            }),
            warnings: info.warnings(),
            problem: problem.map(Failure::body),
        }
    }

    fn text(&self, info: &ModuleInfo, problem: Option<&Failure>) -> String {
        let mut text = Text(String::new());
        text.row("module", &escape_untrusted(&self.module, 4096));
        if let Some(agent) = &self.agent {
            text.row("agent", &format!("{} {}", agent.id, agent.version));
            if let Some(signer) = &agent.signed_by {
                text.row("signed", &format!("by `{signer}`, as it says; whoever loads it verifies that"));
            }
            if let Some(standing) = &agent.standing {
                text.row("trust", &standing.line());
            }
        }
        let shape = info.shape.map_or_else(|| "none".to_owned(), |shape| shape.to_string());
        text.row("shape", &format!("{shape} ({})", self.shape_reason));
        text.row("digest", &self.digest);
        text.row("size", &bytes(info.size));
        text.row("language", self.language.unwrap_or("not told"));
        text.list("made by", self.processed_by);
        let starts = if self.start_function { ", one of them runs at the start" } else { "" };
        text.row("functions", &format!("{}{starts}", self.functions));
        text.list("memories", &info.memories.iter().map(memory).collect::<Vec<_>>());
        text.list("tables", &info.tables.iter().map(|size| format!("{size} elements")).collect::<Vec<_>>());
        text.groups("imports", info.imports.len(), &group_imports(&info.imports));
        text.groups("exports", info.exports.len(), &group_exports(&info.exports));
        if let Some(agent) = &self.agent {
            text.list("wants", &agent.capabilities);
        }
        text.list("warnings", &self.warnings);
        match problem {
            None => text.row("loads", "yes"),
            Some(problem) => {
                text.row("loads", "no");
                let lines = problem.lines();
                let lines = if lines.is_empty() { vec![problem.to_string()] } else { lines };
                for line in lines {
                    text.line(&format!("  {}", line.trim_start()));
                }
            }
        }
        text.0
    }
}

impl From<&MemoryInfo> for Memory {
    fn from(memory: &MemoryInfo) -> Self {
        Self {
            minimum_bytes: memory.minimum.0,
            maximum_bytes: memory.maximum.map(|maximum| maximum.0),
            memory64: memory.memory64,
            shared: memory.shared,
        }
    }
}

/// Lines of a name and what there is to say of it.
struct Text(String);

impl Text {
    fn line(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
    }

    fn row(&mut self, name: &str, value: &str) {
        // Writing to a string cannot go wrong.
        let _ = writeln!(self.0, "{name:<11} {value}");
    }

    fn list(&mut self, name: &str, values: &[String]) {
        let mut names = std::iter::once(name).chain(std::iter::repeat(""));
        for (value, name) in values.iter().zip(&mut names) {
            self.row(name, value);
        }
        if values.is_empty() {
            self.row(name, "none");
        }
    }

    fn groups(&mut self, name: &str, count: usize, groups: &BTreeMap<String, Vec<String>>) {
        self.row(name, &if count == 0 { "none".to_owned() } else { count.to_string() });
        for (group, names) in groups {
            let mut shown: Vec<&str> = names.iter().take(MAX_SHOWN).map(String::as_str).collect();
            let more = format!("… {} more, see --json", names.len().saturating_sub(MAX_SHOWN));
            if names.len() > MAX_SHOWN {
                shown.push(&more);
            }
            self.line(&format!("  {group}: {}", shown.join(", ")));
        }
    }
}

/// By the module that functions are imported from, or the package of an interface.
fn group_imports(imports: &[Import]) -> BTreeMap<String, Vec<String>> {
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for import in imports {
        let (group, name) = if import.kind == ImportKind::Interface {
            import.name.split_once('/').unwrap_or(("other", &import.name))
        } else {
            (import.module.as_str(), import.name.as_str())
        };
        let name = match &import.kind {
            ImportKind::Function(_) | ImportKind::Interface => shown(name),
            ImportKind::Memory => format!("{} (memory)", shown(name)),
            ImportKind::Other(kind) => format!("{} ({kind})", shown(name)),
        };
        groups.entry(shown(group)).or_default().push(name);
    }
    groups
}

fn group_exports(exports: &[Export]) -> BTreeMap<String, Vec<String>> {
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for export in exports {
        let name = match &export.signature {
            Some(signature) => format!("{} {signature}", shown(&export.name)),
            None => shown(&export.name),
        };
        groups.entry(export.kind.to_string()).or_default().push(name);
    }
    groups
}

fn shown(name: &str) -> String {
    escape_untrusted(name, MAX_NAME_CHARS)
}

fn memory(memory: &MemoryInfo) -> String {
    let maximum = memory.maximum.map_or_else(|| "no maximum".to_owned(), bytes);
    let mut text = format!("{} to {maximum}", bytes(memory.minimum));
    if memory.memory64 {
        text.push_str(", 64-bit");
    }
    if memory.shared {
        text.push_str(", shared");
    }
    text
}

/// For people: rounded to tenths of the unit.
fn bytes(count: ByteCount) -> String {
    for (unit, size) in [("GB", 1u64 << 30), ("MB", 1 << 20), ("KB", 1 << 10)] {
        if count.0 >= size {
            let tenths = (u128::from(count.0) * 10 + u128::from(size) / 2) / u128::from(size);
            return format!("{}.{} {unit}", tenths / 10, tenths % 10);
        }
    }
    format!("{} bytes", count.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_rounded_for_people() {
        let shown = [0, 1023, 1536, (64 << 20) + 1, 4 << 30].map(|count| bytes(ByteCount(count)));
        assert_eq!(shown, ["0 bytes", "1023 bytes", "1.5 KB", "64.0 MB", "4.0 GB"]);
    }

    #[test]
    fn imports_stand_under_what_they_are_imported_from() {
        let function = |module: &str, name: &str| Import {
            module: module.into(),
            name: name.into(),
            kind: ImportKind::Memory,
        };
        let interface =
            Import { module: String::new(), name: "wasi:io/poll@0.2.6".into(), kind: ImportKind::Interface };
        let groups = group_imports(&[function("b", "x\u{1b}"), interface, function("b", "y")]);
        assert_eq!(groups["b"], ["x\\u{1b} (memory)", "y (memory)"]);
        assert_eq!(groups["wasi:io"], ["poll@0.2.6"]);
    }
}
