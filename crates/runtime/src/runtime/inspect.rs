//! What a module is, read without compiling or running it: its shape, imports, exports, memories and where
//! it came from. Safe on hostile bytes: linear in their length, and what is kept is bounded.

mod reading;

use std::borrow::Cow;
use std::fmt;

use crate::error::{Error, ModuleProblem, ModuleProblemKind};
use mentat_manifest::{ByteCount, ModuleDigest, escape_untrusted};
use serde::{Deserialize, Serialize};

/// Characters of a name from a module that are ever shown.
const MAX_NAME_CHARS: usize = 256;
/// Above this many bytes `inspect` warns: the module takes long to ship and to compile.
const LARGE_MODULE: u64 = 1 << 20;
/// Above this many imports `inspect` warns.
const MANY_IMPORTS: usize = 100;

/// What kind of agent a module is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// A core module on the mentat ABI: exports `process: () -> i32`.
    CoreModule,
    /// A core module that is a WASI 0.1 command: exports `_start`.
    WasiCommand,
    /// A component of the world `mentat:agent/agent`: exports `process`.
    AgentComponent,
    /// A component that is a WASI 0.2 command: exports `wasi:cli/run`.
    CommandComponent,
}

/// The parameters and results of a core function, in WebAssembly's text notation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Signature(String);

/// One import of a module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Import {
    /// Module name for core modules; empty for components.
    pub module: String,
    /// Name within the module, or the interface's name.
    pub name: String,
    /// What is imported.
    pub kind: ImportKind,
}

/// What is imported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImportKind {
    /// A core function.
    Function(Signature),
    /// A linear memory.
    Memory,
    /// A table, global, or exception tag.
    Other(Cow<'static, str>),
    /// An interface of a component.
    Interface,
}

/// One export of a module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Export {
    /// Its name.
    pub name: String,
    /// `function`, `memory`, `table`, `global`, `interface` and so on.
    pub kind: Cow<'static, str>,
    /// The signature of a core function.
    pub signature: Option<Signature>,
}

/// One linear memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryInfo {
    /// Bytes it starts with.
    pub minimum: ByteCount,
    /// Bytes it may grow to; `None` when the module sets no maximum.
    pub maximum: Option<ByteCount>,
    /// Whether its addresses are 64 bits wide.
    pub memory64: bool,
    /// Whether it is shared between threads.
    pub shared: bool,
}

/// What a module says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleInfo {
    /// SHA-256 of its bytes.
    pub digest: ModuleDigest,
    /// Its size in bytes.
    pub size: ByteCount,
    /// What kind of agent it is; `None` when it is none.
    pub shape: Option<Shape>,
    /// Whether it is a component rather than a core module.
    pub component: bool,
    /// In the module's order.
    pub imports: Vec<Import>,
    /// In the module's order.
    pub exports: Vec<Export>,
    /// All linear memories, those of a component's inner modules included.
    pub memories: Vec<MemoryInfo>,
    /// Initial elements of each table.
    pub tables: Vec<u64>,
    /// Core instances that one execution makes, at most; 1 for a core module.
    #[serde(skip)]
    pub core_instances: u32,
    /// Functions with bodies, those of inner modules included.
    pub functions: u64,
    /// Globals, likewise.
    #[serde(skip)]
    pub globals: u64,
    /// Whether a start function runs at instantiation.
    pub start: bool,
    /// Source language and version, from the `producers` section.
    pub language: Option<String>,
    /// Compilers and tools, from the `producers` section.
    pub processed_by: Vec<String>,
}

impl ModuleInfo {
    /// Whether any import is from WASI.
    #[must_use]
    pub fn uses_wasi(&self) -> bool {
        self.imports
            .iter()
            .any(|import| import.module.starts_with("wasi_") || import.name.starts_with("wasi:"))
    }

    /// Whether it can ask for capabilities by name, or for what needs them by a name of its own.
    #[must_use]
    pub fn asks_for_capabilities(&self) -> bool {
        const ASKING: [&str; 3] = ["request_capability", "download_media", "upload_media"];
        self.imports.iter().any(|import| {
            (import.module == "mentat" && ASKING.contains(&import.name.as_str()))
                || ["mentat:agent/capabilities", "mentat:agent/media"]
                    .iter()
                    .any(|interface| import.name.starts_with(interface))
        })
    }

    /// The core function exported as `name`.
    #[must_use]
    pub fn exported_function(&self, name: &str) -> Option<&Signature> {
        self.exports.iter().find(|export| export.name == name)?.signature.as_ref()
    }

    /// Why the module has its shape, for `inspect`.
    #[must_use]
    pub fn shape_reason(&self) -> &'static str {
        match self.shape {
            Some(Shape::CoreModule) => "a core module that exports `process`",
            Some(Shape::WasiCommand) => "a core module that exports `_start` and no `process`",
            Some(Shape::AgentComponent) => "a component that exports `process`",
            Some(Shape::CommandComponent) => "a component that exports `wasi:cli/run` and no `process`",
            None if self.component => "a component that exports neither `process` nor `wasi:cli/run`",
            None => "a core module that exports neither `process` nor `_start`",
        }
    }

    /// What an author should know before shipping the module.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.size.0 > LARGE_MODULE {
            warnings.push(format!(
                "the module is {} bytes, over 1 MiB: strip it and optimise for size to load faster",
                self.size.0
            ));
        }
        if self.imports.len() > MANY_IMPORTS {
            warnings.push(format!("the module has {} imports, over {MANY_IMPORTS}", self.imports.len()));
        }
        if self.memories.iter().any(|memory| memory.maximum.is_none()) {
            warnings.push("a memory has no maximum: only the manifest's limit bounds it".into());
        }
        warnings
    }

    fn find_shape(&self) -> Option<Shape> {
        let exports = |name: &str| self.exports.iter().any(|export| export.name == name);
        if self.component {
            if exports("process") {
                return Some(Shape::AgentComponent);
            }
            let runs = self.exports.iter().any(|export| {
                export.name.split_once('@').map_or(export.name.as_str(), |(name, _)| name) == "wasi:cli/run"
            });
            return runs.then_some(Shape::CommandComponent);
        }
        if exports("process") {
            return Some(Shape::CoreModule);
        }
        exports("_start").then_some(Shape::WasiCommand)
    }
}

impl Signature {
    /// From the names of the types.
    pub(crate) fn new(
        params: impl ExactSizeIterator<Item = String>,
        results: impl ExactSizeIterator<Item = String>,
    ) -> Self {
        let results = match results.len() {
            1 => results.collect(),
            _ => format!("({})", list(results)),
        };
        Self(format!("({}) -> {results}", list(params)))
    }

    /// Whether this is `text`, such as `() -> i32`.
    #[must_use]
    pub fn is(&self, text: &str) -> bool {
        self.0 == text
    }
}

/// Types listed of a signature at most; a guest may declare a thousand parameters.
const MAX_SIGNATURE_TYPES: usize = 16;

fn list(types: impl ExactSizeIterator<Item = String>) -> String {
    let more = types.len().saturating_sub(MAX_SIGNATURE_TYPES);
    let mut names: Vec<String> = types.take(MAX_SIGNATURE_TYPES).collect();
    if more > 0 {
        names.push(format!("… {more} more"));
    }
    names.join(", ")
}

impl fmt::Display for Signature {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Import {
    /// The import's full name, escaped for showing.
    #[must_use]
    pub fn label(&self) -> String {
        if self.module.is_empty() {
            return escape_untrusted(&self.name, MAX_NAME_CHARS);
        }
        format!(
            "{}.{}",
            escape_untrusted(&self.module, MAX_NAME_CHARS),
            escape_untrusted(&self.name, MAX_NAME_CHARS)
        )
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::CoreModule => "core module on the mentat ABI",
            Self::WasiCommand => "WASI 0.1 command",
            Self::AgentComponent => "component of the world mentat:agent/agent",
            Self::CommandComponent => "WASI 0.2 command component",
        })
    }
}

/// An `INVALID_MODULE` of one problem.
pub(crate) fn invalid(kind: ModuleProblemKind, subject: &str, message: String) -> Error {
    Error::InvalidModule { problems: vec![ModuleProblem { kind, subject: subject.to_owned(), message }] }
}
