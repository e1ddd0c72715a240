//! The schemas of a module's records and of what is sent about them.

use crm_core::module::CompiledModule;
use serde_json::{Map, Value, json};

use super::super::field::{named_schema, property, reference};
use super::super::{example, read, write};
use super::aggregate::groups;
use super::list::page;
use super::{Words, bulk, merge, nearest, system_fields, trash};
use crate::openapi::Modules;

pub(super) fn schemas(
    modules: Modules<'_>,
    words: &Words<'_>,
    module: &CompiledModule,
) -> Map<String, Value> {
    let record = words.record();
    let mut declared: Map<String, Value> = module
        .fields()
        .iter()
        .map(|field| (field.name.to_string(), property(words.singular, field)))
        .collect();

    for machine in &module.spec().machines {
        if let Some(property) = declared.get_mut(machine.field.as_str()) {
            let words = property["description"].as_str().unwrap_or_default();
            property["description"] = json!(format!("{words} {}", machine.words()).trim());
        }
    }

    let mut stored = system_properties();
    let shown = module.readable().map(|field| field.name.as_str());
    stored.extend(pick(&declared, shown));
    stored.extend(module.computed().map(|field| {
        let mut property = property(words.singular, field);
        if let Some(property) = property.as_object_mut() {
            property.remove("maxLength");
        }
        (field.name.to_string(), property)
    }));
    for (position, field) in module.fields().iter().enumerate() {
        if let Some(property) = stored.get_mut(field.name.as_str())
            && !module.is_always_present(position)
        {
            property["nullable"] = json!(true);
        }
    }
    let view = read::view_schema(modules, module, &stored);
    let trash = trash::schemas(modules, words, module, &stored);
    let words_of = module.spec().description.trim();
    let whole = json!({
        "type": "object",
        "description": format!(
            "{words_of} What the caller's roles do not let them read is absent."
        ).trim(),
        // Roles may be limited to some fields.
        "required": ["id", "version"], "properties": stored, "additionalProperties": false,
    });

    let input = |required: Vec<&str>, keep_defaults: bool| {
        let settable = module.writable().map(|field| field.name.as_str());
        let mut properties = pick(&declared, settable);
        for field in module.fields().iter().filter(|_| keep_defaults) {
            if let (Some(default), Some(property)) =
                (&field.default, properties.get_mut(field.name.as_str()))
            {
                property["default"] = default.clone();
            }
        }
        properties.insert("owner_id".into(), owner());
        let mut schema =
            json!({"type": "object", "properties": properties, "additionalProperties": false});
        if !required.is_empty() {
            schema["required"] = json!(required);
        }
        schema
    };
    let needed = module.writable().filter(|field| field.required_on_create());
    let needed = needed.map(|field| field.name.as_str()).collect();

    let mut schemas = Map::from_iter([
        (format!("{record}Create"), input(needed, true)),
        (format!("{record}Update"), input(Vec::new(), false)),
        (
            format!("{record}List"),
            page(&read::view_name(words.singular)),
        ),
        (read::view_name(words.singular), view),
        (format!("{record}Aggregate"), groups()),
        (
            format!("{record}Batch"),
            write::batch(module, words.singular),
        ),
        (
            format!("{record}BatchResult"),
            write::batch_result(reference(&record)),
        ),
        (record, whole),
    ]);
    schemas.extend(trash);
    schemas.extend(bulk::schemas(words, module));
    schemas.extend(merge::schemas(words, module));
    schemas.extend(nearest::schemas(words, module));
    schemas.extend(read::query_schemas(modules, module, &system_fields()));
    schemas.extend(
        module
            .fields()
            .iter()
            .filter_map(|field| named_schema(words.singular, field)),
    );
    example::add(&words.record(), module, &mut schemas);
    schemas
}

/// The properties of these names.
fn pick<'n>(
    properties: &Map<String, Value>,
    names: impl Iterator<Item = &'n str>,
) -> Map<String, Value> {
    let found = names.filter_map(|name| Some((name.to_owned(), properties.get(name)?.clone())));
    found.collect()
}

fn system_properties() -> Map<String, Value> {
    let instant = |words: &str| json!({"type": "string", "format": "date-time", "readOnly": true, "description": words});
    Map::from_iter([
        (
            "id".to_owned(),
            json!({"type": "string", "format": "uuid", "readOnly": true}),
        ),
        (
            "version".to_owned(),
            json!({"type": "integer", "format": "int64", "readOnly": true,
                "description": "Counted up by every change, from 1."}),
        ),
        ("owner_id".to_owned(), owner()),
        ("created_at".to_owned(), instant("When it was made.")),
        ("updated_at".to_owned(), instant("When it last changed.")),
    ])
}

fn owner() -> Value {
    json!({
        "type": "string", "format": "uuid", "nullable": true,
        "description": "The user whose record it is; whoever creates it, when left out.",
    })
}
