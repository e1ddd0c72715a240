//! A declared field as a JSON Schema of OpenAPI 3.0, and as the query parameters that filter by it.

use chrono::{DateTime, NaiveDate, NaiveTime};
use crm_core::module::{Bounds, FieldSpec, FieldType, Ident, MoneyCurrency, OnDelete};
use crm_core::record::operators;
use serde_json::{Map, Value, json};

/// The schema of a field's values, without null.
pub(super) fn schema(singular: &str, field: &FieldSpec) -> Value {
    match &field.kind {
        FieldType::Text { min, max } => text_of(*min, *max, "Example"),
        FieldType::LongText { min, max } => text_of(
            *min,
            *max,
            "Called about the offer.\nShe will ring back on Monday.",
        ),
        FieldType::Url => json!({
            "type": "string", "format": "uri", "pattern": URL, "maxLength": 2048,
            "example": "https://example.com/",
        }),
        FieldType::Email => {
            json!({"type": "string", "format": "email", "maxLength": 254, "example": "ada@example.com"})
        }
        FieldType::Phone => json!({"type": "string", "maxLength": 40, "example": "+49 30 901820"}),
        FieldType::Integer { min, max } => {
            let mut schema = json!({"type": "integer", "format": "int64"});
            if *min != i64::MIN {
                schema["minimum"] = json!(min);
            }
            if *max != i64::MAX {
                schema["maximum"] = json!(max);
            }
            schema
        }
        FieldType::Decimal {
            precision,
            scale,
            bounds,
        } => {
            let mut schema = decimal(*precision, *scale);
            let example = schema["example"]
                .as_str()
                .and_then(|text| text.parse().ok());
            if let Some(example) = example.and_then(|example| within(*bounds, example)) {
                schema["example"] = json!(example);
            }
            schema
        }
        FieldType::Money {
            precision,
            scale,
            bounds,
            ..
        } => {
            let mut schema = decimal(*precision, *scale);
            // A whole amount is one in every currency.
            let whole = if precision > scale { "1" } else { "0" };
            let zeros = "0".repeat(usize::try_from(*scale).unwrap_or_default());
            let point = if *scale > 0 { "." } else { "" };
            let example = format!("{whole}{point}{zeros}");
            let bound = example
                .parse()
                .ok()
                .and_then(|amount| within(*bounds, amount));
            schema["example"] = json!(bound.map_or(example, |bound| bound.to_string()));
            schema
        }
        FieldType::Currency => {
            json!({"type": "string", "pattern": "^[A-Za-z]{3}$", "example": "EUR"})
        }
        FieldType::Bool => json!({"type": "boolean"}),
        FieldType::Instant(bounds) => {
            let example = DateTime::from_timestamp(1_769_851_800, 0).unwrap_or_default();
            let example = within(*bounds, example).unwrap_or(example);
            let text = crm_core::value::instant(&example);
            json!({"type": "string", "format": "date-time", "example": text})
        }
        FieldType::Date(bounds) => {
            let example = NaiveDate::from_ymd_opt(2026, 1, 31).unwrap_or_default();
            let example = within(*bounds, example).unwrap_or(example).to_string();
            json!({"type": "string", "format": "date", "example": example})
        }
        FieldType::Time(bounds) => {
            let example = NaiveTime::from_hms_opt(9, 30, 0).unwrap_or_default();
            let example = within(*bounds, example).unwrap_or(example);
            json!({"type": "string", "pattern": TIME, "example": crm_core::value::time(&example)})
        }
        FieldType::Uuid => json!({"type": "string", "format": "uuid", "example": ID}),
        FieldType::Zoned => json!({
            "type": "string", "pattern": ZONED, "maxLength": 80,
            "example": "2026-03-01T09:30:00[Europe/Berlin]",
        }),
        FieldType::Vector { dimensions } => json!({
            "type": "array", "minItems": dimensions, "maxItems": dimensions,
            "items": {"type": "number", "format": "float"},
            "example": vec![0.5; usize::try_from(*dimensions).unwrap_or_default()],
        }),
        FieldType::Enum { .. } => reference(&enum_name(singular, field)),
        FieldType::Tags {
            max_items,
            max_length,
        } => json!({
            "type": "array",
            "maxItems": max_items,
            "uniqueItems": true,
            "items": {"type": "string", "maxLength": max_length},
        }),
        FieldType::Json { .. } => json!({}),
        FieldType::Reference { .. } => json!({"type": "string", "format": "uuid"}),
        FieldType::References { max_items, .. } => json!({
            "type": "array",
            "maxItems": max_items,
            "uniqueItems": true,
            "items": {"type": "string", "format": "uuid"},
        }),
        FieldType::AnyReference { modules, .. } => any_reference(modules),
    }
}

/// A web address: RFC 3986 in its ASCII form.
const URL: &str = r"^[Hh][Tt][Tt][Pp][Ss]?://[!#-;=?-\[\]_a-z~]+$";
/// A local time of day; JSON Schema's own format of times demands an offset from UTC.
const TIME: &str = r"^([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\.[0-9]{1,6})?)?$";
/// A local time with its zone (RFC 9557 without an offset).
const ZONED: &str = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\.[0-9]{1,6})?)?\[[A-Za-z0-9_+/-]+\]$";
const ID: &str = "018f4e2a-7b6c-7d3e-9a1b-2c3d4e5f6071";

fn text_of(min: u32, max: u32, example: &str) -> Value {
    let mut schema = json!({"type": "string", "maxLength": max});
    let length = |bound: u32| usize::try_from(bound).unwrap_or(usize::MAX);
    if min > 1 {
        schema["minLength"] = json!(min);
        let missing = length(min).saturating_sub(example.chars().count());
        let padding = "e".repeat(missing.min(length(max)));
        schema["example"] = json!(format!("{example}{padding}"));
    } else if example.chars().count() <= length(max) && example != "Example" {
        schema["example"] = json!(example);
    }
    schema
}

/// The example, or the bound that it breaks.
fn within<T: PartialOrd + Copy>(bounds: Bounds<T>, example: T) -> Option<T> {
    match (bounds.min, bounds.max) {
        (Some(min), _) if example < min => Some(min),
        (_, Some(max)) if example > max => Some(max),
        _ => None,
    }
}

/// The schema of a field as a property, with null where it is allowed and its words.
pub(super) fn property(singular: &str, field: &FieldSpec) -> Value {
    let mut property = schema(singular, field);
    if property.get("$ref").is_some() {
        // Beside a reference OpenAPI 3.0 reads nothing else.
        property = json!({"allOf": [property]});
    }
    if !field.required {
        property["nullable"] = json!(true);
    }
    if field.is_read_only() {
        property["readOnly"] = json!(true);
    }
    if field.write_only {
        property["writeOnly"] = json!(true);
    }
    let words = description(field);
    if !words.is_empty() {
        property["description"] = json!(words);
    }
    property
}

fn description(field: &FieldSpec) -> String {
    let mut words = vec![field.description.clone()];
    match &field.kind {
        FieldType::Reference { module, on_delete } => {
            words.push(format!("The id of one of the {module}."));
            words.extend(when_deleted(*on_delete));
        }
        FieldType::References {
            module, on_delete, ..
        } => {
            words.push(format!("Ids of {module}, in an order of their own."));
            words.extend(match on_delete {
                OnDelete::SetNull => Some("Deleted ones leave the list.".to_owned()),
                other => when_deleted(*other),
            });
        }
        FieldType::AnyReference { on_delete, .. } => {
            words.push("A module and the id of one of its records.".to_owned());
            words.extend(when_deleted(*on_delete));
        }
        FieldType::Decimal { .. } => words.push("An exact decimal number, as text.".to_owned()),
        FieldType::Json { max_bytes } => {
            words.push(format!("Any JSON of at most {max_bytes} bytes."))
        }
        FieldType::Time(_) => words.push("A local time of day.".to_owned()),
        FieldType::Zoned => words.push("A local time with its IANA zone.".to_owned()),
        FieldType::Vector { .. } => {
            words.push("Finite numbers of 32 bits, not all of them zero.".to_owned());
        }
        FieldType::Currency => words.push("The ISO 4217 code of a currency in use.".to_owned()),
        FieldType::Money { currency, .. } => words.push(match currency {
            MoneyCurrency::Fixed(code) => format!("An exact amount of {code}, as text."),
            MoneyCurrency::Field(name) => {
                format!("An exact amount in the currency that `{name}` names, as text.")
            }
        }),
        _ => {}
    }
    words.extend(bounds(&field.kind));
    if field.unique {
        words.push("Unique in the tenant.".to_owned());
    }
    if field.immutable {
        words.push("Cannot change once the record is made.".to_owned());
    }
    if field.computed.is_some() {
        words.push("Made of other fields when it is read.".to_owned());
    }
    if let Some(copied) = &field.copied {
        words.push(format!(
            "Copied from `{copied}` when that reference gets its value."
        ));
    }
    if field.write_only {
        words.push("Stored, and never shown.".to_owned());
    }
    if field.ignore_case {
        words.push("Compares without case.".to_owned());
    }
    words.retain(|word| !word.is_empty());
    words.join(" ")
}

/// A record of one of these modules.
fn any_reference(modules: &[Ident]) -> Value {
    let names: Vec<&str> = modules.iter().map(Ident::as_str).collect();
    let hex = "[0-9a-fA-F]";
    let id = format!("{hex}{{8}}-{hex}{{4}}-{hex}{{4}}-{hex}{{4}}-{hex}{{12}}");
    json!({
        "type": "string",
        "pattern": format!("^({})/{id}$", names.join("|")),
        "example": format!("{}/018f4e2a-7b6c-7d3e-9a1b-2c3d4e5f6071", names.first().unwrap_or(&"")),
    })
}

/// What becomes of the record when one that it refers to is deleted.
fn when_deleted(rule: OnDelete) -> Option<String> {
    match rule {
        OnDelete::Restrict => None,
        OnDelete::Cascade => Some("Deleting that one deletes this record too.".to_owned()),
        OnDelete::SetNull => Some("Deleting that one clears it.".to_owned()),
    }
}

/// The bounds of what is a text on the wire, which JSON Schema has no words for.
fn bounds(kind: &FieldType) -> Option<String> {
    fn said<T>(bounds: &Bounds<T>, text: impl Fn(&T) -> String) -> Option<String> {
        Some(match (bounds.min.as_ref(), bounds.max.as_ref()) {
            (None, None) => return None,
            (Some(min), None) => format!("At least {}.", text(min)),
            (None, Some(max)) => format!("At most {}.", text(max)),
            (Some(min), Some(max)) => format!("From {} to {}.", text(min), text(max)),
        })
    }
    match kind {
        FieldType::Decimal { bounds, .. } | FieldType::Money { bounds, .. } => {
            said(bounds, ToString::to_string)
        }
        FieldType::Instant(bounds) => said(bounds, crm_core::value::instant),
        FieldType::Date(bounds) => said(bounds, ToString::to_string),
        FieldType::Time(bounds) => said(bounds, crm_core::value::time),
        _ => None,
    }
}

fn decimal(precision: u32, scale: u32) -> Value {
    let whole = precision.saturating_sub(scale).max(1);
    let (pattern, example) = match scale {
        0 => (format!("^-?\\d{{1,{whole}}}$"), "12".to_owned()),
        _ => (
            format!("^-?\\d{{1,{whole}}}(\\.\\d{{1,{scale}}})?$"),
            decimal_example(scale),
        ),
    };
    json!({"type": "string", "pattern": pattern, "example": example})
}

fn decimal_example(scale: u32) -> String {
    format!("1.{}", "5".repeat(usize::try_from(scale).unwrap_or(1)))
}

/// The schemas that a field needs beside its own: the values of an enum.
pub(super) fn named_schema(singular: &str, field: &FieldSpec) -> Option<(String, Value)> {
    match &field.kind {
        FieldType::Enum { values } => Some((
            enum_name(singular, field),
            json!({"type": "string", "enum": values}),
        )),
        _ => None,
    }
}

fn enum_name(singular: &str, field: &FieldSpec) -> String {
    format!("{}{}", pascal(singular), pascal(field.name.as_str()))
}

/// A reference to the schema called `name`.
pub(super) fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// `job_title` as `JobTitle`.
pub(super) fn pascal(name: &str) -> String {
    let capital = |word: &str| {
        let mut letters = word.chars();
        letters
            .next()
            .map(|first| first.to_ascii_uppercase())
            .into_iter()
            .chain(letters)
            .collect()
    };
    name.split('_')
        .map(capital)
        .collect::<Vec<String>>()
        .concat()
}

/// The operators that the field may be compared by.
pub(super) fn operators_of(field: &FieldSpec) -> impl Iterator<Item = &'static str> {
    let computed = field.computed.is_some();
    operators(&field.kind).filter(move |op| !computed || matches!(*op, "eq" | "ne"))
}

/// What the field is compared with by `op`: days and instants also with words that the clock tells.
pub(super) fn operand_of(singular: &str, field: &FieldSpec, op: &str) -> Value {
    let operand = operand(singular, field);
    let pattern = match &field.kind {
        _ if matches!(op, "in" | "nin" | "is_null") => return operand,
        FieldType::Date(_) => "^today([+-][0-9]{1,4}[dw])?$",
        FieldType::Instant(_) => "^(now([+-][0-9]{1,4}[mhdw])?|today([+-][0-9]{1,4}[dw])?)$",
        _ => return operand,
    };
    let word = json!({
        "type": "string", "pattern": pattern,
        "description": "The present day or instant in UTC, or so many weeks (w), days (d), hours \
            (h) or minutes (m) from it.",
    });
    json!({"anyOf": [operand, word]})
}

/// One query parameter for each operator that fits the field.
pub(super) fn filters(
    singular: &str,
    field: &FieldSpec,
    operators: impl Iterator<Item = &'static str>,
) -> impl Iterator<Item = Value> {
    operators.map(move |op| {
        let (name, operand) = (&field.name, operand_of(singular, field, op));
        let (parameter, words, schema) = match op {
            "eq" => (name.to_string(), format!("{name} is this."), operand.clone()),
            "in" => (
                format!("{name}[in]"),
                format!("{name} is one of these, separated by commas."),
                list(operand.clone()),
            ),
            "nin" => (
                format!("{name}[nin]"),
                format!("{name} is none of these, separated by commas."),
                list(operand.clone()),
            ),
            "is_null" => {
                (format!("{name}[is_null]"), format!("{name} has no value, or has one."), json!({"type": "boolean"}))
            }
            "has_any" | "has_all" => {
                let words = format!("{name} {} these, separated by commas.",
                    if op == "has_any" { "has one of" } else { "has all of" });
                (format!("{name}[{op}]"), words, list(operand.clone()))
            }
            "contains" | "starts" | "has" => {
                let verb = match op {
                    "contains" => "contains",
                    "starts" => "starts with",
                    _ => "has the entry",
                };
                let operand = if op == "has" { operand.clone() } else { text() };
                (format!("{name}[{op}]"), format!("{name} {verb} this."), operand)
            }
            _ => {
                let order = match op {
                    "ne" => "is not",
                    "lt" => "is less than",
                    "lte" => "is at most",
                    "gt" => "is greater than",
                    _ => "is at least",
                };
                (format!("{name}[{op}]"), format!("{name} {order} this."), operand.clone())
            }
        };
        let mut parameter = json!({"name": parameter, "in": "query", "required": false, "description": words, "schema": schema});
        if parameter["schema"]["type"] == "array" {
            parameter["style"] = json!("form");
            parameter["explode"] = json!(false);
        }
        parameter
    })
}

/// Values that one is compared with, separated by commas.
fn list(items: Value) -> Value {
    json!({"type": "array", "minItems": 1, "maxItems": 100, "items": items})
}

fn text() -> Value {
    json!({"type": "string"})
}

/// What a field is compared with: its type, without the bounds that limit what is stored.
pub(super) fn operand(singular: &str, field: &FieldSpec) -> Value {
    match &field.kind {
        kind if kind.is_text() => text(),
        FieldType::Tags { .. } | FieldType::Json { .. } | FieldType::Vector { .. } => text(),
        FieldType::References { .. } => json!({"type": "string", "format": "uuid"}),
        FieldType::Integer { .. } => json!({"type": "integer", "format": "int64"}),
        _ => {
            let mut schema = schema(singular, field);
            let members: Option<&mut Map<String, Value>> = schema.as_object_mut();
            members.into_iter().for_each(|members| {
                members.remove("example");
            });
            schema
        }
    }
}
