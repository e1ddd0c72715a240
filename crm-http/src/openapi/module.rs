//! The paths and schemas that follow from one module's declaration.

mod action;
mod aggregate;
mod bulk;
mod key;
mod list;
mod merge;
mod nearest;
mod schema;
mod transfer;
mod trash;

use crm_core::module::{Bounds, CompiledModule, FieldSpec, FieldType, Ident, OnDelete};
use serde_json::{Map, Value, json};

pub(super) use action::add as add_actions;

use self::aggregate::{aggregate, funnel};
use self::list::{list, query};
use self::schema::schemas;
use super::field::{pascal, reference};
use super::{BEARER, Modules, figures, read};
use crate::modules::{BASE, has_funnel};

/// What a module adds to the document.
pub(super) struct Described {
    pub(super) paths: Map<String, Value>,
    pub(super) schemas: Map<String, Value>,
    pub(super) tag: Value,
}

/// Describes a module.
pub(super) fn describe(modules: Modules<'_>, module: &CompiledModule) -> Described {
    let words = Words {
        plural: module.name().as_str(),
        singular: module.singular().as_str(),
    };
    let path = format!("{BASE}{}", words.plural);
    let mut described = Described {
        paths: Map::from_iter([
            (
                path.clone(),
                json!({"get": list(modules, &words, module), "post": create(&words)}),
            ),
            (
                format!("{path}/query"),
                json!({"post": query(&words, module)}),
            ),
            (
                format!("{path}/upsert"),
                json!({"post": upsert(&words, module)}),
            ),
            (format!("{path}/batch"), json!({"post": batch(&words)})),
            (
                format!("{path}/aggregate"),
                json!({"get": aggregate(modules, &words, module)}),
            ),
            (
                format!("{path}/{{id}}"),
                json!({
                    "get": get(modules, &words, module),
                    "patch": update(&words, "update"),
                    "put": update(&words, "replace"),
                    "delete": delete(&words),
                }),
            ),
        ]),
        schemas: schemas(modules, &words, module),
        tag: json!({"name": words.plural, "description": module.spec().description}),
    };
    described
        .paths
        .extend(transfer::paths(modules, &words, module));
    described
        .paths
        .extend(list::nested(modules, &words, module));
    described.paths.extend(bulk::paths(&words));
    described.paths.extend(merge::paths(&words, module));
    described.paths.extend(nearest::paths(&words, module));
    if has_funnel(module) {
        let funnel = json!({"get": funnel(modules, &words, module)});
        described.paths.insert(format!("{path}/funnel"), funnel);
        let schema = format!("{}Funnel", words.record());
        described.schemas.insert(schema, figures::funnel_schema());
    }
    described
        .paths
        .extend(trash::paths(modules, &words, module));
    trash::require_version(module, &mut described.paths);
    key::paths(module, &mut described.paths);
    described
}

/// The names of a module, from which those of its operations and schemas follow.
struct Words<'a> {
    plural: &'a str,
    singular: &'a str,
}

impl Words<'_> {
    fn record(&self) -> String {
        pascal(self.singular)
    }

    fn operation(&self, verb: &str, id: String, summary: String, words: &str) -> Value {
        let permission = format!("{}.{verb}", self.plural);
        json!({
            "operationId": id,
            "tags": [self.plural],
            "summary": summary,
            "description": format!("{words}Permission: `{permission}`."),
            "x-permission": permission,
            "security": [{BEARER: []}],
        })
    }
}

/// The library's own columns as far as lists filter by them.
pub(super) fn system_fields() -> Vec<FieldSpec> {
    let field = |name: &str, kind: FieldType| {
        let name = Ident::try_from(name.to_owned()).ok()?;
        Some(FieldSpec {
            required: true,
            ..FieldSpec::new(name, kind)
        })
    };
    let reference = || {
        Some(FieldType::Reference {
            module: Ident::try_from("users".to_owned()).ok()?,
            on_delete: OnDelete::default(),
        })
    };
    let fields = [
        reference().and_then(|kind| field("id", kind)),
        reference().and_then(|kind| field("owner_id", kind)),
        field("created_at", FieldType::Instant(Bounds::NONE)),
        field("updated_at", FieldType::Instant(Bounds::NONE)),
    ];
    fields.into_iter().flatten().collect()
}

fn create(words: &Words<'_>) -> Value {
    let id = format!("create_{}", words.singular);
    let summary = format!("Create a {}", words.singular);
    let mut operation = words.operation("create", id, summary, "");
    operation["parameters"] = json!([super::write::idempotency_key()]);
    operation["requestBody"] = body(&format!("{}Create", words.record()));
    let mut created = answer("The new record.", &words.record());
    created["headers"] = json!({
        "ETag": header("The version, in quotes."),
        "Location": header("Where the record is."),
    });
    operation["responses"] = json!({"201": created});
    super::write::replayed(&mut operation);
    operation
}

fn upsert(words: &Words<'_>, module: &CompiledModule) -> Value {
    let id = format!("upsert_{}", words.singular);
    let summary = format!("Create a {}, or update the known one", words.singular);
    let notes = format!(
        "The body is that of a create. Where a record with its value of `by` exists, the fields \
        that are sent change it, by the rules of an update. Also needs `{}.update`. ",
        words.plural
    );
    let mut operation = words.operation("create", id, summary, &notes);
    operation["parameters"] = json!([super::write::by(module), super::write::idempotency_key()]);
    operation["requestBody"] = body(&format!("{}Create", words.record()));
    let mut created = versioned("The new record.", &words.record());
    created["headers"]["Location"] = header("Where the record is.");
    operation["responses"] = json!({
        "200": versioned("The known record as it is now.", &words.record()),
        "201": created,
    });
    super::write::replayed(&mut operation);
    operation
}

fn batch(words: &Words<'_>) -> Value {
    let id = format!("batch_{}", words.plural);
    let summary = format!("Write several {}", words.plural);
    let notes = format!(
        "Each operation needs its own permission; whoever has none of them is refused. An atomic \
        batch that fails writes nothing and names its first failing operation, counted from 0, in \
        `detail` and `errors`. Also needs `{0}.update` when an operation updates or upserts. Also needs \
        `{0}.delete` when an operation deletes. ",
        words.plural
    );
    let mut operation = words.operation("create", id, summary, &notes);
    operation["parameters"] = json!([super::write::idempotency_key()]);
    operation["requestBody"] = body(&format!("{}Batch", words.record()));
    let name = format!("{}BatchResult", words.record());
    operation["responses"] = json!({
        "200": answer("What became of each operation, in their order.", &name),
        "404": super::error::response("An operation names a record that the caller cannot see."),
        "412": super::error::response("A record has another version than an operation says."),
    });
    super::write::replayed(&mut operation);
    operation
}

fn get(modules: Modules<'_>, words: &Words<'_>, module: &CompiledModule) -> Value {
    let id = format!("get_{}", words.singular);
    let mut operation = words.operation("read", id, format!("Get a {}", words.singular), "");
    let parameters = [id_parameter(), super::write::if_none_match()].into_iter();
    operation["parameters"] = parameters
        .chain(read::view_parameters(modules, module))
        .collect();
    let view = read::view_name(words.singular);
    operation["responses"] = json!({
        "200": versioned("The record.", &view),
        "304": super::write::unchanged(),
    });
    operation
}

fn update(words: &Words<'_>, verb: &str) -> Value {
    let id = format!("{verb}_{}", words.singular);
    let summary = match verb {
        "replace" => format!("Update a {} (same as PATCH)", words.singular),
        _ => format!("Update a {}", words.singular),
    };
    let notes = "Absent fields stay; null clears a field that may be null. ";
    let mut operation = words.operation("update", id, summary, notes);
    operation["parameters"] = json!([id_parameter(), if_match(), super::write::idempotency_key()]);
    operation["requestBody"] = body(&format!("{}Update", words.record()));
    operation["responses"] = json!({"200": versioned("The record as it is now.", &words.record())});
    super::write::replayed(&mut operation);
    operation
}

const DELETE: &str = "Records that refer to this one go too, or lose the reference, as their fields \
    say. Refused as `has_dependents` while others refer to it that stay, and as \
    `too_many_dependents` where more than 10,000 would follow. ";

fn delete(words: &Words<'_>) -> Value {
    let id = format!("delete_{}", words.singular);
    let mut operation =
        words.operation("delete", id, format!("Delete a {}", words.singular), DELETE);
    operation["parameters"] = json!([id_parameter(), if_match(), super::write::idempotency_key()]);
    operation["responses"] = json!({"204": {"description": "It is gone."}});
    super::write::replayed(&mut operation);
    operation
}

fn id_parameter() -> Value {
    json!({
        "name": "id", "in": "path", "required": true,
        "description": "The record's id.", "schema": {"type": "string", "format": "uuid"},
    })
}

fn if_match() -> Value {
    json!({
        "name": "If-Match", "in": "header", "required": false,
        "description": "The versions that the change is meant for, as their `ETag` in its quotes, with \
            commas between them; any of them will do. `*` is any version.",
        "schema": {"type": "string", "pattern": "^([*]|(W/)?\"[!#-+\\--~]*\"( *, *(W/)?\"[!#-+\\--~]*\")*)$"},
        "example": "\"3\"",
    })
}

fn header(description: &str) -> Value {
    json!({"description": description, "schema": {"type": "string"}})
}

fn body(schema: &str) -> Value {
    json!({"required": true, "content": {"application/json": {"schema": reference(schema)}}})
}

fn answer(description: &str, schema: &str) -> Value {
    json!({"description": description, "content": {"application/json": {"schema": reference(schema)}}})
}

fn versioned(description: &str, schema: &str) -> Value {
    let mut answer = answer(description, schema);
    let tag = "The version, in quotes; that of a read says after it what was shown.";
    answer["headers"] = json!({"ETag": header(tag)});
    answer
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use crm_core::module::{QUERY_WORDS, default_modules};

    use super::*;

    /// The names of an operation's parameters in the query string.
    fn names(operation: &Value) -> Vec<&str> {
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let of_query = parameters.filter(|parameter| parameter["in"] == "query");
        let names = of_query.filter_map(|parameter| parameter["name"].as_str());
        names.collect()
    }

    #[test]
    fn no_field_is_called_as_a_parameter_that_stands_beside_conditions() {
        let modules = default_modules().into_iter();
        let modules: Vec<_> = modules
            .map(|spec| CompiledModule::new(spec, 0).unwrap())
            .collect();
        let modules: Vec<_> = modules.iter().collect();
        let is_field = |name: &str| {
            let name = name.split(['[', '.']).next().unwrap_or_default();
            let is_declared = modules.iter().any(|module| module.field(name).is_some());
            is_declared || system_fields().iter().any(|field| field.name == *name)
        };
        let mut seen = HashSet::new();
        for module in &modules {
            for (path, item) in describe(Modules(&modules), module).paths {
                for (method, operation) in item.as_object().unwrap() {
                    let names = names(operation);
                    let distinct: HashSet<_> = names.iter().collect();
                    assert_eq!(distinct.len(), names.len(), "{method} {path}");
                    if names.iter().any(|name| is_field(name)) {
                        let words = names.into_iter().filter(|name| !is_field(name));
                        seen.extend(words.map(str::to_owned));
                    }
                }
            }
        }
        assert!(seen.contains("group_by") && seen.contains("format") && seen.contains("sum"));
        let free: Vec<_> = seen
            .iter()
            .filter(|word| !QUERY_WORDS.contains(&word.as_str()))
            .collect();
        assert!(free.is_empty(), "{free:?}");
    }
}
