//! The world of a guest as TypeScript sees it: a module for each interface, with its types and
//! functions, in the form that the JavaScript engine hands them over.

use std::fmt::Write as _;

use wit_parser::{Docs, Function, InterfaceId, Resolve, Type, TypeDef, TypeDefKind, TypeOwner};

/// Names that no function can be declared under: the reserved words of a module, whose code is
/// strict (ECMA-262, 12.7.2 "Keywords and Reserved Words").
const RESERVED: &str = "await break case catch class const continue debugger default delete do else enum \
    export extends false finally for function if import in instanceof new null return super switch this \
    throw true try typeof var void while with yield \
    implements interface let package private protected public static";

/// Declarations of the interfaces of a world's text; nothing when it is none.
pub(super) fn declarations(world: &str) -> Option<String> {
    let mut resolve = Resolve::default();
    let package = resolve.push_str("automation.wit", world).ok()?;
    let mut text = "// Made by `crm plugin build` from plugin.toml.\n".to_owned();
    for id in resolve.packages[package].interfaces.values() {
        module(&resolve, *id, &mut text)?;
    }
    Some(text)
}

fn module(resolve: &Resolve, id: InterfaceId, text: &mut String) -> Option<()> {
    let interface = &resolve.interfaces[id];
    let name = resolve.id_of(id)?;
    text.push('\n');
    about(&interface.docs, "", text);
    writeln!(text, "declare module {name:?} {{").ok()?;
    for (name, id) in &interface.types {
        let definition = &resolve.types[*id];
        about(&definition.docs, "  ", text);
        declare(resolve, name, definition, text);
    }
    for (name, function) in &interface.functions {
        about(&function.docs, "  ", text);
        declare_function(resolve, name, function, text);
    }
    text.push_str("  export {};\n}\n");
    Some(())
}

fn about(docs: &Docs, indent: &str, text: &mut String) {
    let Some(docs) = docs.contents.as_deref() else {
        return;
    };
    let docs = docs.trim().replace("*/", "* /");
    let docs = docs.replace('\n', &format!("\n{indent} * "));
    text.push_str(&format!("{indent}/** {docs} */\n"));
}

fn declare(resolve: &Resolve, name: &str, definition: &TypeDef, text: &mut String) {
    let name = upper(name);
    let TypeDefKind::Record(record) = &definition.kind else {
        let kind = spelled(resolve, definition);
        text.push_str(&format!("  export type {name} = {kind};\n"));
        return;
    };
    text.push_str(&format!("  export interface {name} {{\n"));
    for field in &record.fields {
        about(&field.docs, "    ", text);
        let (name, kind) = (lower(&field.name), of(resolve, &field.ty));
        let may = if optional(resolve, &field.ty) {
            "?"
        } else {
            ""
        };
        text.push_str(&format!("    {name}{may}: {kind};\n"));
    }
    text.push_str("  }\n");
}

fn declare_function(resolve: &Resolve, name: &str, function: &Function, text: &mut String) {
    let name = lower(name);
    let parameters = function.params.iter().map(|parameter| {
        let kind = of(resolve, &parameter.ty);
        format!("{}: {kind}", lower(&parameter.name))
    });
    let parameters = parameters.collect::<Vec<_>>().join(", ");
    let answer = function.result.as_ref();
    let answer = answer.map_or_else(|| "void".to_owned(), |answer| answered(resolve, answer));
    if RESERVED.split(' ').any(|word| word == name) {
        text.push_str(&format!(
            "  function {name}_({parameters}): {answer};\n  export {{ {name}_ as {name} }};\n"
        ));
    } else {
        text.push_str(&format!(
            "  export function {name}({parameters}): {answer};\n"
        ));
    }
}

/// What a function hands back: of a result the good case, the other one is thrown.
fn answered(resolve: &Resolve, answer: &Type) -> String {
    if let Type::Id(id) = answer
        && let TypeDefKind::Result(result) = &resolve.types[*id].kind
    {
        return match &result.ok {
            Some(ok) => of(resolve, ok),
            None => "void".to_owned(),
        };
    }
    of(resolve, answer)
}

fn optional(resolve: &Resolve, kind: &Type) -> bool {
    matches!(kind, Type::Id(id) if matches!(resolve.types[*id].kind, TypeDefKind::Option(_)))
}

fn of(resolve: &Resolve, kind: &Type) -> String {
    let Type::Id(id) = kind else {
        return match kind {
            Type::Bool => "boolean",
            Type::U64 | Type::S64 => "bigint",
            Type::Char | Type::String => "string",
            _ => "number",
        }
        .to_owned();
    };
    let definition = &resolve.types[*id];
    match (&definition.name, definition.owner) {
        (Some(name), TypeOwner::Interface(_)) => upper(name),
        _ => spelled(resolve, definition),
    }
}

/// A type by what it is made of.
fn spelled(resolve: &Resolve, definition: &TypeDef) -> String {
    match &definition.kind {
        TypeDefKind::Enum(kind) => {
            let cases = kind.cases.iter().map(|case| format!("{:?}", case.name));
            cases.collect::<Vec<_>>().join(" | ")
        }
        TypeDefKind::Variant(variant) => {
            let cases = variant.cases.iter().map(|case| match &case.ty {
                Some(kind) => format!("{{ tag: {:?}; val: {} }}", case.name, of(resolve, kind)),
                None => format!("{{ tag: {:?} }}", case.name),
            });
            cases.collect::<Vec<_>>().join(" | ")
        }
        TypeDefKind::Option(kind) => format!("{} | undefined", of(resolve, kind)),
        TypeDefKind::List(Type::U8) => "Uint8Array".to_owned(),
        TypeDefKind::List(Type::F32) => "Float32Array".to_owned(),
        TypeDefKind::List(kind) => format!("Array<{}>", of(resolve, kind)),
        // A type that another interface of the package has.
        TypeDefKind::Type(Type::Id(id)) => {
            let other = &resolve.types[*id];
            let module = match other.owner {
                TypeOwner::Interface(interface) => resolve.id_of(interface),
                _ => None,
            };
            match (module, &other.name) {
                (Some(module), Some(name)) => format!("import({module:?}).{}", upper(name)),
                _ => of(resolve, &Type::Id(*id)),
            }
        }
        TypeDefKind::Type(kind) => of(resolve, kind),
        // The package has no more kinds; a test says so.
        _ => "unknown".to_owned(),
    }
}

fn upper(name: &str) -> String {
    name.split('-').map(capital).collect()
}

fn lower(name: &str) -> String {
    let mut words = name.split('-');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |name, word| name + capital(word).as_str())
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(letters).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIT: &str = include_str!("../../wit/automation.wit");

    #[test]
    fn every_type_and_function_of_the_package_is_declared() {
        let text = declarations(WIT).unwrap();
        assert!(!text.contains("unknown"), "{text}");
        for line in [
            "declare module \"crm:automation/records@1.0.0\" {",
            "  export type Field = import(\"crm:automation/types@1.0.0\").Field;",
            "  export function get(module: string, id: string): Array<Field>;",
            "  export { delete_ as delete };",
            "  export function log(level: Level, message: string): void;",
            "    recordId: string;",
            "    before?: Array<Field> | undefined;",
            "  export function nowMillis(): bigint;",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
    }

    #[test]
    fn functions_with_the_names_of_reserved_words_are_declared_under_others() {
        let text = declarations(
            "package crm:automation@1.0.0;\n\
             interface words { class: func(); %static: func(); typeof: func(); type-of: func(); }",
        );
        let text = text.unwrap();
        for line in [
            "  export { class_ as class };",
            "  export { static_ as static };",
            "  export { typeof_ as typeof };",
            "  export function typeOf(): void;",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
    }

    #[test]
    fn a_world_without_an_interface_has_no_module_of_it() {
        let world = WIT.split("/// Numbers from a seed").next().unwrap();
        let text = declarations(world).unwrap();
        assert!(!text.contains("crm:automation/random"), "{text}");
    }
}
