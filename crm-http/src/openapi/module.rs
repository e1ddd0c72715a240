//! The paths and schemas that follow from one module's declaration.

mod transfer;

use crm_core::module::{CompiledModule, FieldSpec, FieldType, Ident};
use crm_core::record::{Query, operators};
use serde_json::{Map, Value, json};

use super::BEARER;
use super::field::{filters, named_schema, pascal, property, reference};
use crate::modules::BASE;

/// What a module adds to the document.
pub(super) struct Described {
    pub(super) paths: Map<String, Value>,
    pub(super) schemas: Map<String, Value>,
    pub(super) tag: Value,
}

/// Describes a module.
pub(super) fn describe(module: &CompiledModule) -> Described {
    let words = Words {
        plural: module.name().as_str(),
        singular: module.singular().as_str(),
    };
    let path = format!("{BASE}{}", words.plural);
    let mut described = Described {
        paths: Map::from_iter([
            (
                path.clone(),
                json!({"get": list(&words, module), "post": create(&words)}),
            ),
            (
                format!("{path}/{{id}}"),
                json!({
                    "get": get(&words),
                    "patch": update(&words, "update"),
                    "put": update(&words, "replace"),
                    "delete": delete(&words),
                }),
            ),
        ]),
        schemas: schemas(&words, module),
        tag: json!({"name": words.plural, "description": module.spec().description}),
    };
    described.paths.extend(transfer::paths(&words, module));
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

fn list(words: &Words<'_>, module: &CompiledModule) -> Value {
    let id = format!("list_{}", words.plural);
    let notes = "Conditions are joined by and; texts are searched as substrings. \
        Pages follow each other by `cursor`. ";
    let mut operation = words.operation("read", id, format!("List {}", words.plural), notes);
    operation["parameters"] = Value::Array(list_parameters(words, module));
    operation["responses"] = json!({
        "200": answer("A page of records.", &format!("{}List", words.record())),
    });
    operation
}

fn list_parameters(words: &Words<'_>, module: &CompiledModule) -> Vec<Value> {
    let mut orders = Vec::new();
    let sortable = module
        .sortable()
        .iter()
        .map(|&at| module.fields()[at].name.as_str());
    for name in sortable.chain(["id", "created_at", "updated_at"]) {
        orders.extend([name.to_owned(), format!("-{name}")]);
    }
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
        query(
            "sort",
            "The order; a minus turns it round. Newest first when left out.",
            json!({"type": "string", "enum": orders}),
        ),
        query(
            "search",
            "Text that a searchable field must contain, in any case.",
            json!({"type": "string", "maxLength": 200}),
        ),
        query(
            "count",
            "Whether to count all matches, up to a cap.",
            json!({"type": "boolean", "default": false}),
        ),
    ];
    for field in system_fields().iter().chain(module.fields()) {
        parameters.extend(filters(words.singular, field, operators(&field.kind)));
    }
    parameters
}

/// The library's own columns as far as lists filter by them.
fn system_fields() -> Vec<FieldSpec> {
    let field = |name: &str, kind: FieldType| {
        let name = Ident::try_from(name.to_owned()).ok()?;
        Some(FieldSpec {
            name,
            kind,
            required: true,
            unique: false,
            search: false,
            sort: false,
            default: None,
            description: String::new(),
        })
    };
    let reference = || {
        Some(FieldType::Reference {
            module: Ident::try_from("users".to_owned()).ok()?,
        })
    };
    let fields = [
        reference().and_then(|kind| field("id", kind)),
        reference().and_then(|kind| field("owner_id", kind)),
        field("created_at", FieldType::Instant),
        field("updated_at", FieldType::Instant),
    ];
    fields.into_iter().flatten().collect()
}

fn create(words: &Words<'_>) -> Value {
    let id = format!("create_{}", words.singular);
    let summary = format!("Create a {}", words.singular);
    let mut operation = words.operation("create", id, summary, "");
    operation["requestBody"] = body(&format!("{}Create", words.record()));
    let mut created = answer("The new record.", &words.record());
    created["headers"] = json!({
        "ETag": header("The version, in quotes."),
        "Location": header("Where the record is."),
    });
    operation["responses"] = json!({"201": created});
    operation
}

fn get(words: &Words<'_>) -> Value {
    let id = format!("get_{}", words.singular);
    let mut operation = words.operation("read", id, format!("Get a {}", words.singular), "");
    operation["parameters"] = json!([id_parameter()]);
    operation["responses"] = json!({"200": versioned("The record.", &words.record())});
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
    operation["parameters"] = json!([id_parameter(), if_match()]);
    operation["requestBody"] = body(&format!("{}Update", words.record()));
    operation["responses"] = json!({"200": versioned("The record as it is now.", &words.record())});
    operation
}

fn delete(words: &Words<'_>) -> Value {
    let id = format!("delete_{}", words.singular);
    let mut operation = words.operation("delete", id, format!("Delete a {}", words.singular), "");
    operation["parameters"] = json!([id_parameter(), if_match()]);
    operation["responses"] = json!({"204": {"description": "It is gone."}});
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
        "description": "The version that the change is meant for, as its `ETag`.",
        "schema": {"type": "string"}, "example": "\"3\"",
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

fn schemas(words: &Words<'_>, module: &CompiledModule) -> Map<String, Value> {
    let record = words.record();
    let declared: Map<String, Value> = module
        .fields()
        .iter()
        .map(|field| (field.name.to_string(), property(words.singular, field)))
        .collect();

    let mut stored = system_properties();
    stored.extend(declared.clone());
    let every: Vec<&String> = stored.keys().collect();
    let whole = json!({
        "type": "object", "description": module.spec().description,
        "required": every, "properties": stored, "additionalProperties": false,
    });

    let input = |required: Vec<&str>, keep_defaults: bool| {
        let mut properties = declared.clone();
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
    let needed = module
        .fields()
        .iter()
        .filter(|field| field.required_on_create());
    let needed = needed.map(|field| field.name.as_str()).collect();

    let mut schemas = Map::from_iter([
        (format!("{record}Create"), input(needed, true)),
        (format!("{record}Update"), input(Vec::new(), false)),
        (format!("{record}List"), page(&record)),
        (record, whole),
    ]);
    schemas.extend(
        module
            .fields()
            .iter()
            .filter_map(|field| named_schema(words.singular, field)),
    );
    schemas
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
    json!({
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
                "description": "All matches; present with `count=true`.",
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
    })
}
