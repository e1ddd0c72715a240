//! The paths and schemas that follow from one module's declaration.

mod bulk;
mod key;
mod merge;
mod nearest;
mod transfer;
mod trash;

use crm_core::Registry;
use crm_core::module::{
    Bounds, CompiledModule, FieldSpec, FieldType, Ident, MoneyCurrency, OnDelete,
};
use crm_core::record::{Aggregate, Function, GroupKey, Query, operators};
use serde_json::{Map, Value, json};

use super::BEARER;
use super::field::{filters, named_schema, pascal, property, reference};
use super::{figures, read, through};
use crate::modules::{BASE, has_funnel};

/// What a module adds to the document.
pub(super) struct Described {
    pub(super) paths: Map<String, Value>,
    pub(super) schemas: Map<String, Value>,
    pub(super) tag: Value,
}

/// Describes a module.
pub(super) fn describe(registry: &Registry, module: &CompiledModule) -> Described {
    let words = Words {
        plural: module.name().as_str(),
        singular: module.singular().as_str(),
    };
    let path = format!("{BASE}{}", words.plural);
    let mut described = Described {
        paths: Map::from_iter([
            (
                path.clone(),
                json!({"get": list(registry, &words, module), "post": create(&words)}),
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
                json!({"get": aggregate(registry, &words, module)}),
            ),
            (
                format!("{path}/{{id}}"),
                json!({
                    "get": get(registry, &words, module),
                    "patch": update(&words, "update"),
                    "put": update(&words, "replace"),
                    "delete": delete(&words),
                }),
            ),
        ]),
        schemas: schemas(registry, &words, module),
        tag: json!({"name": words.plural, "description": module.spec().description}),
    };
    described
        .paths
        .extend(transfer::paths(registry, &words, module));
    described.paths.extend(bulk::paths(&words));
    described.paths.extend(merge::paths(&words, module));
    described.paths.extend(nearest::paths(&words, module));
    if has_funnel(module) {
        let funnel = json!({"get": funnel(registry, &words, module)});
        described.paths.insert(format!("{path}/funnel"), funnel);
        let schema = format!("{}Funnel", words.record());
        described.schemas.insert(schema, figures::funnel_schema());
    }
    described
        .paths
        .extend(trash::paths(registry, &words, module));
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

fn list(registry: &Registry, words: &Words<'_>, module: &CompiledModule) -> Value {
    let id = format!("list_{}", words.plural);
    let notes = "Conditions are joined by and; texts are searched as substrings. \
        Pages follow each other by `cursor`. ";
    let notes = &format!("{notes}{}", through::words(registry, module));
    let mut operation = words.operation("read", id, format!("List {}", words.plural), notes);
    operation["parameters"] = Value::Array(list_parameters(registry, words, module));
    operation["responses"] = json!({
        "200": answer("A page of records.", &format!("{}List", words.record())),
    });
    operation
}

fn list_parameters(registry: &Registry, words: &Words<'_>, module: &CompiledModule) -> Vec<Value> {
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
    parameters.extend(super::page::parameters());
    parameters.extend(read::view_parameters(registry, module));
    for field in system_fields().iter().chain(module.readable()) {
        parameters.extend(filters(words.singular, field, operators(&field.kind)));
    }
    parameters.extend(through::parameters(registry, module));
    parameters
}

fn aggregate(registry: &Registry, words: &Words<'_>, module: &CompiledModule) -> Value {
    let id = format!("aggregate_{}", words.plural);
    let notes = "Counts, exact sums and averages (as text), extremes, by group, of the records that \
        a list with the same conditions shows; the parts of the calendar are those of UTC. ";
    let beside = |field: &FieldSpec| {
        let FieldType::Money { currency, .. } = &field.kind else {
            return false;
        };
        matches!(currency, MoneyCurrency::Field(_))
    };
    let currencies = match module.fields().iter().any(beside) {
        true => "Figures about amounts are of one currency: group by it, or filter by one. ",
        false => "",
    };
    let notes = &format!("{notes}{currencies}{}", through::words(registry, module));
    let summary = format!("Figures about {}", words.plural);
    let mut operation = words.operation("read", id, summary, notes);
    let several =
        |name: &str, required: bool, most: usize, description: &str, values: Vec<String>| {
            json!({
                "name": name, "in": "query", "required": required, "description": description,
                "style": "form", "explode": false,
                "schema": {
                    "type": "array", "minItems": 1, "maxItems": most,
                    "items": {"type": "string", "enum": values},
                },
            })
        };
    let fields = [system_fields(), module.readable().cloned().collect()].concat();
    let mut keys = Vec::new();
    let mut metrics = vec![Function::Count.to_string()];
    for FieldSpec { name, kind, .. } in &fields {
        if matches!(kind, FieldType::Instant(_) | FieldType::Date(_)) {
            keys.extend(["day", "month", "year"].map(|bucket| format!("{name}:{bucket}")));
        }
        if GroupKey::fits(kind) && !matches!(kind, FieldType::Instant(_)) {
            keys.push(name.to_string());
        }
        let fitting = Function::all().filter(|(_, function)| function.fits(kind));
        metrics.extend(fitting.map(|(word, _)| format!("{word}:{name}")));
    }
    let mut parameters = vec![
        several(
            "metrics",
            true,
            Aggregate::MAX_METRICS,
            "The figures.",
            metrics,
        ),
        several(
            "group_by",
            false,
            Aggregate::MAX_KEYS,
            "What makes a group.",
            keys,
        ),
        search_parameter(),
        figures::max_age(module),
    ];
    for field in &fields {
        parameters.extend(filters(words.singular, field, operators(&field.kind)));
    }
    parameters.extend(through::parameters(registry, module));
    operation["parameters"] = Value::Array(parameters);
    let schema = format!("{}Aggregate", words.record());
    let mut groups = answer("The groups, in the order of their keys.", &schema);
    figures::x_cache(&mut groups);
    operation["responses"] = json!({"200": groups});
    operation
}

fn funnel(registry: &Registry, words: &Words<'_>, module: &CompiledModule) -> Value {
    let id = format!("funnel_{}", words.plural);
    let notes = "How many records are in each state, how many came so far, and what share goes on; \
        of the records that a list with the same conditions shows. ";
    let notes = &format!("{notes}{}", through::words(registry, module));
    let summary = format!("The funnel of {}", words.plural);
    let mut operation = words.operation("read", id, summary, notes);
    let mut parameters = figures::funnel_parameters(module);
    parameters.push(search_parameter());
    for field in system_fields().iter().chain(module.readable()) {
        parameters.extend(filters(words.singular, field, operators(&field.kind)));
    }
    parameters.extend(through::parameters(registry, module));
    operation["parameters"] = Value::Array(parameters);
    let schema = format!("{}Funnel", words.record());
    let mut steps = answer("The steps, in the order of the field's values.", &schema);
    figures::x_cache(&mut steps);
    operation["responses"] = json!({"200": steps});
    operation
}

fn groups() -> Value {
    json!({
        "type": "object",
        "description": "Figures by group.",
        "required": ["data", "truncated"],
        "properties": {
            "data": {
                "type": "array",
                "maxItems": Aggregate::MAX_GROUPS,
                "items": {
                    "type": "object",
                    "required": ["group", "metrics"],
                    "properties": {
                        "group": {
                            "type": "object",
                            "description": "The values of the keys, named as in `group_by`.",
                            "additionalProperties": true,
                        },
                        "metrics": {
                            "type": "object",
                            "description": "The figures, named as in `metrics`.",
                            "additionalProperties": true,
                        },
                    },
                    "additionalProperties": false,
                },
            },
            "truncated": {"type": "boolean", "description": "Whether there are more groups."},
        },
        "additionalProperties": false,
    })
}

fn search_parameter() -> Value {
    json!({
        "name": "search", "in": "query", "required": false,
        "description": "Text that a searchable field must contain, in any case.",
        "schema": {"type": "string", "maxLength": 200},
    })
}

fn query(words: &Words<'_>, module: &CompiledModule) -> Value {
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
        that are sent change it. Also needs `{}.update`. ",
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
        `detail` and `errors`. Deleting needs `{0}.delete`, updating `{0}.update`. ",
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

fn get(registry: &Registry, words: &Words<'_>, module: &CompiledModule) -> Value {
    let id = format!("get_{}", words.singular);
    let mut operation = words.operation("read", id, format!("Get a {}", words.singular), "");
    let parameters = [id_parameter(), super::write::if_none_match()].into_iter();
    operation["parameters"] = parameters
        .chain(read::view_parameters(registry, module))
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
    answer["headers"] = json!({"ETag": header("The version, in quotes.")});
    answer
}

fn schemas(registry: &Registry, words: &Words<'_>, module: &CompiledModule) -> Map<String, Value> {
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
    let view = read::view_schema(registry, module, &stored);
    let trash = trash::schemas(registry, words, module, &stored);
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
            super::write::batch(module, words.singular),
        ),
        (
            format!("{record}BatchResult"),
            super::write::batch_result(reference(&record)),
        ),
        (record, whole),
    ]);
    schemas.extend(trash);
    schemas.extend(bulk::schemas(words, module));
    schemas.extend(merge::schemas(words, module));
    schemas.extend(nearest::schemas(words, module));
    schemas.extend(read::query_schemas(registry, module, &system_fields()));
    schemas.extend(
        module
            .fields()
            .iter()
            .filter_map(|field| named_schema(words.singular, field)),
    );
    super::example::add(&words.record(), module, &mut schemas);
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

fn page(record: &str) -> Value {
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
        properties.extend(super::page::answered());
    }
    page
}
