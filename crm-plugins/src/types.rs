//! The records of a module as a type of a plugin's language, from the module's declaration.

use crm_core::module::{FieldSpec, FieldType, Ident, ModuleSpec};

use crate::template::Language;

/// The source of a type for the records of a module: for Rust the SDK's `record!`, for TypeScript
/// an interface, for Python a `TypedDict`, for JavaScript a JSDoc type. Each field may be absent,
/// for a plugin sees what it was granted.
pub fn types(module: &ModuleSpec, language: Language) -> String {
    let (name, word) = (type_name(&module.singular), word(language));
    let fields = module.fields.iter();
    let fields: String = fields.map(|field| line(field, language)).collect();
    let made = format!(
        "The records of {}, from their declaration: made by `crm plugin types {} --lang {word}`.",
        module.name, module.name
    );
    let about = one_line(&module.description);
    match language {
        Language::Rust => format!(
            "//! {made}\n\ncrm_plugin_sdk::record! {{\n    /// {about}\n    pub struct {name} in {} \
             {{\n{fields}    }}\n}}\n",
            module.name
        ),
        Language::TypeScript => format!(
            "// {made}\n\n/** {about} */\nexport interface {name} {{\n  id: string;\n  version: \
             number;\n  owner_id: string | null;\n  created_at: string;\n  updated_at: \
             string;\n{fields}}}\n"
        ),
        Language::JavaScript => format!(
            "// {made}\n\n/**\n * {about}\n * @typedef {{object}} {name}\n * @property {{string}} \
             id\n * @property {{number}} version\n * @property {{string | null}} owner_id\n * \
             @property {{string}} created_at\n * @property {{string}} updated_at\n{fields} */\n\n\
             export {{}};\n"
        ),
        Language::Python => format!(
            "\"\"\"{made}\"\"\"\n\nfrom typing import TypedDict\n\n\nclass {name}(TypedDict, \
             total=False):\n    \"\"\"{about}\"\"\"\n\n    id: str\n    version: int\n    \
             owner_id: str | None\n    created_at: str\n    updated_at: str\n{fields}"
        ),
    }
}

/// The language as the command line names it.
fn word(language: Language) -> &'static str {
    match language {
        Language::Rust => "rust",
        Language::JavaScript => "js",
        Language::TypeScript => "ts",
        Language::Python => "python",
    }
}

fn line(field: &FieldSpec, language: Language) -> String {
    let (name, kind) = (field.name.as_str(), kind(&field.kind, language));
    let about = one_line(&field.description);
    match language {
        Language::Rust => {
            let about = match about.is_empty() {
                true => String::new(),
                false => format!("        /// {about}\n"),
            };
            match name {
                // These have no raw form.
                "crate" | "self" | "super" => format!(
                    "{about}        #[serde(rename = \"{name}\")]\n        {name}_: {kind},\n"
                ),
                _ if RUST_WORDS.contains(&name) => format!("{about}        r#{name}: {kind},\n"),
                _ => format!("{about}        {name}: {kind},\n"),
            }
        }
        Language::TypeScript => {
            let about = match about.is_empty() {
                true => String::new(),
                false => format!("  /** {about} */\n"),
            };
            format!("{about}  {name}: {kind} | null;\n")
        }
        Language::JavaScript => {
            format!(" * @property {{{kind} | null}} {name} {about}")
                .trim_end()
                .to_owned()
                + "\n"
        }
        // A name that is a word of Python's cannot be an attribute.
        Language::Python if PYTHON_WORDS.contains(&name) => String::new(),
        Language::Python => format!("    {name}: {kind} | None\n"),
    }
}

fn kind(kind: &FieldType, language: Language) -> String {
    let [text, integer, boolean, texts, numbers, json] = match language {
        Language::Rust => [
            "String",
            "i64",
            "bool",
            "Vec<String>",
            "Vec<f32>",
            "crm_plugin_sdk::Value",
        ],
        Language::JavaScript | Language::TypeScript => {
            ["string", "number", "boolean", "string[]", "number[]", "any"]
        }
        Language::Python => ["str", "int", "bool", "list[str]", "list[float]", "object"],
    };
    let typescript = matches!(language, Language::JavaScript | Language::TypeScript);
    match kind {
        FieldType::Enum { values } if typescript => {
            let values = values.iter().map(|value| format!("{value:?}"));
            let union = values.collect::<Vec<_>>().join(" | ");
            return format!("({union})");
        }
        FieldType::Text { .. }
        | FieldType::LongText { .. }
        | FieldType::Url
        | FieldType::Email
        | FieldType::Phone
        | FieldType::Decimal { .. }
        | FieldType::Money { .. }
        | FieldType::Currency
        | FieldType::Instant(_)
        | FieldType::Date(_)
        | FieldType::Time(_)
        | FieldType::Zoned
        | FieldType::Uuid
        | FieldType::Enum { .. }
        | FieldType::Reference { .. }
        | FieldType::AnyReference { .. } => text,
        FieldType::Integer { .. } => integer,
        FieldType::Bool => boolean,
        FieldType::Tags { .. } | FieldType::References { .. } => texts,
        FieldType::Vector { .. } => numbers,
        FieldType::Json { .. } => json,
    }
    .to_owned()
}

/// `sales_order` as `SalesOrder`.
fn type_name(singular: &Ident) -> String {
    let words = singular.as_str().split('_');
    let words = words.filter_map(|word| {
        let mut letters = word.chars();
        let first = letters.next()?;
        Some(first.to_uppercase().chain(letters).collect::<String>())
    });
    words.collect()
}

/// A description that ends no comment and needs no second line.
fn one_line(text: &str) -> String {
    let text = text.replace("*/", "* /").replace(['"', '\\'], "'");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Words of Rust that no field may have as its name, and that the raw form allows.
const RUST_WORDS: &[&str] = &[
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "do", "dyn",
    "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let",
    "loop", "macro", "match", "mod", "move", "mut", "override", "priv", "pub", "ref", "return",
    "static", "struct", "trait", "true", "try", "type", "typeof", "unsafe", "unsized", "use",
    "virtual", "where", "while", "yield",
];

const PYTHON_WORDS: &[&str] = &[
    "and", "as", "assert", "async", "await", "break", "class", "continue", "def", "del", "elif",
    "else", "except", "finally", "for", "from", "global", "if", "import", "in", "is", "lambda",
    "nonlocal", "not", "or", "pass", "raise", "return", "try", "while", "with", "yield",
];

#[cfg(test)]
mod tests {
    use crm_core::module::default_modules;

    use super::*;

    const ROOT: &str = env!("CARGO_MANIFEST_DIR");

    fn contacts(language: Language) -> String {
        types(&default_modules()[0], language)
    }

    #[test]
    fn the_example_has_the_type_of_its_module() {
        let file = format!("{ROOT}/../examples/plugins/lead-scoring/src/contact.rs");
        let found = std::fs::read_to_string(file).unwrap();
        assert_eq!(found, contacts(Language::Rust));
    }

    #[test]
    fn each_language_has_its_types() {
        for (language, lines) in [
            (
                Language::TypeScript,
                ["export interface Contact {", "  score: number | null;"],
            ),
            (
                Language::JavaScript,
                [
                    " * @typedef {object} Contact",
                    " * @property {string[] | null} tags",
                ],
            ),
            (
                Language::Python,
                [
                    "class Contact(TypedDict, total=False):",
                    "    score: int | None",
                ],
            ),
        ] {
            let source = contacts(language);
            for line in lines {
                assert!(
                    source.lines().any(|found| found == line),
                    "{line} in {source}"
                );
            }
        }
        let script = contacts(Language::TypeScript);
        assert!(script.contains("status: (\"lead\" | \"active\" | \"inactive\") | null;"));
    }

    #[test]
    fn words_of_a_language_are_no_stumbling_block() {
        let text = "name = 'sales_orders'\nsingular = 'sales_order'\n\
                    description = '''Ends */ here.\nAnd \"there\".'''\n\
                    [[fields]]\nname = 'type'\ntype = 'text'\n\
                    [[fields]]\nname = 'from'\ntype = 'date'\n";
        let module = ModuleSpec::from_toml(text).unwrap();
        let rust = types(&module, Language::Rust);
        assert!(
            rust.contains("pub struct SalesOrder in sales_orders {"),
            "{rust}"
        );
        assert!(rust.contains("r#type: String"), "{rust}");
        assert!(
            types(&module, Language::TypeScript).contains("/** Ends * / here. And 'there'. */")
        );
        assert!(!types(&module, Language::Python).contains("from: str"));
    }
}
