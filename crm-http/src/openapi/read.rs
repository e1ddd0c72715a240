//! How reading is described: what is shown of a record, and the body of a query.

use std::collections::HashSet;

use crm_core::module::{CompiledModule, FieldSpec, FieldType};
use crm_core::record::{
    MAX_CONDITIONS, MAX_EXPAND, MAX_EXPAND_DEPTH, MAX_THROUGH, Query, Sort, expanded_name,
};
use serde_json::{Map, Value, json};

use super::Modules;
use super::field::{operand_of, operators_of, pascal, reference};

/// Most values of a list that a field is compared with.
const MAX_LIST: usize = 100;

/// The parameters that say what is shown, of a get and of a list.
pub(super) fn view_parameters(modules: Modules<'_>, module: &CompiledModule) -> Vec<Value> {
    let parameter = |name: &str, description: &str, mut schema: Value| {
        schema["minItems"] = json!(1);
        json!({
            "name": name, "in": "query", "required": false,
            "description": description, "style": "form", "explode": false, "schema": schema,
        })
    };
    let mut parameters = vec![parameter(
        "fields",
        "The fields to show, separated by commas; `id` and `version` are always shown.",
        names(shown(module), None),
    )];
    let paths = expandable(modules, module);
    if !paths.is_empty() {
        parameters.push(parameter("expand", EXPAND, expand_schema(paths)));
    }
    parameters
}

const EXPAND: &str = "References whose records to show as well, separated by commas; \
    after a dot, those of the record there, up to three levels. The record stands under the \
    reference's name without `_id` (`company_id` brings `company`), or with `_expanded` behind it \
    where that is no name or another field's. A record that the caller may not see \
    shows as null, and not in a list.";

/// Most paths that are named one by one.
const MAX_PATHS: usize = 200;

/// The order of a list as a query parameter: up to three keys.
pub(super) fn sort_parameter(module: &CompiledModule) -> Value {
    let mut schema = names(orders(module), Some(Sort::MAX_KEYS));
    schema["minItems"] = json!(1);
    json!({
        "name": "sort", "in": "query", "required": false, "style": "form", "explode": false,
        "description": "The order: up to three fields, separated by commas; a minus turns one \
            round. Records without a value come last, ids break ties; `created_at` orders as `id` does. Newest first when left out.",
        "schema": schema,
    })
}

/// How many matches are counted.
pub(super) fn count_schema() -> Value {
    json!({"type": "string", "enum": ["true", "false", "exact"], "default": "false"})
}

fn names(names: Vec<String>, most: Option<usize>) -> Value {
    let mut schema = json!({"type": "array", "items": {"type": "string", "enum": names}});
    if let Some(most) = most {
        schema["maxItems"] = json!(most);
    }
    schema
}

fn orders(module: &CompiledModule) -> Vec<String> {
    let sortable = module
        .sortable()
        .iter()
        .map(|&at| module.fields()[at].name.as_str());
    let names = sortable.chain(["id", "created_at", "updated_at"]);
    names
        .flat_map(|name| [name.to_owned(), format!("-{name}")])
        .collect()
}

fn shown(module: &CompiledModule) -> Vec<String> {
    let system = ["id", "version", "owner_id", "created_at", "updated_at"];
    let declared = module.readable().chain(module.computed());
    let declared = declared.map(|field| field.name.as_str());
    system
        .into_iter()
        .chain(declared)
        .map(str::to_owned)
        .collect()
}

/// The references of a module.
fn references(module: &CompiledModule) -> impl Iterator<Item = &FieldSpec> {
    let fields = module.fields().iter();
    fields.filter(|field| field.kind.is_reference())
}

/// What can be expanded: references, and those of the records there.
fn expandable(modules: Modules<'_>, module: &CompiledModule) -> Vec<String> {
    let (mut paths, mut seen) = (Vec::new(), HashSet::new());
    let mut level = vec![(String::new(), module)];
    for _ in 0..MAX_EXPAND_DEPTH {
        let mut next = Vec::new();
        // Too many to name them, and so many more a level further.
        if paths.len() > MAX_PATHS {
            break;
        }
        for (before, module) in level {
            for field in references(module) {
                let path = format!("{before}{}", field.name);
                let targets = field.kind.targets().iter();
                let targets = targets.filter_map(|name| modules.get(name.as_str()));
                next.extend(targets.map(|target| (format!("{path}."), target)));
                if seen.insert(path.clone()) {
                    paths.push(path);
                }
            }
        }
        level = next;
    }
    paths
}

/// The schema of a list of paths: each by name, unless there are too many to name.
fn expand_schema(paths: Vec<String>) -> Value {
    if paths.len() <= MAX_PATHS {
        return names(paths, Some(MAX_EXPAND));
    }
    let mut schema = names(Vec::new(), Some(MAX_EXPAND));
    schema["items"] = json!({"type": "string", "pattern": "^[a-z0-9_]+([.][a-z0-9_]+){0,2}$"});
    schema
}

/// A record as `fields` and `expand` shape it; `stored` are the properties of the whole one.
pub(super) fn view_schema(
    modules: Modules<'_>,
    module: &CompiledModule,
    stored: &Map<String, Value>,
) -> Value {
    let mut properties = stored.clone();
    for field in references(module) {
        let targets = field.kind.targets().iter();
        let targets = targets.filter_map(|name| modules.get(name.as_str()));
        let views: Vec<Value> = targets
            .map(|target| reference(&view_name(target.singular().as_str())))
            .collect();
        let words = format!(
            "The record of `{0}`, where `expand={0}` asks for it.",
            field.name
        );
        let schema = match (&field.kind, views.as_slice()) {
            (_, []) => continue,
            (FieldType::References { .. }, [view, ..]) => json!({
                "type": "array", "items": view, "readOnly": true,
                "description": format!("The records of `{}`, where they are expanded: those that the caller may see.", field.name),
            }),
            (_, [view]) => {
                json!({"allOf": [view], "nullable": true, "readOnly": true, "description": words})
            }
            (_, views) => {
                json!({"anyOf": views, "nullable": true, "readOnly": true, "description": words})
            }
        };
        properties.insert(expanded_name(module, field), schema);
    }
    json!({
        "type": "object",
        "description": format!(
            "{} All fields, or those that `fields` names; references that `expand` names.",
            module.spec().description,
        ),
        "required": ["id", "version"],
        "properties": properties,
        "additionalProperties": false,
    })
}

pub(super) fn view_name(singular: &str) -> String {
    format!("{}View", pascal(singular))
}

pub(super) fn query_name(singular: &str) -> String {
    format!("{}Query", pascal(singular))
}

/// What the search text of a list or a query means.
pub(super) const SEARCH: &str = "Up to sixteen words between white space. A record is found when it \
    holds each of them as a part of one of its searchable fields, not necessarily the same one; words \
    in double quotes are one phrase. ASCII letters are found in either case, others as they were \
    written; `%` and `_` stand for themselves.";

fn filter_name(singular: &str) -> String {
    format!("{}Filter", pascal(singular))
}

/// The schemas of a query's body.
pub(super) fn query_schemas(
    modules: Modules<'_>,
    module: &CompiledModule,
    system: &[FieldSpec],
) -> Vec<(String, Value)> {
    let singular = module.singular().as_str();
    let filter = filter_name(singular);
    let mut members = json!({
        "filter": {"allOf": [reference(&filter)]},
        "search": {"type": "string", "maxLength": 200,
            "description": SEARCH},
        "sort": names(orders(module), Some(Sort::MAX_KEYS)),
        "limit": {"type": "integer", "format": "int32",
            "minimum": 1, "maximum": Query::MAX_LIMIT, "default": Query::DEFAULT_LIMIT},
        "cursor": {"type": "string", "nullable": true,
            "description": "The `next_cursor` of the page before, for the same query."},
        "count": {
            "oneOf": [{"type": "boolean"}, {"type": "string", "enum": ["exact"]}],
            "default": false,
            "description": "Whether to count all matches: up to a cap, or exactly.",
        },
        "fields": names(shown(module), None),
    });
    if let Some(members) = members.as_object_mut() {
        members.extend(super::page::members());
    }
    let paths = expandable(modules, module);
    if !paths.is_empty() {
        members["expand"] = expand_schema(paths);
        members["expand"]["description"] = json!(EXPAND);
    }
    let query = json!({
        "type": "object",
        "description": "Which records, in which order, and what of them is shown.",
        "properties": members,
        "additionalProperties": false,
    });
    vec![
        (query_name(singular), query),
        (filter, filter_schema(modules, module, system)),
    ]
}

fn filter_schema(modules: Modules<'_>, module: &CompiledModule, system: &[FieldSpec]) -> Value {
    let singular = module.singular().as_str();
    let itself = || reference(&filter_name(singular));
    let list = |words: &str| json!({"type": "array", "maxItems": MAX_CONDITIONS, "items": itself(), "description": words});
    let mut properties = Map::from_iter([
        ("and".to_owned(), list("All of these hold.")),
        ("or".to_owned(), list("One of these holds.")),
        (
            "not".to_owned(),
            json!({"allOf": [itself()], "description": "This does not hold."}),
        ),
    ]);
    for field in system.iter().chain(module.comparable()) {
        properties.insert(field.name.to_string(), condition(singular, field));
    }
    properties.extend(super::through::members(modules, module));
    json!({
        "type": "object",
        "description": format!(
            "A condition; members are joined by and. At most {} levels of `and`, `or` and `not`, \
             {MAX_CONDITIONS} conditions, {MAX_THROUGH} of them on the records behind references, and \
             as many `and`, `or` and `not`; of a list of references, any one meets all operators of \
             a member.",
            crm_core::record::MAX_DEPTH,
        ),
        "properties": properties,
        "additionalProperties": false,
    })
}

/// A field's value, which it equals, or an object of operators, which all hold.
pub(super) fn condition(singular: &str, field: &FieldSpec) -> Value {
    let mut members = Map::new();
    for op in operators_of(field) {
        let operand = operand_of(singular, field, op);
        let list = |items: Value| json!({"type": "array", "maxItems": MAX_LIST, "items": items});
        let text = json!({"type": "string"});
        let entry = || operand.clone();
        let schema = match op {
            "in" | "nin" => list(operand.clone()),
            "has_any" | "has_all" => list(entry()),
            "has" => entry(),
            "contains" | "starts" => text,
            "is_null" => json!({"type": "boolean"}),
            "eq" | "ne" => nullable(operand.clone()),
            _ => operand.clone(),
        };
        members.insert(op.to_owned(), schema);
    }
    let equals = members.get("eq").cloned();
    let compares = json!({
        "type": "object", "minProperties": 1,
        "properties": members, "additionalProperties": false,
    });
    match equals {
        Some(equals) => json!({"oneOf": [equals, compares]}),
        None => compares,
    }
}

fn nullable(mut schema: Value) -> Value {
    if schema.get("$ref").is_some() {
        schema = json!({"allOf": [schema]});
    }
    schema["nullable"] = json!(true);
    schema
}

/// A query that shows what the module's own fields can be asked.
pub(super) fn query_example(module: &CompiledModule) -> Value {
    let named = |wanted: fn(&FieldType) -> bool| {
        let mut fields = module.readable();
        fields
            .find(|field| wanted(&field.kind))
            .map(|field| &field.name)
    };
    let mut conditions = Vec::new();
    if let Some(text) = named(|kind| matches!(kind, FieldType::Text { .. })) {
        conditions.push(json!({text.as_str(): {"contains": "Row"}}));
    }
    if let Some(tags) = named(|kind| matches!(kind, FieldType::Tags { .. })) {
        conditions.push(json!({tags.as_str(): {"has": "odd"}}));
    }
    if conditions.is_empty() {
        conditions.push(json!({"created_at": {"gte": "2026-01-31T09:30:00Z"}}));
    }
    let first = module.sortable().first();
    let sort = first.map_or("id", |&at| module.fields()[at].name.as_str());
    let mut example = json!({
        "filter": {"and": conditions},
        "sort": [sort, "-updated_at"],
        "limit": 10,
        "count": true,
    });
    if let Some(first) = references(module).next() {
        example["expand"] = json!([first.name.as_str()]);
    }
    example
}
