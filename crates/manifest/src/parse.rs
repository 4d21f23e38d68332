//! From text to a manifest, or to every problem with it, each with its line and key.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::capability::Capability;
use crate::container::{self, InputForm};
use crate::escape::escape_untrusted;
use crate::manifest::{Environment, Events, Listed, Manifest, RuntimeKind};
use crate::pins::{MediaPins, Pin};
use crate::tree::{self, Extensions, Node, Place};

/// Problems that are told at most.
const MAX_PROBLEMS: usize = 50;

/// One thing that is wrong with a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Line in the manifest, from 1.
    pub line: u64,
    /// Column in the line, from 1.
    pub column: u64,
    /// The key, such as `wasm.memory.maximum`; empty for the whole document.
    pub path: String,
    /// What is wrong and what to write instead; escaped.
    pub message: String,
}

/// Everything that is wrong with a manifest: at least one problem, in order of their lines.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ManifestError {
    problems: Vec<Problem>,
}

impl ManifestError {
    /// The problems, at least one, in order of their lines.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for ManifestError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the manifest is not valid: ")?;
        for (index, problem) in self.problems.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(formatter, "{separator}{problem}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "line {}:{}: ", self.line, self.column)?;
        if !self.path.is_empty() {
            write!(formatter, "`{}`: ", self.path)?;
        }
        formatter.write_str(&self.message)
    }
}

impl Problem {
    pub(crate) fn at(place: Place, path: String, message: String) -> Self {
        Self { line: place.line, column: place.column, path, message }
    }
}

impl Manifest {
    /// The JSON that a manifest's text stands for, every key of it kept: what a signature is over. Its bounds and its syntax
    /// are checked; whether it is a manifest is not.
    ///
    /// # Errors
    /// What is wrong with the YAML, or that it is no mapping.
    pub fn document(text: &str) -> Result<Map<String, Value>, ManifestError> {
        let one = |problem| ManifestError { problems: vec![problem] };
        let document = tree::read(text).map_err(one)?;
        match document.to_json(Extensions::Keep) {
            Value::Object(map) => Ok(map),
            _ => Err(one(no_mapping(&document))),
        }
    }

    /// Reads a manifest and checks it.
    ///
    /// # Errors
    /// Every problem found: of the YAML itself and of its keys and types the first, of the values all.
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        let one = |problem| ManifestError { problems: vec![problem] };
        let document = tree::read(text).map_err(one)?;
        let json = document.to_json(Extensions::LeaveOut);
        if !json.is_object() {
            return Err(one(no_mapping(&document)));
        }
        let mut manifest: Self =
            serde_path_to_error::deserialize(&json).map_err(|error| one(structural(&document, &error)))?;
        if let Some(path) = list_for_mapping(&json, &serde_json::to_value(&manifest).unwrap_or_default()) {
            let message = "must be a mapping of keys, not a list".into();
            return Err(one(Problem::at(document.place_of(&path), escape_untrusted(&path, 200), message)));
        }
        let mut check = Check { document: &document, problems: Vec::new() };
        check.manifest(&mut manifest);
        if check.problems.is_empty() {
            return Ok(manifest);
        }
        let mut problems = check.problems;
        problems.sort_by_key(|problem| (problem.line, problem.column));
        problems.truncate(MAX_PROBLEMS);
        Err(ManifestError { problems })
    }
}

fn no_mapping(document: &Node) -> Problem {
    let message = "a manifest is a mapping of keys, such as `id: my.agent`".into();
    Problem::at(document.place, String::new(), message)
}

/// A wrong key or type, as serde tells it.
pub(crate) fn structural(document: &Node, error: &serde_path_to_error::Error<serde_json::Error>) -> Problem {
    let mut path = dotted(&error.path().to_string());
    let message = error.inner().to_string();
    let message = match unknown_field(&message) {
        Some((field, known)) => {
            let parent =
                path.strip_suffix(field).map_or(path.as_str(), |parent| parent.trim_end_matches('.'));
            path = if parent.is_empty() { field.to_owned() } else { format!("{parent}.{field}") };
            explain_unknown(field, &known)
        }
        None => in_plain_words(&message),
    };
    Problem::at(document.place_of(&path), escape_untrusted(&path, 200), escape_untrusted(&message, 500))
}

/// Serde's sentence without its words for Rust's types.
fn in_plain_words(message: &str) -> String {
    let mut message = message.to_owned();
    for (rust, plain) in [
        ("floating point", "number"),
        ("expected u64", "expected a whole number of 0 or more"),
        ("expected u32", "expected a whole number of 0 or more"),
        ("expected a sequence", "expected a list"),
        ("expected struct", "expected a mapping of keys, a"),
        ("expected a map", "expected a mapping of keys"),
    ] {
        // As whole words: what stands in the place of one may begin as another does.
        if let Some((before, after)) = message.split_once(rust)
            && !after.starts_with(char::is_alphanumeric)
        {
            message = format!("{before}{plain}{after}");
        }
    }
    let is_number =
        message.starts_with("invalid type: number") || message.starts_with("invalid type: integer");
    if is_number && message.ends_with("expected a string") {
        message.push_str("; put it in quotes");
    }
    message
}

/// Where the document has a list and the manifest a mapping; serde would fill in its keys by their order.
fn list_for_mapping(document: &Value, manifest: &Value) -> Option<String> {
    let step =
        |key: &str, path: String| if path.is_empty() { key.to_owned() } else { format!("{key}.{path}") };
    match (document, manifest) {
        (Value::Array(_), Value::Object(_)) => Some(String::new()),
        (Value::Object(document), Value::Object(manifest)) => document
            .iter()
            .find_map(|(key, value)| list_for_mapping(value, manifest.get(key)?).map(|path| step(key, path))),
        (Value::Array(document), Value::Array(manifest)) => {
            document.iter().zip(manifest).enumerate().find_map(|(index, (document, manifest))| {
                list_for_mapping(document, manifest).map(|path| step(&index.to_string(), path))
            })
        }
        _ => None,
    }
}

/// `a.b[0].c` as `a.b.0.c`.
fn dotted(path: &str) -> String {
    match path {
        "." => String::new(),
        path => path.replace('[', ".").replace([']', '?'], ""),
    }
}

/// The field and the known ones out of serde's sentence for an unknown field.
fn unknown_field(message: &str) -> Option<(&str, Vec<&str>)> {
    let (field, rest) = message.strip_prefix("unknown field `")?.split_once("`, ")?;
    Some((field, rest.split('`').skip(1).step_by(2).collect()))
}

fn explain_unknown(field: &str, known: &[&str]) -> String {
    let nearest = known.iter().max_by(|a, b| {
        let closeness = |known: &str| strsim::jaro_winkler(known, field);
        closeness(a).total_cmp(&closeness(b))
    });
    match nearest {
        Some(nearest) if strsim::jaro_winkler(nearest, field) > 0.7 => {
            format!("unknown key `{field}`; did you mean `{nearest}`? Keys of your own begin with `x-`")
        }
        _ => {
            format!("unknown key `{field}`; known are {}; keys of your own begin with `x-`", known.join(", "))
        }
    }
}

struct Check<'a> {
    document: &'a Node,
    problems: Vec<Problem>,
}

impl Check<'_> {
    fn problem(&mut self, path: &str, message: impl Into<String>) {
        let place = self.document.place_of(path);
        self.problems.push(Problem::at(place, path.to_owned(), escape_untrusted(&message.into(), 500)));
    }

    fn manifest(&mut self, manifest: &mut Manifest) {
        if let Some(runtime) = &manifest.runtime
            && (runtime.is_empty()
                || !runtime.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte)))
        {
            self.problem(
                "runtime",
                "must be `wasm`, `container`, or a language runtime such as `python3.12`",
            );
        }
        for (path, message) in container::problems(manifest) {
            self.problem(path, message);
        }
        match manifest.runtime_kind() {
            RuntimeKind::Wasm => self.module(manifest),
            RuntimeKind::Container if manifest.image.as_deref().unwrap_or_default().is_empty() => {
                let path = if manifest.runtime.is_some() { "runtime" } else { "" };
                self.problem(
                    path,
                    "a container agent needs an `image`; for a WebAssembly agent write `runtime: wasm`",
                );
            }
            RuntimeKind::Container => self.container(manifest),
        }
        self.pins("inputs", &manifest.inputs);
        self.pins("outputs", &manifest.outputs);
        if let Some(resources) = &manifest.resources {
            if resources.max_concurrent == Some(0) {
                self.problem("resources.max_concurrent", "must be at least 1");
            }
            if resources.timeout_seconds == Some(0) {
                self.problem("resources.timeout_seconds", "must be at least 1");
            }
        }
        match &manifest.env {
            Some(Environment::List(entries)) => self.environment("env", entries),
            Some(Environment::Map(map)) => {
                let fits = |name: &str, value: &Value| {
                    is_variable_name(name) && !value.as_str().is_some_and(|value| value.contains('\0'))
                };
                for (name, _) in map.iter().filter(|(name, value)| !fits(name, value)) {
                    self.problem(
                        "env",
                        format!("`{name}` must be of letters, digits and `_`, its value without NUL"),
                    );
                }
            }
            None => {}
        }
        let (mut requested, mut opened) = (Vec::new(), Vec::new());
        if let Some(wasm) = &manifest.wasm {
            if let Some(memory) = wasm.memory {
                if memory.maximum == Some(0) {
                    self.problem("wasm.memory.maximum", "must be at least 1 (MB)");
                }
                if let (Some(initial), Some(maximum)) = (memory.initial, memory.maximum)
                    && initial > maximum
                {
                    self.problem(
                        "wasm.memory.initial",
                        format!("{initial} MB is more than `maximum`, {maximum} MB"),
                    );
                }
            }
            if wasm.fuel.is_some_and(|fuel| fuel.0 == 0) {
                self.problem("wasm.fuel", "must be at least 1");
            }
            if wasm.timeout_ms == Some(0) {
                self.problem("wasm.timeout_ms", "must be at least 1");
            }
            if let Some(wasi) = &wasm.wasi {
                self.environment("wasm.wasi.env", &wasi.env);
                for (path, mode) in &wasi.preopens {
                    match format!("filesystem:{}:{path}", mode.access()).parse::<Capability>() {
                        Ok(capability) => opened.push(capability),
                        Err(error) => self.problem("wasm.wasi.preopens", error.to_string()),
                    }
                }
            }
            for (index, text) in wasm.capabilities.iter().enumerate() {
                match text.parse::<Capability>() {
                    Ok(capability) => requested.push(capability),
                    Err(error) => self.problem(&format!("wasm.capabilities.{index}"), error.to_string()),
                }
            }
            for capability in &opened {
                if !requested.contains(capability) {
                    requested.push(capability.clone());
                }
            }
        }
        let mut preopens = if opened.is_empty() { requested.clone() } else { opened };
        preopens.retain(|capability| matches!(capability, Capability::Filesystem { .. }));
        let (agent, constants) = (manifest.id.to_string(), manifest.constants());
        let instances = manifest.wasm.as_ref().and_then(|wasm| wasm.instances).unwrap_or_default();
        let media = MediaPins::of(&manifest.inputs, &manifest.outputs);
        let events = manifest.events;
        manifest.listed = Arc::new(Listed {
            agent,
            capabilities: requested,
            preopens,
            constants,
            instances,
            media,
            events,
        });
    }

    fn container(&mut self, manifest: &Manifest) {
        let speaks_in_lines =
            manifest.events == Some(Events::Ndjson) && manifest.input_form() == InputForm::JsonLine;
        if manifest.reads_many_inputs() && !speaks_in_lines {
            self.problem(
                "wasm.instances",
                "a container is used again only where its program reads and writes lines of JSON; say `events: ndjson`, \
                 with `inputs` of text, numbers and JSON alone, or leave `reuse` out",
            );
        }
    }

    fn module(&mut self, manifest: &Manifest) {
        let module = manifest.module_path();
        let plain = !module.is_empty()
            && module.len() <= 255
            && !module.starts_with('/')
            && !module.contains(|character: char| character == '\\' || character.is_control())
            // None that a shell would not show, and none in the place of the manifest.
            && module.split('/').all(|part| !part.is_empty() && !part.starts_with('.'))
            && module.split('/').next() != Some("manifest.yaml");
        if !plain {
            self.problem(
                "module",
                format!("`{module}` must be a file beside the manifest, such as `agent.wasm`"),
            );
        }
    }

    fn pins(&mut self, side: &str, pins: &[Pin]) {
        let mut names = BTreeSet::new();
        for (index, pin) in pins.iter().enumerate() {
            let path = format!("{side}.{index}.name");
            if pin.name.is_empty() {
                self.problem(&path, "must not be empty");
            } else if !names.insert(&pin.name) {
                self.problem(&path, format!("`{}` is the name of another pin in `{side}`", pin.name));
            }
        }
    }

    fn environment(&mut self, path: &str, entries: &[String]) {
        for (index, entry) in entries.iter().enumerate() {
            let fits = |(name, value): (&str, &str)| is_variable_name(name) && !value.contains('\0');
            if !entry.split_once('=').is_some_and(fits) {
                self.problem(
                    &format!("{path}.{index}"),
                    "must be `NAME=VALUE`, the name of letters, digits and `_`, the value without NUL",
                );
            }
        }
    }
}

fn is_variable_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|character: char| character.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEAD: &str = "id: a.b\nversion: 1.0.0\nruntime: wasm\n";

    fn problems(text: &str) -> String {
        match Manifest::parse(text) {
            Ok(manifest) => panic!("accepted: {manifest:?}"),
            Err(error) => error.problems().iter().map(|problem| format!("{problem}\n")).collect(),
        }
    }

    #[test]
    fn each_problem_is_told_with_its_line_and_key() {
        for (text, says) in [
            ("", "line 1:1: a manifest is a mapping of keys"),
            ("- id\n", "a mapping of keys"),
            ("id: a.b\nid: c.d\n", "line 2:1: key `id` is given twice"),
            ("id: a.b\n---\nid: c.d\n", "one YAML document"),
            (
                "id: a.b\nversion: 1.0\n",
                "line 2:1: `version`: invalid type: number `1.0`, expected a string; put it in quotes",
            ),
            ("id: a.b\nmetadata:\n  x: &x [1]\n", "anchors"),
            ("<<: {id: a.b}\n", "merge keys"),
            // One key as a number and as text; JSON knows text alone, and the later one would hide the other.
            ("metadata:\n  1: a\n  \"1\": b\n", "line 2:3: key `1` is given twice"),
            (&format!("id: a.b\nmetadata: {}{}\n", "[".repeat(100), "]".repeat(100)), "line 2"),
            (
                &format!("{HEAD}wasm:\n  memry: 3\n"),
                "line 5:3: `wasm.memry`: unknown key `memry`; did you mean `memory`?",
            ),
            (
                &format!("{HEAD}wasm: {{ fuel: many }}\n"),
                "`wasm.fuel`: invalid type: string \"many\", expected a whole number",
            ),
            (
                &format!("{HEAD}wasm: {{ memory: [1, 2] }}\n"),
                "`wasm.memory`: must be a mapping of keys, not a list",
            ),
            (&format!("{HEAD}inputs: [[a, string]]\n"), "`inputs.0`: must be a mapping"),
            (&format!("{HEAD}wasm:\n\tfuel: 3\n"), "tabs"),
            ("id: a/b\nversion: 1.0.0\n", "`id`: agent id `a/b`"),
            ("id: a.b\nversion: 1.0.0\n", "needs an `image`"),
        ] {
            let told = problems(text);
            assert!(told.contains(says), "{text}: {told}");
        }
    }

    #[test]
    fn all_problems_of_values_are_told_at_once_in_order() {
        let told = problems(&format!(
            "{HEAD}module: ../up.wasm\nwasm:\n  memory: {{ initial: 9, maximum: 3 }}\n  timeout_ms: 0\n  capabilities: \
             [\"env:1\"]\ninputs: [{{ name: a, type: string }}, {{ name: a, type: json }}]\n"
        ));
        let lines: Vec<&str> = told.lines().map(|line| line.split(':').next().unwrap()).collect();
        assert_eq!(lines, ["line 4", "line 6", "line 7", "line 8", "line 9"], "{told}");
    }

    #[test]
    fn a_document_keeps_every_key_and_need_not_be_a_manifest() {
        let document = Manifest::document("x-team: a\nwasm: { x-note: [1, null] }\n").unwrap();
        let text = serde_json::to_string(&document).unwrap();
        assert!(text.contains(r#""x-team":"a""#) && text.contains(r#""x-note":[1,null]"#), "{text}");
        let error = Manifest::document("- a\n").unwrap_err();
        assert!(error.to_string().contains("a mapping of keys"), "{error}");
    }

    #[test]
    fn keys_of_ones_own_are_left_alone() {
        let text = format!(
            "{HEAD}x-team: search\nmetadata: {{ anything: [1] }}\nui: {{ remoteEntry: y, other: 1 }}\n"
        );
        Manifest::parse(&text).unwrap();
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_without_a_panic(text in "\\PC{0,200}") {
            let _ = Manifest::parse(&text);
        }

        #[test]
        fn any_value_of_a_key_is_read_or_refused_without_a_panic(
            key in "id|version|runtime|wasm|inputs|env|resources|x-a|metadata",
            value in "[\\[\\]{}a-z0-9:,\"' &*!|>-]{0,40}",
        ) {
            let _ = Manifest::parse(&format!("{HEAD}{key}: {value}\n"));
            let _ = Manifest::parse(&format!("{key}: {value}\n"));
        }
    }
}
