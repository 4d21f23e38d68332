//! Reads a module without compiling or running it: its shape, imports, exports, memories and where
//! it came from. Safe on hostile bytes: linear in their length, and what is kept is bounded.

use std::fmt;

use mentat_manifest::{ByteCount, ModuleDigest, escape_untrusted};
use serde::Serialize;
use wasmparser::{
    ComponentExternalKind, ComponentTypeRef, CompositeInnerType, Encoding, ExternalKind, FuncType,
    KnownCustom, Parser, Payload, TypeRef,
};

use crate::error::{Error, ModuleProblem, ModuleProblemKind};

/// Imports, and exports, of a module at most; WebAssembly's own limit is a hundred times more.
const MAX_IMPORTS: usize = 10_000;
const MAX_EXPORTS: usize = 100_000;
/// Types and functions of a module at most; WebAssembly's implementation limit (JS API, section 9).
const MAX_TYPES: usize = 1_000_000;
/// Memories and tables that are looked at; more than this is refused anyway.
const MAX_LISTED: usize = 256;
/// Characters of a name from a module that are ever shown.
const MAX_NAME_CHARS: usize = 256;
/// Above this many bytes `inspect` warns: the module takes long to ship and to compile.
const LARGE_MODULE: u64 = 1 << 20;
/// Above this many imports `inspect` warns.
const MANY_IMPORTS: usize = 100;

/// What kind of agent a module is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Signature(String);

/// One import of a module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Import {
    /// Module name for core modules; empty for components.
    pub module: String,
    /// Name within the module, or the interface's name.
    pub name: String,
    /// What is imported.
    pub kind: ImportKind,
}

/// What is imported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ImportKind {
    /// A core function.
    Function(Signature),
    /// A linear memory.
    Memory,
    /// A table, global, or exception tag.
    Other(&'static str),
    /// An interface of a component.
    Interface,
}

/// One export of a module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Export {
    /// Its name.
    pub name: String,
    /// `function`, `memory`, `table`, `global`, `interface` and so on.
    pub kind: &'static str,
    /// The signature of a core function.
    pub signature: Option<Signature>,
}

/// One linear memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
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
    /// Functions with bodies, those of inner modules included.
    pub functions: u64,
    /// Whether a start function runs at instantiation.
    pub start: bool,
    /// Source language and version, from the `producers` section.
    pub language: Option<String>,
    /// Compilers and tools, from the `producers` section.
    pub processed_by: Vec<String>,
}

#[derive(Default)]
struct Scan {
    types: Vec<Option<FuncType>>,
    functions: Vec<u32>,
    depth: u32,
}

impl ModuleInfo {
    /// Reads `bytes`.
    ///
    /// # Errors
    /// `INVALID_MODULE` when they are not WebAssembly, are cut off, or hold more types, imports or
    /// exports than any compiler makes.
    pub fn read(bytes: &[u8]) -> Result<Self, Error> {
        refuse_what_is_not_webassembly(bytes)?;
        let mut info = Self {
            digest: ModuleDigest::of(bytes),
            size: ByteCount(bytes.len() as u64),
            shape: None,
            component: false,
            imports: Vec::new(),
            exports: Vec::new(),
            memories: Vec::new(),
            tables: Vec::new(),
            functions: 0,
            start: false,
            language: None,
            processed_by: Vec::new(),
        };
        let mut scan = Scan::default();
        for payload in Parser::new(0).parse_all(bytes) {
            info.read_payload(&mut scan, payload.map_err(|error| malformed(&error))?).map_err(|fault| {
                match fault {
                    Fault::Syntax(error) => malformed(&error),
                    Fault::TooMany(what) => invalid(
                        ModuleProblemKind::Malformed,
                        what,
                        format!("the module has more {what} than any compiler makes"),
                    ),
                }
            })?;
        }
        info.shape = info.find_shape();
        Ok(info)
    }

    /// Whether any import is from WASI.
    #[must_use]
    pub fn uses_wasi(&self) -> bool {
        self.imports
            .iter()
            .any(|import| import.module.starts_with("wasi_") || import.name.starts_with("wasi:"))
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

    fn read_payload(&mut self, scan: &mut Scan, payload: Payload<'_>) -> Result<(), Fault> {
        match payload {
            Payload::Version { encoding, .. } => {
                if scan.depth == 0 {
                    self.component = encoding == Encoding::Component;
                }
                // Each nested module has index spaces of its own.
                scan.types.clear();
                scan.functions.clear();
            }
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => scan.depth += 1,
            Payload::End(_) => scan.depth = scan.depth.saturating_sub(1),
            Payload::TypeSection(section) => {
                for group in section {
                    for sub_type in group?.into_types() {
                        push_bounded(&mut scan.types, function_type(sub_type), MAX_TYPES, "types")?;
                    }
                }
            }
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    self.read_import(scan, &import?)?;
                }
            }
            Payload::FunctionSection(section) => {
                for function in section {
                    push_bounded(&mut scan.functions, function?, MAX_TYPES, "functions")?;
                    self.functions += 1;
                }
            }
            Payload::MemorySection(section) => {
                for memory in section {
                    self.read_memory(memory?);
                }
            }
            Payload::TableSection(section) => {
                for table in section {
                    let table = table?;
                    if self.tables.len() < MAX_LISTED {
                        self.tables.push(table.ty.initial);
                    }
                }
            }
            Payload::ExportSection(section) if !self.component => {
                for export in section {
                    self.read_export(scan, &export?)?;
                }
            }
            Payload::StartSection { .. } => self.start = true,
            Payload::ComponentImportSection(section) if scan.depth == 0 => {
                for import in section {
                    let import = import?;
                    let kind = match import.ty {
                        ComponentTypeRef::Instance(_) => ImportKind::Interface,
                        ComponentTypeRef::Func(_) => ImportKind::Other("function"),
                        ComponentTypeRef::Module(_) => ImportKind::Other("module"),
                        ComponentTypeRef::Component(_) => ImportKind::Other("component"),
                        // Types are equalities with what the interfaces define; nothing to provide.
                        ComponentTypeRef::Type(_) => continue,
                        ComponentTypeRef::Value(_) => ImportKind::Other("value"),
                    };
                    let name = import.name.name.to_owned();
                    push_bounded(
                        &mut self.imports,
                        Import { module: String::new(), name, kind },
                        MAX_IMPORTS,
                        "imports",
                    )?;
                }
            }
            Payload::ComponentExportSection(section) if scan.depth == 0 => {
                for export in section {
                    let export = export?;
                    let kind = match export.kind {
                        ComponentExternalKind::Func => "function",
                        ComponentExternalKind::Instance => "interface",
                        ComponentExternalKind::Module => "module",
                        ComponentExternalKind::Component => "component",
                        ComponentExternalKind::Type => "type",
                        ComponentExternalKind::Value => "value",
                    };
                    let name = export.name.name.to_owned();
                    push_bounded(
                        &mut self.exports,
                        Export { name, kind, signature: None },
                        MAX_EXPORTS,
                        "exports",
                    )?;
                }
            }
            Payload::CustomSection(section) => {
                if let KnownCustom::Producers(producers) = section.as_known() {
                    // A tool's note that cannot be read is no reason to refuse the module.
                    let _ = self.read_producers(producers);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn read_import(&mut self, scan: &mut Scan, import: &wasmparser::Import<'_>) -> Result<(), Fault> {
        let kind = match import.ty {
            TypeRef::Func(index) | TypeRef::FuncExact(index) => {
                push_bounded(&mut scan.functions, index, MAX_TYPES, "functions")?;
                ImportKind::Function(scan.signature(index))
            }
            TypeRef::Memory(memory) => {
                if !self.component {
                    self.read_memory(memory);
                }
                ImportKind::Memory
            }
            TypeRef::Table(_) => ImportKind::Other("table"),
            TypeRef::Global(_) => ImportKind::Other("global"),
            TypeRef::Tag(_) => ImportKind::Other("tag"),
        };
        if self.component {
            // What the modules inside a component import is the component's own business.
            return Ok(());
        }
        let import = Import { module: import.module.to_owned(), name: import.name.to_owned(), kind };
        push_bounded(&mut self.imports, import, MAX_IMPORTS, "imports")
    }

    fn read_export(&mut self, scan: &Scan, export: &wasmparser::Export<'_>) -> Result<(), Fault> {
        let (kind, signature) = match export.kind {
            ExternalKind::Func | ExternalKind::FuncExact => {
                let index = usize::try_from(export.index).ok();
                let type_index = index.and_then(|index| scan.functions.get(index));
                ("function", type_index.map(|index| scan.signature(*index)))
            }
            ExternalKind::Memory => ("memory", None),
            ExternalKind::Table => ("table", None),
            ExternalKind::Global => ("global", None),
            ExternalKind::Tag => ("tag", None),
        };
        let export = Export { name: export.name.to_owned(), kind, signature };
        push_bounded(&mut self.exports, export, MAX_EXPORTS, "exports")
    }

    fn read_memory(&mut self, memory: wasmparser::MemoryType) {
        let page = 1u64.checked_shl(memory.page_size_log2.unwrap_or(16)).unwrap_or(u64::MAX);
        let bytes = |pages: u64| ByteCount(pages.saturating_mul(page));
        if self.memories.len() < MAX_LISTED {
            self.memories.push(MemoryInfo {
                minimum: bytes(memory.initial),
                maximum: memory.maximum.map(bytes),
                memory64: memory.memory64,
                shared: memory.shared,
            });
        }
    }

    fn read_producers(&mut self, producers: wasmparser::ProducersSectionReader<'_>) -> Result<(), Fault> {
        for field in producers {
            let field = field?;
            for value in field.values {
                let value = value?;
                let text = [value.name, value.version].join(" ");
                let text = escape_untrusted(text.trim(), MAX_NAME_CHARS);
                match field.name {
                    "language" => {
                        self.language.get_or_insert(text);
                    }
                    "processed-by"
                        if self.processed_by.len() < MAX_LISTED && !self.processed_by.contains(&text) =>
                    {
                        self.processed_by.push(text);
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

impl Scan {
    fn signature(&self, type_index: u32) -> Signature {
        let index = usize::try_from(type_index).unwrap_or(usize::MAX);
        match self.types.get(index) {
            Some(Some(function)) => Signature::new(
                function.params().iter().map(ToString::to_string),
                function.results().iter().map(ToString::to_string),
            ),
            _ => Signature("(unknown type)".into()),
        }
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

enum Fault {
    Syntax(wasmparser::BinaryReaderError),
    TooMany(&'static str),
}

impl From<wasmparser::BinaryReaderError> for Fault {
    fn from(error: wasmparser::BinaryReaderError) -> Self {
        Self::Syntax(error)
    }
}

fn push_bounded<T>(list: &mut Vec<T>, item: T, bound: usize, what: &'static str) -> Result<(), Fault> {
    if list.len() >= bound {
        return Err(Fault::TooMany(what));
    }
    list.push(item);
    Ok(())
}

fn function_type(sub_type: wasmparser::SubType) -> Option<FuncType> {
    match sub_type.composite_type.inner {
        CompositeInnerType::Func(function) => Some(function),
        _ => None,
    }
}

fn refuse_what_is_not_webassembly(bytes: &[u8]) -> Result<(), Error> {
    let malformed = |message: &str| Err(invalid(ModuleProblemKind::Malformed, "header", message.to_owned()));
    if bytes.starts_with(b"\0asm") {
        return Ok(());
    }
    if bytes.is_empty() {
        return malformed("the module is empty");
    }
    if bytes.starts_with(b"\x7fELF") || wasmtime::Engine::detect_precompiled(bytes).is_some() {
        return Err(invalid(
            ModuleProblemKind::Precompiled,
            "header",
            "the module is machine code (an ELF file or a precompiled artifact), which is never \
             accepted from outside; send the WebAssembly it was made from"
                .into(),
        ));
    }
    let text = bytes.trim_ascii_start();
    if text.starts_with(b"(module") || text.starts_with(b"(component") || text.starts_with(b";;") {
        return malformed(
            "the module is in WebAssembly's text format; assemble it first, such as by `wasm-tools parse`",
        );
    }
    malformed("the module does not begin with WebAssembly's header `\\0asm`")
}

fn malformed(error: &wasmparser::BinaryReaderError) -> Error {
    invalid(
        ModuleProblemKind::Malformed,
        "bytes",
        format!(
            "the module is cut off or malformed at byte {}: {}",
            error.offset(),
            escape_untrusted(error.message(), MAX_NAME_CHARS)
        ),
    )
}

/// An `INVALID_MODULE` of one problem.
pub(crate) fn invalid(kind: ModuleProblemKind, subject: &str, message: String) -> Error {
    Error::InvalidModule { problems: vec![ModuleProblem { kind, subject: subject.to_owned(), message }] }
}
