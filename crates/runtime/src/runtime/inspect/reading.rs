//! Reads a module's sections into [`ModuleInfo`], in one pass over its bytes. Keeps no more than bounded lists
//! of what it finds, whatever the module claims.

use mentat_manifest::{ByteCount, ModuleDigest, escape_untrusted};
use wasmparser::{
    ComponentExternalKind, ComponentTypeRef, CompositeInnerType, Encoding, ExternalKind, FuncType, Instance,
    KnownCustom, Parser, Payload, TypeRef,
};

use super::{Export, Import, ImportKind, MAX_NAME_CHARS, MemoryInfo, ModuleInfo, Signature, invalid};
use crate::error::{Error, ModuleProblemKind};
use crate::runtime::engine::MAX_CORE_INSTANCES_PER_COMPONENT;

/// Imports, and exports, of a module at most; WebAssembly's own limit is a hundred times more.
const MAX_IMPORTS: usize = 10_000;
const MAX_EXPORTS: usize = 100_000;
/// Types and functions of a module at most; WebAssembly's implementation limit (JS API, section 9).
const MAX_TYPES: usize = 1_000_000;
/// Memories and tables that are looked at; more than this is refused anyway.
const MAX_LISTED: usize = 256;

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
            core_instances: 1,
            functions: 0,
            globals: 0,
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
            Payload::GlobalSection(section) => {
                self.globals = self.globals.saturating_add(section.count().into());
            }
            Payload::StartSection { .. } => self.start = true,
            Payload::InstanceSection(section) => {
                for instance in section {
                    self.count_instance(scan, &instance?);
                }
            }
            Payload::ComponentImportSection(section) if scan.depth == 0 => {
                for import in section {
                    let import = import?;
                    let kind = match import.ty {
                        ComponentTypeRef::Instance(_) => ImportKind::Interface,
                        ComponentTypeRef::Func(_) => ImportKind::Other("function".into()),
                        ComponentTypeRef::Module(_) => ImportKind::Other("module".into()),
                        ComponentTypeRef::Component(_) => ImportKind::Other("component".into()),
                        // Types are equalities with what the interfaces define; nothing to provide.
                        ComponentTypeRef::Type(_) => continue,
                        ComponentTypeRef::Value(_) => ImportKind::Other("value".into()),
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
                        Export { name, kind: kind.into(), signature: None },
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
            TypeRef::Table(_) => ImportKind::Other("table".into()),
            TypeRef::Global(_) => ImportKind::Other("global".into()),
            TypeRef::Tag(_) => ImportKind::Other("tag".into()),
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
        let export = Export { name: export.name.to_owned(), kind: kind.into(), signature };
        push_bounded(&mut self.exports, export, MAX_EXPORTS, "exports")
    }

    /// A nested component can be instantiated any number of times, so one that makes instances counts as the largest.
    fn count_instance(&mut self, scan: &Scan, instance: &Instance<'_>) {
        if !matches!(instance, Instance::Instantiate { .. }) {
            return;
        }
        self.core_instances = match scan.depth {
            0 => self.core_instances.saturating_add(1).min(MAX_CORE_INSTANCES_PER_COMPONENT),
            _ => MAX_CORE_INSTANCES_PER_COMPONENT,
        };
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
                    // A C library linked into another language's program says that it is C; the
                    // program's own language says more.
                    "language" if self.language.as_ref().is_none_or(|known| is_c(known)) => {
                        self.language = Some(text);
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

fn is_c(language: &str) -> bool {
    language
        .strip_prefix('C')
        .is_some_and(|rest| rest.trim_start_matches('+').trim().chars().all(|c| c.is_ascii_digit()))
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
