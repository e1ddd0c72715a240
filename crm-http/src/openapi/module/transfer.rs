//! Import and export of a module in the document.

use crm_core::module::CompiledModule;
use serde_json::{Map, Value, json};

use super::list::list_parameters;
use super::{Words, header, reference};
use crate::modules::{BASE, MEDIA_TYPES, OF_PAGES};
use crate::openapi::Modules;
use crate::openapi::write::{idempotency_key, replayed};

/// The paths of a module's import and export.
pub(super) fn paths(
    modules: Modules<'_>,
    words: &Words<'_>,
    module: &CompiledModule,
) -> Map<String, Value> {
    let path = format!("{BASE}{}", words.plural);
    Map::from_iter([
        (
            format!("{path}/import"),
            json!({"post": import(words, module)}),
        ),
        (
            format!("{path}/export"),
            json!({"get": export(modules, words, module)}),
        ),
    ])
}

fn parameter(name: &str, required: bool, description: &str, schema: Value) -> Value {
    json!({"name": name, "in": "query", "required": required, "description": description, "schema": schema})
}

fn import(words: &Words<'_>, module: &CompiledModule) -> Value {
    let first = module
        .writable()
        .next()
        .map_or("", |field| field.name.as_str());
    let mapping = json!({"Full name": first, "Fax": null}).to_string();
    let notes = "The file is kept and read by a background job, which is answered: ask for its \
        progress at `/api/v1/jobs/{id}` and for refused lines at `/api/v1/jobs/{id}/errors`. Each \
        entry passes the same rules as a create; a refused one is noted with its line and the rest \
        goes on. An empty cell says nothing: a new record gets the default, a known one keeps what \
        it has. ";
    let update = format!(
        "Also needs `{}.update` when `mode` is `upsert`. ",
        words.plural
    );
    let notes = &format!("{notes}{update}");
    let id = format!("import_{}", words.plural);
    let mut operation = words.operation("create", id, format!("Import {}", words.plural), notes);
    operation["parameters"] = json!([
        parameter(
            "format",
            true,
            "How the file is written. CSV has a header and is separated by commas, semicolons or \
             tabs; JSON is an array of objects; vCard is of version 3.0 or 4.0.",
            json!({"type": "string", "enum": ["csv", "ndjson", "json", "vcard"]}),
        ),
        parameter(
            "mode",
            false,
            "Whether every entry is a new record, or changes the one with its `key`.",
            json!({"type": "string", "enum": ["create", "upsert"], "default": "create"}),
        ),
        parameter(
            "key",
            false,
            "The unique field that an upsert finds records by.",
            json!({"type": "string"}),
        ),
        parameter(
            "dry_run",
            false,
            "Whether to check every entry and write nothing. Entries are held against the records \
             that are there: a unique value or key that comes again further down in the file may \
             pass, and be refused in the run.",
            json!({"type": "boolean", "default": false}),
        ),
        parameter(
            "mapping",
            false,
            "Which column is which field: `google_contacts`, `outlook`, or a JSON object from column \
             to field, with null for a column to leave out. By name when left out.",
            json!({"type": "string", "example": mapping}),
        ),
        parameter(
            "on_error",
            false,
            "Whether to go on behind a refused entry, or to stop there; what came before stays.",
            json!({"type": "string", "enum": ["continue", "abort"], "default": "continue"}),
        ),
        idempotency_key(),
    ]);
    // The media type that client generators know for files stands for all that are read.
    let content = json!({"application/octet-stream": {
        "schema": {"type": "string", "format": "binary"},
    }});
    let description = format!("The file, as any of {}.", MEDIA_TYPES.join(", "));
    operation["requestBody"] = json!({
        "required": true, "description": description, "content": content,
    });
    operation["responses"] = json!({"202": {
        "description": "The job that imports the file.",
        "headers": {"Location": header("Where the job is.")},
        "content": {"application/json": {"schema": reference("Job")}},
    }});
    replayed(&mut operation);
    operation
}

fn export(modules: Modules<'_>, words: &Words<'_>, module: &CompiledModule) -> Value {
    let notes = "All records that the conditions match, as a file. In CSV, cells that a spreadsheet \
        would run as a formula (they begin with `=`, `+`, `-`, `@`, a tab or a carriage return) \
        carry an apostrophe in front; an import takes it away again. ";
    let id = format!("export_{}", words.plural);
    let mut operation = words.operation("read", id, format!("Export {}", words.plural), notes);
    let mut parameters = vec![parameter(
        "format",
        false,
        "How the file is written.",
        json!({"type": "string", "enum": ["csv", "ndjson", "json"], "default": "csv"}),
    )];
    let of_pages = |parameter: &Value| {
        let name = parameter["name"].as_str().unwrap_or_default();
        OF_PAGES.contains(&name)
    };
    parameters.extend(
        list_parameters(modules, words, module)
            .into_iter()
            .filter(|parameter| !of_pages(parameter)),
    );
    operation["parameters"] = json!(parameters);
    let records = json!({"type": "array", "items": reference(&words.record())});
    operation["responses"] = json!({"200": {
        "description": "The file.",
        "headers": {"Content-Disposition": header("The file's name.")},
        "content": {
            "text/csv": {"schema": {"type": "string"}},
            "application/x-ndjson": {"schema": {"type": "string"}},
            "application/json": {"schema": records},
        },
    }});
    operation
}
