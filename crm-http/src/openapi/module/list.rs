//! The operations that answer pages of records.

use crm_core::module::CompiledModule;
use crm_core::record::Query;
use serde_json::{Map, Value, json};

use super::super::field::{filters, operators_of, reference};
use super::super::{page as numbered, read, through};
use super::{Words, answer, body, id_parameter, system_fields};
use crate::modules::{BASE, Children};
use crate::openapi::Modules;

pub(super) fn list(modules: Modules<'_>, words: &Words<'_>, module: &CompiledModule) -> Value {
    let id = format!("list_{}", words.plural);
    let notes = "Conditions are joined by and; words are searched as parts of texts. \
        Pages follow each other by `cursor`. ";
    let notes = &format!("{notes}{}", through::words(modules, module));
    let mut operation = words.operation("read", id, format!("List {}", words.plural), notes);
    operation["parameters"] = Value::Array(list_parameters(modules, words, module));
    operation["responses"] = json!({
        "200": answer("A page of records.", &format!("{}List", words.record())),
    });
    operation
}

/// The lists of what refers to a record of `parent`.
pub(super) fn nested(
    modules: Modules<'_>,
    words: &Words<'_>,
    parent: &CompiledModule,
) -> Map<String, Value> {
    let mut paths = Map::new();
    for module in modules.0 {
        for children in Children::of(parent, module) {
            let path = format!("{BASE}{}/{{id}}/{}", words.plural, children.segment());
            let get = list_of(modules, words, module, &children);
            paths.insert(path, json!({"get": get}));
        }
    }
    paths
}

fn list_of(
    modules: Modules<'_>,
    parent: &Words<'_>,
    module: &CompiledModule,
    children: &Children,
) -> Value {
    let words = Words {
        plural: module.name().as_str(),
        singular: module.singular().as_str(),
    };
    let mut id = format!("list_{}_of_{}", words.plural, parent.singular);
    if children.one_of_several {
        id.push_str(&format!("_by_{}", children.field));
    }
    let also = match parent.plural == words.plural {
        true => String::new(),
        false => format!("Also needs `{}.read`. ", parent.plural),
    };
    let notes = format!(
        "The list of {} whose `{}` refers to the {}, with the parameters of the list. {also}",
        words.plural, children.field, parent.singular,
    );
    let summary = format!("List {} of a {}", words.plural, parent.singular);
    let mut operation = words.operation("read", id, summary, &notes);
    let mut parameters = vec![id_parameter()];
    parameters.extend(list_parameters(modules, &words, module));
    operation["parameters"] = Value::Array(parameters);
    operation["responses"] = json!({
        "200": answer("A page of records.", &format!("{}List", words.record())),
    });
    operation
}

pub(super) fn list_parameters(
    modules: Modules<'_>,
    words: &Words<'_>,
    module: &CompiledModule,
) -> Vec<Value> {
    let query = |name: &str, description: &str, schema: Value| json!({"name": name, "in": "query", "required": false, "description": description, "schema": schema});
    let limit = json!({
        "type": "integer", "format": "int32",
        "minimum": 1, "maximum": Query::MAX_LIMIT, "default": Query::DEFAULT_LIMIT,
    });
    let mut parameters = vec![
        query("limit", "Most records of the page.", limit),
        query(
            "cursor",
            "The `next_cursor` of the page before.",
            json!({"type": "string"}),
        ),
        read::sort_parameter(module),
        search_parameter(),
        query(
            "count",
            "Whether to count all matches: up to a cap (`true`), or exactly.",
            read::count_schema(),
        ),
    ];
    parameters.extend(numbered::parameters());
    parameters.extend(read::view_parameters(modules, module));
    for field in system_fields().iter().chain(module.comparable()) {
        parameters.extend(filters(words.singular, field, operators_of(field)));
    }
    parameters.extend(through::parameters(modules, module));
    parameters
}

pub(super) fn search_parameter() -> Value {
    json!({
        "name": "search", "in": "query", "required": false,
        "description": read::SEARCH,
        "schema": {"type": "string", "maxLength": 200},
    })
}

pub(super) fn query(words: &Words<'_>, module: &CompiledModule) -> Value {
    let id = format!("query_{}", words.plural);
    let notes = "Like the list, with conditions nested by `and`, `or` and `not`. ";
    let mut operation = words.operation("read", id, format!("Query {}", words.plural), notes);
    operation["requestBody"] = body(&read::query_name(words.singular));
    operation["requestBody"]["content"]["application/json"]["example"] =
        read::query_example(module);
    operation["responses"] = json!({
        "200": answer("A page of records.", &format!("{}List", words.record())),
    });
    operation
}

pub(super) fn page(record: &str) -> Value {
    let mut page = json!({
        "type": "object",
        "description": "A page of records.",
        "required": ["data", "next_cursor"],
        "properties": {
            "data": {"type": "array", "items": reference(record)},
            "next_cursor": {
                "type": "string", "nullable": true,
                "description": "The `cursor` of the next page; null at the end.",
            },
            "total": {
                "type": "object",
                "description": "All matches; present where they are counted.",
                "required": ["count", "capped"],
                "properties": {
                    "count": {"type": "integer", "format": "int64"},
                    "capped": {
                        "type": "boolean",
                        "description": "Whether counting stopped at the cap and there are more.",
                    },
                },
                "additionalProperties": false,
            },
        },
        "additionalProperties": false,
    });
    if let Some(properties) = page["properties"].as_object_mut() {
        properties.extend(numbered::answered());
    }
    page
}
