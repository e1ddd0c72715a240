//! The words of a field's declaration: which types there are, which keys belong to which of them,
//! and which flags every field may carry. Declarations are read by these tables, so that what
//! documents and messages list is what there is.

/// A type of fields, as declarations call it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct FieldWord {
    /// The word: `type = "text"`.
    pub name: &'static str,
    /// The keys that belong to this type, those it cannot do without first.
    pub keys: &'static [&'static str],
    /// What its values are.
    pub about: &'static str,
}

const fn word(name: &'static str, keys: &'static [&'static str], about: &'static str) -> FieldWord {
    FieldWord { name, keys, about }
}

/// The types of fields.
pub const FIELD_TYPES: &[FieldWord] = &[
    word(
        "text",
        &["min", "max"],
        "trimmed text of so many characters",
    ),
    word(
        "long_text",
        &["min", "max"],
        "text of many lines, up to 100,000 characters",
    ),
    word("email", &[], "an e-mail address"),
    word("phone", &[], "a telephone number"),
    word("url", &[], "an absolute http or https URL"),
    word("integer", &["min", "max"], "a whole number of 64 bits"),
    word(
        "serial",
        &[],
        "the next number of the tenant, given to each new record",
    ),
    word(
        "decimal",
        &["precision", "scale", "min", "max"],
        "an exact decimal number",
    ),
    word(
        "money",
        &[
            "currency",
            "currency_field",
            "precision",
            "scale",
            "min",
            "max",
        ],
        "an exact amount; needs currency or currency_field",
    ),
    word("currency", &[], "a currency code of ISO 4217"),
    word("bool", &[], "true or false"),
    word("instant", &["min", "max"], "a moment in UTC"),
    word("date", &["min", "max"], "a day"),
    word("time", &["min", "max"], "a local time of day"),
    word("zoned", &[], "a local time with its zone"),
    word("uuid", &[], "any UUID"),
    word("enum", &["values"], "one of a list of texts"),
    word(
        "tags",
        &["max_items", "max_length"],
        "a list of distinct texts",
    ),
    word("json", &["max_bytes"], "any JSON value"),
    word("vector", &["dimensions"], "so many 32-bit numbers"),
    word(
        "reference",
        &["module", "on_delete"],
        "a record of another module",
    ),
    word(
        "references",
        &["module", "max_items", "on_delete"],
        "a list of records of another module",
    ),
    word(
        "any_reference",
        &["modules", "on_delete"],
        "a record of one of several modules",
    ),
];

/// The keys that a field of any type may carry, each with what it says.
pub const FIELD_FLAGS: &[(&str, &str)] = &[
    (
        "required",
        "never null; a create that leaves it out needs a default",
    ),
    ("default", "the value of what is left out"),
    ("unique", "in its tenant"),
    ("search", "the substring search looks at it"),
    ("sort", "lists may be ordered by it, by an index"),
    (
        "read_only",
        "clients do not set it; defaults, state machines and hooks do",
    ),
    (
        "immutable",
        "given when the record is made, and never changed",
    ),
    ("write_only", "stored and never shown"),
    (
        "ignore_case",
        "a text that compares and sorts without ASCII case",
    ),
    (
        "computed",
        "a text made of other fields: \"{first_name} {last_name}\"",
    ),
    (
        "copied",
        "copied from what a reference names: \"company_id.region\"",
    ),
    ("description", "one sentence for the documentation"),
];

impl FieldWord {
    /// Whether tenants' own fields can be of this type: lists of references, references to any of
    /// several modules, vectors, and numbers that are given to records are for the application to
    /// declare.
    pub fn is_for_tenants(&self) -> bool {
        !["references", "any_reference", "serial", "vector"].contains(&self.name)
    }

    /// The type called `name`.
    pub(super) fn find(name: &str) -> Option<&'static Self> {
        FIELD_TYPES.iter().find(|word| word.name == name)
    }
}

/// The names of these types as a sentence lists them.
pub(crate) fn listed(words: impl Iterator<Item = &'static FieldWord>) -> String {
    let names: Vec<_> = words.map(|word| word.name).collect();
    match names.split_last() {
        Some((last, [first @ .., before])) => {
            let first: String = first.iter().map(|name| format!("{name}, ")).collect();
            format!("{first}{before} and {last}")
        }
        _ => names.concat(),
    }
}

/// Why no field of a tenant's own is of this type.
pub(crate) fn not_tenants(word: &str) -> String {
    let types = listed(FIELD_TYPES.iter().filter(|word| word.is_for_tenants()));
    format!("a tenant's own field cannot be of type {word}; its types are {types}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::module::FieldSpec;

    /// A declaration of this type with what it needs.
    fn declaration(word: &FieldWord) -> FieldSpec {
        let mut all = json!({
            "currency": "EUR", "precision": 9, "scale": 2, "values": ["a"], "dimensions": 3,
            "module": "contacts", "modules": ["contacts"],
        });
        if let Some(keys) = all.as_object_mut() {
            keys.retain(|key, _| word.keys.contains(&key.as_str()));
            keys.insert("name".into(), json!("a"));
            keys.insert("type".into(), json!(word.name));
        }
        serde_json::from_value(all).unwrap_or_else(|error| panic!("{}: {error}", word.name))
    }

    #[test]
    fn every_listed_type_can_be_declared_and_is_called_so() {
        for word in FIELD_TYPES {
            let spec = declaration(word);
            let again = serde_json::to_value(&spec).unwrap();
            assert_eq!(again["type"], word.name);
        }
    }

    #[test]
    fn a_tenants_own_field_is_refused_by_type_or_by_the_member_that_is_wrong() {
        let module = crate::module::default_modules().remove(0);
        let module = crate::module::CompiledModule::new(module, 0).unwrap();
        for word in FIELD_TYPES {
            let checked = crate::custom::check_declaration(&module, &[], &declaration(word));
            let refused = match checked {
                Err(crate::Error::Invalid(refused)) => refused,
                checked => checked.map(|()| Vec::new()).unwrap(),
            };
            let of_type = refused.iter().any(|one| one.pointer == "/type");
            assert_eq!(of_type, !word.is_for_tenants(), "{refused:?}");
        }
        for (member, sent) in [
            ("name", json!({"name": "1st", "type": "text"})),
            ("type", json!({"name": "a", "type": "moon"})),
            ("type", json!({"name": "a", "type": "references"})),
            ("module", json!({"name": "a", "type": "reference"})),
            (
                "on_delete",
                json!({"name": "a", "type": "reference", "module": "b", "on_delete": "x"}),
            ),
            ("type", json!({"name": "a"})),
            ("max", json!({"name": "a", "type": "email", "max": 3})),
            ("max", json!({"name": "a", "type": "integer", "max": "x"})),
            (
                "scale",
                json!({"name": "a", "type": "decimal", "precision": 3}),
            ),
            (
                "scale",
                json!({"name": "a", "type": "decimal", "precision": 3, "scale": -1}),
            ),
            ("values", json!({"name": "a", "type": "enum"})),
            ("currency", json!({"name": "a", "type": "money"})),
            (
                "currency_field",
                json!({"name": "a", "type": "money", "currency_field": "X"}),
            ),
            ("moon", json!({"name": "a", "type": "text", "moon": 1})),
        ] {
            let Err(crate::Error::Invalid(refused)) =
                FieldSpec::of_tenant(sent.as_object().unwrap().clone())
            else {
                panic!("{sent}");
            };
            assert_eq!(refused[0].pointer, format!("/{member}"), "{refused:?}");
        }
    }

    #[test]
    fn every_key_of_a_declaration_is_listed() {
        let unknown = serde_json::from_value::<FieldSpec>(json!({"moon": 1})).unwrap_err();
        let text = unknown.to_string();
        let (_, expected) = text.split_once("expected one of").unwrap();
        let keys: Vec<_> = expected.split('`').skip(1).step_by(2).collect();
        assert!(keys.len() > 20, "{text}");
        for key in keys {
            let of_type = FIELD_TYPES.iter().any(|word| word.keys.contains(&key));
            let of_all = FIELD_FLAGS.iter().any(|(flag, _)| *flag == key);
            assert!(of_type ^ of_all || key == "name" || key == "type", "{key}");
        }
    }
}
