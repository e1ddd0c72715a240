//! Between the wire form of records and the typed fields of plugins.
//!
//! Out: the wire form decides which fields there are, the module what type each has; what the
//! reader may not see is not there. In: every value takes its wire form, and is judged as a body
//! sent over HTTP.

use std::collections::HashSet;

use serde::Serialize;
use serde_json::{Map, Value as Json};

use crate::error::{Error, Result};
use crate::hook::Fields;
use crate::module::stored::{stored, untyped};
use crate::module::{Bounds, CompiledModule, FieldType};

/// The fields of a record of the module, from its wire form: id, version and times first, then the
/// declared ones in their order, then the computed ones.
pub(super) fn typed(module: &CompiledModule, wire: Json) -> Fields {
    let Json::Object(wire) = wire else {
        return Vec::new();
    };
    let mut fields: Vec<_> = wire.into_iter().collect();
    fields.sort_by_cached_key(|(name, _)| place(module, name));
    let fields = fields.into_iter().map(|(name, json)| {
        let value = match kind(module, &name) {
            Some(kind) => stored(&kind, json),
            None => untyped(json),
        };
        (name, value)
    });
    fields.collect()
}

/// As [`typed`], of what has a wire form.
pub(super) fn of(module: &CompiledModule, record: &impl Serialize) -> Result<Fields> {
    let wire = serde_json::to_value(record).map_err(Error::internal)?;
    Ok(typed(module, wire))
}

/// The body that these fields stand for.
pub(super) fn body(fields: Fields) -> Result<Map<String, Json>> {
    let mut names = HashSet::with_capacity(fields.len());
    if let Some((twice, _)) = fields.iter().find(|(name, _)| !names.insert(name.as_str())) {
        return Err(Error::invalid(twice, "repeated", "Give this field once."));
    }
    let fields = fields.into_iter().map(|(name, value)| {
        let json = serde_json::to_value(value).map_err(Error::internal)?;
        Ok((name, json))
    });
    fields.collect()
}

const SYSTEM: [&str; 6] = [
    "id",
    "version",
    "owner_id",
    "created_at",
    "updated_at",
    "deleted_at",
];

fn place(module: &CompiledModule, name: &str) -> (usize, usize) {
    let system = SYSTEM.iter().position(|known| *known == name);
    match (system, module.position(name)) {
        (Some(place), _) => (0, place),
        (None, Some(place)) => (1, place),
        (None, None) => (2, 0),
    }
}

fn kind(module: &CompiledModule, name: &str) -> Option<FieldType> {
    match name {
        "id" | "owner_id" => Some(FieldType::Uuid),
        "created_at" | "updated_at" | "deleted_at" => Some(FieldType::Instant(Bounds::NONE)),
        name => module.field(name).map(|field| field.kind.clone()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::module::ModuleSpec;
    use crate::value::Value;

    #[test]
    fn the_fields_of_a_record_stand_in_order_and_keep_their_types() {
        let text = "name = 'deals'\nsingular = 'deal'\n\
                    [[fields]]\nname = 'title'\ntype = 'text'\n\
                    [[fields]]\nname = 'amount'\ntype = 'decimal'\nprecision = 9\nscale = 2\n";
        let spec = ModuleSpec::from_toml(text).unwrap();
        let module = CompiledModule::new(spec, 0).unwrap();
        let wire = json!({
            "title": null, "amount": "12.50", "version": 3, "label": "x",
            "id": "0197b3a0-0000-7000-8000-000000000000", "created_at": "2026-03-01T00:00:00Z",
        });
        let fields = typed(&module, wire);
        let names: Vec<_> = fields.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            ["id", "version", "created_at", "title", "amount", "label"]
        );
        assert!(matches!(fields[0].1, Value::Uuid(_)));
        assert!(matches!(fields[2].1, Value::Instant(_)));
        assert_eq!(fields[3].1, Value::Null);
        assert_eq!(
            serde_json::to_value(&fields[4].1).unwrap(),
            json!("12.50"),
            "exact"
        );
        let back = body(fields).unwrap();
        assert_eq!(back["amount"], json!("12.50"));
    }

    #[test]
    fn a_field_given_twice_is_refused() {
        let twice = vec![
            ("a".to_owned(), Value::Null),
            ("a".to_owned(), Value::Bool(true)),
        ];
        assert_eq!(body(twice).unwrap_err().code(), "validation_failed");
    }
}
