//! Readies a module for Winch, which takes neither fuel nor time for operations on many bytes or elements at once, such as
//! `memory.fill`: a guest could fill a gigabyte over and over without ever yielding, and would cost less than on optimised
//! code. So before each of them a function of the host is called that charges for it, and yields.
//!
//! Invariant: what a guest costs in fuel is the same on both tiers. The call costs one, and so does the operation; the
//! function takes one less than there are bytes or elements.

use mentat_manifest::escape_untrusted;
use wasm_encoder::reencode::{self, Reencode, utils};
use wasm_encoder::{
    CodeSection, EntityType, ImportSection, Instruction, Module, SectionId, TypeSection, ValType,
};
use wasmparser::{
    CustomSectionReader, FunctionBody, ImportSectionReader, KnownCustom, Operator, Parser, Payload, TypeRef,
    TypeSectionReader,
};

use super::inspect::invalid;
use crate::error::{Error, ModuleProblemKind};
use crate::host::metering::CHARGE;

/// A type that the module refers to and does not have.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("a type is referred to that there is not")]
struct BeyondTypes;

type MeterError = reencode::Error<BeyondTypes>;

/// Writes a module again, with the calls.
struct Meter {
    /// Functions that the module imports; the host's comes behind them.
    imported: u32,
    /// The number of its type, behind those of the module.
    charge_type: u32,
    has_type: bool,
    has_import: bool,
}

/// The module with what it is charged for.
///
/// # Errors
/// `INVALID_MODULE` for one that is malformed.
pub(crate) fn meter(module: &[u8]) -> Result<Vec<u8>, Error> {
    let failed = |message: String| {
        let said = escape_untrusted(&message, 256);
        invalid(ModuleProblemKind::Malformed, "module", format!("the module cannot be metered: {said}"))
    };
    let mut meter = Meter::of(module).map_err(|error| failed(error.to_string()))?;
    let mut metered = Module::new();
    meter
        .parse_core_module(&mut metered, Parser::new(0), module)
        .map_err(|error| failed(error.to_string()))?;
    Ok(metered.finish())
}

impl Meter {
    fn of(module: &[u8]) -> wasmparser::Result<Self> {
        let (mut imported, mut types) = (0, 0);
        for payload in Parser::new(0).parse_all(module) {
            match payload? {
                Payload::TypeSection(section) => {
                    for group in section {
                        types += u32::try_from(group?.types().len()).unwrap_or(u32::MAX);
                    }
                }
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        if matches!(import?.ty, TypeRef::Func(_) | TypeRef::FuncExact(_)) {
                            imported += 1;
                        }
                    }
                }
                Payload::FunctionSection(_) | Payload::CodeSectionStart { .. } => break,
                _ => {}
            }
        }
        Ok(Self { imported, charge_type: types, has_type: false, has_import: false })
    }

    fn add_type(&mut self, types: &mut TypeSection) {
        types.ty().function([ValType::I32], [ValType::I32]);
        self.has_type = true;
    }

    fn add_import(&mut self, imports: &mut ImportSection) {
        let (module, name) = CHARGE;
        imports.import(module, name, EntityType::Function(self.charge_type));
        self.has_import = true;
    }
}

impl Reencode for Meter {
    type Error = BeyondTypes;

    /// One that the module does not have would become ours.
    fn type_index(&mut self, index: u32) -> Result<u32, MeterError> {
        if index < self.charge_type { Ok(index) } else { Err(reencode::Error::UserError(BeyondTypes)) }
    }

    fn function_index(&mut self, function: u32) -> Result<u32, MeterError> {
        Ok(if function < self.imported { function } else { function.saturating_add(1) })
    }

    fn parse_type_section(
        &mut self,
        types: &mut TypeSection,
        section: TypeSectionReader<'_>,
    ) -> Result<(), MeterError> {
        utils::parse_type_section(self, types, section)?;
        self.add_type(types);
        Ok(())
    }

    fn parse_import_section(
        &mut self,
        imports: &mut ImportSection,
        section: ImportSectionReader<'_>,
    ) -> Result<(), MeterError> {
        utils::parse_import_section(self, imports, section)?;
        self.add_import(imports);
        Ok(())
    }

    /// Makes the sections that the module does not have.
    fn intersperse_section_hook(
        &mut self,
        module: &mut Module,
        _: Option<SectionId>,
        before: Option<SectionId>,
    ) -> Result<(), MeterError> {
        if !self.has_type && before != Some(SectionId::Type) {
            let mut types = TypeSection::new();
            self.add_type(&mut types);
            module.section(&types);
        }
        if !self.has_import && !matches!(before, Some(SectionId::Type | SectionId::Import)) {
            let mut imports = ImportSection::new();
            self.add_import(&mut imports);
            module.section(&imports);
        }
        Ok(())
    }

    /// Names stay, for backtraces. Whatever else counts bytes of the code is wrong by now.
    fn parse_custom_section(
        &mut self,
        module: &mut Module,
        section: CustomSectionReader<'_>,
    ) -> Result<(), MeterError> {
        match section.as_known() {
            KnownCustom::Name(_) => utils::parse_custom_section(self, module, section),
            _ => Ok(()),
        }
    }

    fn parse_function_body(
        &mut self,
        code: &mut CodeSection,
        body: FunctionBody<'_>,
    ) -> Result<(), MeterError> {
        let mut function = self.new_function_with_parsed_locals(&body)?;
        for operator in body.get_operators_reader()? {
            let operator = operator?;
            if is_charged(&operator) {
                function.instruction(&Instruction::Call(self.imported));
            }
            function.instruction(&self.instruction(operator)?);
        }
        code.function(&function);
        Ok(())
    }
}

/// Those that optimised code charges by their length, which lies uppermost on the stack.
fn is_charged(operator: &Operator<'_>) -> bool {
    matches!(
        operator,
        Operator::MemoryCopy { .. }
            | Operator::MemoryFill { .. }
            | Operator::MemoryInit { .. }
            | Operator::TableCopy { .. }
            | Operator::TableFill { .. }
            | Operator::TableInit { .. }
            | Operator::TableGrow { .. }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metered(text: &str) -> Vec<u8> {
        let metered = meter(&wat::parse_str(text).unwrap()).unwrap();
        wasmparser::validate(&metered).unwrap();
        metered
    }

    #[test]
    fn modules_stay_valid_whatever_sections_they_have() {
        for text in [
            "(module)",
            "(module (memory 1))",
            "(module (type (func)) (memory 1) (global $g (mut i32) (i32.const 1)))",
            "(module (func (export \"process\") (result i32) (i32.const 1)))",
            "(module (import \"a\" \"b\" (func $b)) (func $c) (table funcref (elem $b $c)) (start $c)
               (global funcref (ref.func $c)) (func (call $b) (call $c)))",
            "(module (rec (type $a (func)) (type $b (func (param (ref $a))))) (func (type $a)))",
        ] {
            metered(text);
        }
    }

    #[test]
    fn each_operation_on_many_is_charged_for_and_no_other() {
        let module = metered(
            "(module (import \"a\" \"b\" (func)) (memory 1) (table 1 funcref) (data \"x\") (elem func)
               (func (memory.copy (i32.const 1) (i32.const 2) (i32.const 3))
                     (memory.fill (i32.const 1) (i32.const 2) (i32.const 3))
                     (memory.init 0 (i32.const 1) (i32.const 2) (i32.const 3))
                     (table.copy (i32.const 1) (i32.const 2) (i32.const 3))
                     (table.fill (i32.const 1) (ref.null func) (i32.const 3))
                     (table.init 0 (i32.const 1) (i32.const 2) (i32.const 3))
                     (drop (table.grow (ref.null func) (i32.const 3)))
                     (drop (memory.grow (i32.const 1)))
                     (i32.store (i32.const 1) (i32.const 2))))",
        );
        let mut calls = 0;
        for payload in Parser::new(0).parse_all(&module) {
            if let Payload::CodeSectionEntry(body) = payload.unwrap() {
                let operators = body.get_operators_reader().unwrap().into_iter().map(Result::unwrap);
                calls += operators
                    .filter(|operator| matches!(operator, Operator::Call { function_index: 1 }))
                    .count();
            }
        }
        assert_eq!(calls, 7);
    }
}
