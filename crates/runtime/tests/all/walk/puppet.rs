//! A component that calls what it is told to: any function of any interface that a host offers, with arguments that fit
//! its type and with what handles it has got by earlier calls. Made from the WIT of the interfaces; knows nothing of what
//! the functions do.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write;
use std::path::Path;

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::abi::{AbiVariant, WasmType};
use wit_parser::{Function, FunctionKind, Handle, Resolve, SizeAlign, Type, TypeDefKind, TypeId};

/// Where results are written, and where the puppet's own answer lies.
const RESULT_AT: usize = 2048;
const ANSWER_AT: usize = 8192;
/// Where the text lies that every string is.
const TEXT_AT: usize = 1024;

/// One function of the host.
pub struct HostFunction {
    /// Without its version, such as `wasi:sockets/tcp`.
    pub interface: String,
    /// Such as `[method]tcp-socket.start-connect`.
    pub name: String,
    function: Function,
    module: String,
    takes: Vec<TypeId>,
    makes: Vec<TypeId>,
}

/// What strings and addresses are.
pub struct Props<'a> {
    pub text: &'a str,
    /// Of the loopback interface.
    pub port: u16,
}

/// The functions of some interfaces, in their order.
pub struct Puppet {
    resolve: Resolve,
    sizes: SizeAlign,
    pub functions: Vec<HostFunction>,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// There was no handle to call it with: none was given.
    Skipped,
    Done,
    /// It answered with an error.
    Refused,
}

impl Puppet {
    /// Reads folders of WIT.
    pub fn read(folders: &[&Path]) -> Self {
        let mut resolve = Resolve::default();
        for folder in folders {
            resolve.push_dir(folder).unwrap();
        }
        let mut sizes = SizeAlign::default();
        sizes.fill(&resolve);
        let mut functions = Vec::new();
        for (id, interface) in resolve.interfaces.iter() {
            let Some(module) = resolve.id_of(id) else { continue };
            for (name, function) in &interface.functions {
                let mut takes = Vec::new();
                for parameter in &function.params {
                    handles(&resolve, &parameter.ty, &mut takes);
                }
                let mut makes = Vec::new();
                if let Some(result) = &function.result {
                    handles(&resolve, result, &mut makes);
                }
                let interface = module.split('@').next().unwrap().to_owned();
                let module = module.clone();
                let (name, function) = (name.clone(), function.clone());
                functions.push(HostFunction { interface, name, function, module, takes, makes });
            }
        }
        Self { resolve, sizes, functions }
    }

    /// Leaves the functions of these interfaces.
    pub fn retain(&mut self, keep: impl Fn(&HostFunction) -> bool) {
        self.functions.retain(keep);
    }

    /// The place of a function.
    pub fn find(&self, interface: &str, name: &str) -> usize {
        let is_it = |function: &HostFunction| function.interface == interface && function.name == name;
        self.functions.iter().position(is_it).unwrap_or_else(|| panic!("no {interface} {name}"))
    }

    /// The calls that lead to one: those that make the handles it takes, and it.
    pub fn way_to(&self, target: usize) -> Vec<usize> {
        let mut way = Vec::new();
        self.lead_to(target, &mut way, &mut HashSet::new());
        way
    }

    fn lead_to(&self, target: usize, way: &mut Vec<usize>, open: &mut HashSet<usize>) {
        if !open.insert(target) {
            return;
        }
        for needed in &self.functions[target].takes {
            if way.iter().any(|step| self.functions[*step].makes.contains(needed)) {
                continue;
            }
            let makers = (0..self.functions.len())
                .filter(|maker| self.functions[*maker].makes.contains(needed) && !open.contains(maker));
            // What takes nothing of its own kind leads somewhere.
            let maker = makers.min_by_key(|maker| {
                let HostFunction { takes, function, .. } = &self.functions[*maker];
                let is_method = matches!(function.kind, FunctionKind::Method(_));
                (takes.contains(needed), is_method, takes.len())
            });
            if let Some(maker) = maker {
                self.lead_to(maker, way, open);
            }
        }
        way.push(target);
        open.remove(&target);
    }

    /// The component: an agent whose input is the numbers of functions, a byte each, and whose output is a byte for how
    /// each call ended.
    pub fn component(&self, props: &Props<'_>) -> Vec<u8> {
        let mut resolve = self.resolve.clone();
        let modules: BTreeMap<&str, ()> =
            self.functions.iter().map(|function| (function.module.as_str(), ())).collect();
        let imports: String = modules.keys().map(|module| format!("import {module};\n")).collect();
        let world = format!(
            "package test:puppet;\nworld puppet {{\n{imports}\
             export process: func(input: list<u8>) -> result<list<u8>, string>;\n}}\n"
        );
        let package = resolve.push_str("puppet.wit", &world).unwrap();
        let world = resolve.select_world(&[package], Some("puppet")).unwrap();
        let mut module = wat::parse_str(self.core(props)).unwrap();
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
        ComponentEncoder::default().module(&module).unwrap().validate(true).encode().unwrap()
    }

    /// The code of the component, as text.
    fn core(&self, props: &Props<'_>) -> String {
        let mut text = "(module\n".to_owned();
        for (number, function) in self.functions.iter().enumerate() {
            let signature = self.resolve.wasm_signature(AbiVariant::GuestImport, &function.function);
            let params: String =
                signature.params.iter().map(|param| format!(" {}", core_type(*param))).collect();
            let results: String =
                signature.results.iter().map(|result| format!(" {}", core_type(*result))).collect();
            let HostFunction { module, name, .. } = function;
            writeln!(
                text,
                "(import \"{module}\" \"{name}\" (func $f{number} (param{params}) (result{results})))"
            )
            .unwrap();
        }
        let kinds: HashSet<TypeId> = self
            .functions
            .iter()
            .flat_map(|function| function.takes.iter().chain(&function.makes))
            .copied()
            .collect();
        for kind in kinds {
            writeln!(text, "(global $h{} (mut i32) (i32.const 0))", kind.index()).unwrap();
        }
        write!(
            text,
            "(memory (export \"memory\") 16)
             (data (i32.const {TEXT_AT}) \"{}\")
             (global $free (mut i32) (i32.const 65536))
             (func (export \"cabi_realloc\") (param i32 i32 i32 i32) (result i32)
               (global.set $free (i32.and (i32.add (global.get $free) (i32.const 15)) (i32.const -16)))
               (global.get $free)
               (global.set $free (i32.add (global.get $free) (local.get 3))))\n",
            props.text
        )
        .unwrap();
        for (number, function) in self.functions.iter().enumerate() {
            self.step(number, function, props, &mut text);
        }
        let steps: String = (0..self.functions.len()).map(|number| format!(" $step{number}")).collect();
        write!(
            text,
            "(table funcref (elem{steps}))
             (type $step (func (result i32)))
             (func (export \"process\") (param $at i32) (param $length i32) (result i32)
               (local $done i32)
               (i32.store (i32.const 4) (i32.const {ANSWER_AT}))
               (i32.store (i32.const 8) (local.get $length))
               (block $end (loop $next
                 (br_if $end (i32.eq (local.get $done) (local.get $length)))
                 (i32.store8 (i32.add (i32.const {ANSWER_AT}) (local.get $done))
                   (call_indirect (type $step) (i32.load8_u (i32.add (local.get $at) (local.get $done)))))
                 (local.set $done (i32.add (local.get $done) (i32.const 1)))
                 (br $next)))
               (i32.const 0)))\n"
        )
        .unwrap();
        text
    }

    /// One call: its arguments, the call, and the handles of its result.
    fn step(&self, number: usize, function: &HostFunction, props: &Props<'_>, text: &mut String) {
        let signature = self.resolve.wasm_signature(AbiVariant::GuestImport, &function.function);
        assert!(!signature.indirect_params, "{} has too many arguments for this puppet", function.name);
        writeln!(text, "(func $step{number} (result i32) (local $given i32)").unwrap();
        let (mut values, mut spent) = (Vec::new(), Vec::new());
        for parameter in &function.function.params {
            self.lower(&parameter.ty, "", props, &mut values, &mut spent);
        }
        if signature.retptr {
            values.push(Value::Number(i64::try_from(RESULT_AT).unwrap()));
        }
        for value in &values {
            if let Value::Handle(kind) = value {
                writeln!(
                    text,
                    "(if (i32.eqz (global.get $h{})) (then (return (i32.const 0))))",
                    kind.index()
                )
                .unwrap();
            }
        }
        assert_eq!(values.len(), signature.params.len(), "{}", function.name);
        write!(text, "(call $f{number}").unwrap();
        for (value, kind) in values.iter().zip(&signature.params) {
            match value {
                Value::Handle(handle) => write!(text, " (global.get $h{})", handle.index()).unwrap(),
                Value::Number(number) => write!(text, " ({}.const {number})", core_type(*kind)).unwrap(),
            }
        }
        text.push_str(")\n");
        for handle in spent {
            writeln!(text, "(global.set $h{} (i32.const 0))", handle.index()).unwrap();
        }
        let Some(result) = &function.function.result else {
            text.push_str("(i32.const 1))\n");
            return;
        };
        let is_result = matches!(self.kind(result), Some(TypeDefKind::Result(_)));
        if signature.retptr {
            let base = format!("(i32.const {RESULT_AT})");
            self.lift(result, &base, 0, text);
            if is_result {
                writeln!(text, "(i32.add (i32.const 1) (i32.load8_u {base})))").unwrap();
            } else {
                text.push_str("(i32.const 1))\n");
            }
        } else {
            match (self.kind(result), core_type(signature.results[0])) {
                (Some(TypeDefKind::Handle(Handle::Own(kind))), _) => {
                    writeln!(text, "(global.set $h{}) (i32.const 1))", root(&self.resolve, *kind).index())
                        .unwrap();
                }
                (Some(TypeDefKind::Result(_)), _) => text.push_str("(i32.const 1) (i32.add))\n"),
                _ => text.push_str("drop (i32.const 1))\n"),
            }
        }
    }

    /// What stands behind a type's names.
    fn plain(&self, ty: &Type) -> Type {
        match ty {
            Type::Id(id) => match &self.resolve.types[*id].kind {
                TypeDefKind::Type(other) => self.plain(other),
                _ => *ty,
            },
            _ => *ty,
        }
    }

    /// What it is made of; nothing for numbers and strings.
    fn kind(&self, ty: &Type) -> Option<&TypeDefKind> {
        match self.plain(ty) {
            Type::Id(id) => Some(&self.resolve.types[id].kind),
            _ => None,
        }
    }

    fn name(&self, ty: &Type) -> &str {
        match ty {
            Type::Id(id) => match (&self.resolve.types[*id].name, &self.resolve.types[*id].kind) {
                (Some(name), _) => name,
                (None, TypeDefKind::Type(other)) => self.name(other),
                _ => "",
            },
            _ => "",
        }
    }

    /// The arguments for a parameter, as they are passed flat.
    fn lower(
        &self,
        ty: &Type,
        field: &str,
        props: &Props<'_>,
        values: &mut Vec<Value>,
        spent: &mut Vec<TypeId>,
    ) {
        match self.plain(ty) {
            Type::String => {
                values.push(Value::Number(i64::try_from(TEXT_AT).unwrap()));
                values.push(Value::Number(i64::try_from(props.text.len()).unwrap()));
            }
            Type::U16 if field == "port" => values.push(Value::Number(props.port.into())),
            Type::Id(_) => {}
            _ => values.push(Value::Number(1)),
        }
        let name = self.name(ty);
        match self.kind(ty) {
            None | Some(TypeDefKind::Resource) => {}
            Some(TypeDefKind::Handle(Handle::Borrow(kind))) => {
                values.push(Value::Handle(root(&self.resolve, *kind)));
            }
            Some(TypeDefKind::Handle(Handle::Own(kind))) => {
                let kind = root(&self.resolve, *kind);
                values.push(Value::Handle(kind));
                spent.push(kind);
            }
            Some(TypeDefKind::Tuple(_)) if name == "ipv4-address" => {
                values.extend([127, 0, 0, 1].map(Value::Number));
            }
            Some(TypeDefKind::Tuple(tuple)) => {
                for ty in &tuple.types {
                    self.lower(ty, "", props, values, spent);
                }
            }
            Some(TypeDefKind::Record(record)) => {
                for field in &record.fields {
                    self.lower(&field.ty, &field.name, props, values, spent);
                }
            }
            Some(TypeDefKind::Enum(_)) => values.push(Value::Number(0)),
            Some(TypeDefKind::Flags(_)) => values.push(Value::Number(1)),
            Some(TypeDefKind::List(_)) => {
                values.push(Value::Number(i64::try_from(TEXT_AT).unwrap()));
                let is_bytes = matches!(self.kind(ty), Some(TypeDefKind::List(Type::U8)));
                values.push(Value::Number(if is_bytes { 4 } else { 0 }));
            }
            Some(TypeDefKind::Option(inner)) => {
                // An option of a handle is left out: none is needed, and it would be spent.
                let is_handle = matches!(self.kind(inner), Some(TypeDefKind::Handle(Handle::Own(_))));
                let case = if is_handle { None } else { Some(*inner) };
                self.lower_case(ty, i64::from(!is_handle), case.as_ref(), props, values, spent);
            }
            Some(TypeDefKind::Variant(variant)) => {
                let payload = variant.cases[0].ty;
                self.lower_case(ty, 0, payload.as_ref(), props, values, spent);
            }
            Some(TypeDefKind::Result(result)) => {
                self.lower_case(ty, 0, result.ok.as_ref(), props, values, spent);
            }
            Some(other) => panic!("this puppet knows no {}", other.as_str()),
        }
    }

    /// A case of a variant, filled up to the length of its longest.
    fn lower_case(
        &self,
        ty: &Type,
        case: i64,
        payload: Option<&Type>,
        props: &Props<'_>,
        values: &mut Vec<Value>,
        spent: &mut Vec<TypeId>,
    ) {
        let end = values.len() + self.flat_length(ty);
        values.push(Value::Number(case));
        if let Some(payload) = payload {
            self.lower(payload, "", props, values, spent);
        }
        values.resize(end, Value::Number(0));
    }

    fn flat_length(&self, ty: &Type) -> usize {
        let of = |ty: &Type| self.flat_length(ty);
        let longest = |types: &[Option<Type>]| types.iter().flatten().map(of).max().unwrap_or(0) + 1;
        match self.kind(ty) {
            None => {
                if self.plain(ty) == Type::String {
                    2
                } else {
                    1
                }
            }
            Some(TypeDefKind::Tuple(tuple)) => tuple.types.iter().map(of).sum(),
            Some(TypeDefKind::Record(record)) => record.fields.iter().map(|field| of(&field.ty)).sum(),
            Some(TypeDefKind::List(_)) => 2,
            Some(TypeDefKind::Option(inner)) => longest(&[Some(*inner)]),
            Some(TypeDefKind::Result(result)) => longest(&[result.ok, result.err]),
            Some(TypeDefKind::Variant(variant)) => {
                longest(&variant.cases.iter().map(|case| case.ty).collect::<Vec<_>>())
            }
            Some(_) => 1,
        }
    }

    /// Takes the handles out of a result that lies `offset` bytes after `base`.
    fn lift(&self, ty: &Type, base: &str, offset: usize, text: &mut String) {
        let mut found = Vec::new();
        handles(&self.resolve, ty, &mut found);
        if found.is_empty() {
            return;
        }
        let guarded = |case: usize, payload: &Type, at: usize, text: &mut String| {
            writeln!(text, "(if (i32.eq (i32.load8_u offset={offset} {base}) (i32.const {case})) (then")
                .unwrap();
            self.lift(payload, base, at, text);
            text.push_str("))\n");
        };
        let tag = wit_parser::Int::U8;
        match self.kind(ty) {
            Some(TypeDefKind::Handle(Handle::Own(kind))) => {
                let kind = root(&self.resolve, *kind).index();
                writeln!(text, "(global.set $h{kind} (i32.load offset={offset} {base}))").unwrap();
            }
            Some(TypeDefKind::Tuple(tuple)) => {
                for (at, ty) in self.sizes.field_offsets(&tuple.types) {
                    self.lift(ty, base, offset + at.size_wasm32(), text);
                }
            }
            Some(TypeDefKind::Record(record)) => {
                for (at, ty) in self.sizes.field_offsets(record.fields.iter().map(|field| &field.ty)) {
                    self.lift(ty, base, offset + at.size_wasm32(), text);
                }
            }
            Some(TypeDefKind::Option(inner)) => {
                let at = self.sizes.payload_offset(tag, [None, Some(inner)]).size_wasm32();
                guarded(1, inner, offset + at, text);
            }
            Some(TypeDefKind::Result(result)) => {
                let at =
                    self.sizes.payload_offset(tag, [result.ok.as_ref(), result.err.as_ref()]).size_wasm32();
                for (case, payload) in [&result.ok, &result.err].into_iter().enumerate() {
                    if let Some(payload) = payload {
                        guarded(case, payload, offset + at, text);
                    }
                }
            }
            Some(TypeDefKind::Variant(variant)) => {
                let payloads = variant.cases.iter().map(|case| case.ty.as_ref());
                let at = self.sizes.payload_offset(variant.tag(), payloads).size_wasm32();
                for (case, payload) in variant.cases.iter().enumerate() {
                    if let Some(payload) = &payload.ty {
                        guarded(case, payload, offset + at, text);
                    }
                }
            }
            Some(TypeDefKind::List(element)) => {
                writeln!(text, "(if (i32.load offset={} {base}) (then", offset + 4).unwrap();
                self.lift(element, &format!("(i32.load offset={offset} {base})"), 0, text);
                text.push_str("))\n");
            }
            _ => {}
        }
    }
}

/// An argument.
#[derive(Clone, Debug)]
enum Value {
    Number(i64),
    /// The last handle of that kind.
    Handle(TypeId),
}

impl Step {
    pub fn of(byte: u8) -> Self {
        match byte {
            0 => Self::Skipped,
            1 => Self::Done,
            _ => Self::Refused,
        }
    }
}

fn core_type(kind: WasmType) -> &'static str {
    match kind {
        WasmType::I32 | WasmType::Pointer | WasmType::Length => "i32",
        WasmType::I64 | WasmType::PointerOrI64 => "i64",
        WasmType::F32 => "f32",
        WasmType::F64 => "f64",
    }
}

/// The resource that a name of it stands for.
fn root(resolve: &Resolve, id: TypeId) -> TypeId {
    match &resolve.types[id].kind {
        TypeDefKind::Type(Type::Id(other)) => root(resolve, *other),
        _ => id,
    }
}

/// The resources whose handles a type holds.
fn handles(resolve: &Resolve, ty: &Type, found: &mut Vec<TypeId>) {
    let Type::Id(id) = ty else { return };
    let mut each = |types: &[&Type]| types.iter().for_each(|ty| handles(resolve, ty, found));
    match &resolve.types[*id].kind {
        TypeDefKind::Handle(Handle::Own(kind) | Handle::Borrow(kind)) => found.push(root(resolve, *kind)),
        TypeDefKind::Type(other) | TypeDefKind::List(other) => each(&[other]),
        // None is given where one may be left out.
        TypeDefKind::Option(other) => each(&[other]),
        TypeDefKind::Tuple(tuple) => each(&tuple.types.iter().collect::<Vec<_>>()),
        TypeDefKind::Record(record) => each(&record.fields.iter().map(|field| &field.ty).collect::<Vec<_>>()),
        TypeDefKind::Result(result) => {
            each(&[&result.ok, &result.err].into_iter().flatten().collect::<Vec<_>>());
        }
        TypeDefKind::Variant(variant) => {
            each(&variant.cases.iter().filter_map(|case| case.ty.as_ref()).collect::<Vec<_>>());
        }
        _ => {}
    }
}
