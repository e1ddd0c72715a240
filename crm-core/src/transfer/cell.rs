//! A field's value as the text of a cell, and back.

use serde_json::Value as Json;

use crate::module::{FieldType, trim};
use crate::value::Value;

/// The JSON that the module's rules judge; none for an empty cell, which says nothing.
pub(super) fn to_json(kind: Option<&FieldType>, text: &str) -> Option<Json> {
    let text = unguarded(trim(text));
    if text.is_empty() {
        return None;
    }
    let as_text = || Json::String(text.to_owned());
    Some(match kind {
        Some(FieldType::Integer { .. }) => {
            text.parse::<i64>().map_or_else(|_| as_text(), Json::from)
        }
        Some(FieldType::Bool) => match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "1" => Json::Bool(true),
            "false" | "no" | "0" => Json::Bool(false),
            _ => as_text(),
        },
        Some(FieldType::Tags { .. } | FieldType::References { .. }) => tags(text),
        Some(FieldType::Json { .. } | FieldType::Vector { .. }) => {
            serde_json::from_str(text).unwrap_or_else(|_| as_text())
        }
        _ => as_text(),
    })
}

/// A JSON array, or tags between semicolons or Google's ` ::: `.
fn tags(text: &str) -> Json {
    if text.starts_with('[')
        && let Ok(array @ Json::Array(_)) = serde_json::from_str(text)
    {
        return array;
    }
    let mut tags: Vec<&str> = Vec::new();
    for tag in text.split(";").flat_map(|part| part.split(" ::: ")) {
        let tag = tag.trim();
        if !tag.is_empty() && !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    Json::from(tags)
}

/// The cell of a value.
pub(super) fn from_value(value: &Value) -> String {
    match value {
        Value::Null | Value::Bytes(_) => String::new(),
        // A spreadsheet reads numbers as numbers, also below zero.
        Value::Int(_) | Value::Decimal(_) | Value::Bool(_) => plain(value),
        Value::Tags(tags) => {
            let odd = |tag: &String| tag.contains([';', '[']) || tag.contains(" ::: ");
            guarded(match tags.iter().any(odd) {
                true => Json::from(tags.clone()).to_string(),
                false => tags.join("; "),
            })
        }
        Value::Vector(_) => plain(value),
        Value::Json(json) => guarded(json.to_string()),
        value => guarded(plain(value)),
    }
}

fn plain(value: &Value) -> String {
    match serde_json::to_value(value) {
        Ok(Json::String(text)) => text,
        Ok(Json::Null) | Err(_) => String::new(),
        Ok(json) => json.to_string(),
    }
}

/// Whether a spreadsheet might take the text for a formula (OWASP, "CSV Injection").
fn is_formula(text: &str) -> bool {
    text.starts_with(['=', '+', '-', '@', '\t', '\r'])
}

fn guarded(text: String) -> String {
    match is_formula(&text) {
        true => format!("'{text}"),
        false => text,
    }
}

fn unguarded(text: &str) -> &str {
    text.strip_prefix('\'')
        .filter(|rest| is_formula(rest))
        .unwrap_or(text)
}
