//! What a field's flags say of who sets its value and who sees it, and what goes with them.

use super::Problems;
use crate::module::{FieldSpec, FieldType, ModuleSpec};

/// Flags that contradict each other, the type, or the other rules.
pub(super) fn check(field: &FieldSpec, place: &str, problems: &mut Problems) {
    let name = &field.name;
    let mut refuse = |key: &str, code, message: String| {
        problems.add(&format!("{place}/{key}"), code, message);
    };
    if field.write_only {
        let shows = [
            ("unique", field.unique),
            ("search", field.search),
            ("sort", field.sort),
        ];
        for (key, _) in shows.into_iter().filter(|(_, set)| *set) {
            let message = format!(
                "`{name}` is write-only: nothing is found, ordered or refused by it; leave out \
                 `{key}`"
            );
            refuse(key, "not_supported", message);
        }
        if matches!(field.kind, FieldType::Tags { .. }) || !field.kind.targets().is_empty() {
            let message = format!(
                "`{name}` is of type {}, which cannot be `write_only`",
                field.kind.name()
            );
            refuse("write_only", "not_supported", message);
        }
    }
    if field.read_only {
        if field.write_only || field.immutable {
            let message = format!("`{name}` is read-only: clients never set it; say nothing more");
            refuse("read_only", "not_supported", message);
        }
        if field.required && field.default.is_none() {
            let message = format!(
                "clients cannot give `{name}` a value: give it a default, or make it optional"
            );
            refuse("default", "required", message);
        }
    }
    if field.serial {
        let plain = FieldSpec {
            description: field.description.clone(),
            ..FieldSpec::serial(name.clone())
        };
        if *field != plain {
            let message = format!("`{name}` is serial, which goes with no other rule");
            refuse("type", "not_supported", message);
        }
    }
    if field.ignore_case && !matches!(field.kind, FieldType::Text { .. }) {
        let message = format!(
            "`{name}` is of type {}; only text can be `ignore_case`",
            field.kind.name()
        );
        refuse("ignore_case", "not_supported", message);
    }
}

/// The key of the records' paths is a number that each of them has.
pub(super) fn key(spec: &ModuleSpec, problems: &mut Problems) {
    let Some(key) = &spec.key else { return };
    let mut serials = spec.fields.iter().filter(|field| field.serial);
    if !serials.any(|field| field.name == *key) {
        let message = format!("`{key}` is no serial field of this module");
        problems.add("/key", "unknown_field", message);
    }
}

/// A state says what may be done with a record: everybody sees it.
pub(super) fn machines(spec: &ModuleSpec, problems: &mut Problems) {
    let hidden = spec.fields.iter().filter(|field| field.write_only);
    let hidden: Vec<_> = hidden.map(|field| &field.name).collect();
    for (position, machine) in spec.machines.iter().enumerate() {
        if hidden.contains(&&machine.field) {
            let message = format!("`{}` is write-only, a state is not", machine.field);
            let pointer = format!("/machines/{position}/field");
            problems.add(&pointer, "not_supported", message);
        }
    }
}
