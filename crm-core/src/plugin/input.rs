//! What an action takes along: a small part of JSON Schema, so that the API's document can show it
//! as it stands and every request is held against it.

use serde_json::{Map, Value as Json};

use super::ActionTrigger;
use crate::count::told;
use crate::error::{Error, FieldError, Result};
use crate::module::Ident;

/// Most fields of an input.
const MOST: usize = 50;
/// Most characters of a text of the schema.
const MAX_WORDS: usize = 500;
/// Most bytes of an input.
const MAX_BYTES: usize = 32 * 1024;

impl ActionTrigger {
    /// Holds what a caller gives along against the [`input`](Self::input) that the action takes.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every refused field below `/input`; on `input` for more than 32 KiB.
    pub fn check_input(&self, input: &Map<String, Json>) -> Result<()> {
        judge(self.input.as_ref(), input)?;
        match Json::from(input.clone()).to_string().len() {
            ..=MAX_BYTES => Ok(()),
            _ => {
                let message = format!("must have at most {MAX_BYTES} bytes");
                Err(Error::invalid("input", "too_long", message))
            }
        }
    }
}

/// The schema of an input, or what is wrong with it in words.
pub(super) fn check(schema: &Map<String, Json>) -> Result<(), String> {
    for (name, value) in schema {
        let fits = match name.as_str() {
            "type" => value == "object",
            "properties" => value.is_object(),
            "required" => value.is_array(),
            "title" | "description" => is_words(value),
            "additionalProperties" => value == false,
            _ => false,
        };
        if !fits {
            return Err(format!(
                "`{name}` of an input is not understood: it has `properties`, `required`, `title` and \
                 `description`"
            ));
        }
    }
    let fields = fields(schema).collect::<Vec<_>>();
    if fields.is_empty() || fields.len() > MOST {
        return Err(format!("an input has 1 to {MOST} `properties`"));
    }
    for (name, field) in &fields {
        name.parse::<Ident>().map_err(|error| error.to_string())?;
        let problem = field.as_object().map_or(Some("it is no object"), problem);
        if let Some(problem) = problem {
            return Err(format!("the input {name} is not understood: {problem}"));
        }
    }
    let known = |name: &Json| fields.iter().any(|(field, _)| name == *field);
    match required(schema).find(|name| !known(name)) {
        Some(name) => Err(format!(
            "the input requires {name}, which is none of its `properties`"
        )),
        None => Ok(()),
    }
}

/// What is wrong with a field of a schema.
fn problem(field: &Map<String, Json>) -> Option<&'static str> {
    let kind = field.get("type").and_then(Json::as_str).unwrap_or_default();
    let (text, number) = (kind == "string", matches!(kind, "integer" | "number"));
    if !text && !number && kind != "boolean" {
        return Some("its `type` is string, integer, number or boolean");
    }
    let odd = field.iter().find(|(name, value)| !match name.as_str() {
        "type" => true,
        "title" | "description" => is_words(value),
        "minLength" | "maxLength" => text && value.is_u64(),
        "minimum" | "maximum" => number && value.is_number(),
        "enum" => {
            let values = value.as_array().map_or(&[][..], Vec::as_slice);
            text && !values.is_empty() && values.len() <= 250 && values.iter().all(is_words)
        }
        _ => false,
    });
    odd.map(|_| {
        "beside `type` it has `title` and `description`, a text also `enum`, `minLength` and \
         `maxLength`, a number `minimum` and `maximum`"
    })
}

fn is_words(value: &Json) -> bool {
    let text = value.as_str();
    text.is_some_and(|text| !text.contains('\0') && text.chars().count() <= MAX_WORDS)
}

fn fields(schema: &Map<String, Json>) -> impl Iterator<Item = (&String, &Json)> {
    let fields = schema.get("properties").and_then(Json::as_object);
    fields.into_iter().flatten()
}

fn required(schema: &Map<String, Json>) -> impl Iterator<Item = &Json> {
    let names = schema.get("required").and_then(Json::as_array);
    names.into_iter().flatten()
}

/// Refuses an input that the schema does not allow; without a schema, all but an empty one.
///
/// # Errors
/// [`Error::Invalid`] with every refused field below `/input`.
fn judge(schema: Option<&Map<String, Json>>, input: &Map<String, Json>) -> Result<()> {
    let none = Map::new();
    let schema = schema.unwrap_or(&none);
    let mut refused = Vec::new();
    let mut refuse = |name: &str, code, message: &str| {
        refused.push(FieldError::new(name, code, message));
    };
    for (name, value) in input {
        match fields(schema).find(|(field, _)| *field == name) {
            None => refuse(name, "unknown_field", "The action takes no such input."),
            Some((_, field)) => {
                if let Some((code, message)) = refusal(field, value) {
                    refuse(name, code, &message);
                }
            }
        }
    }
    for name in required(schema).filter_map(Json::as_str) {
        if !input.contains_key(name) {
            refuse(name, "required", "The action needs this.");
        }
    }
    match refused.is_empty() {
        true => Ok(()),
        false => Err(Error::Invalid(refused).under("/input")),
    }
}

/// Why a value is none of the field's.
fn refusal(field: &Json, value: &Json) -> Option<(&'static str, String)> {
    let kind = field["type"].as_str().unwrap_or_default();
    let fits = match kind {
        "string" => value.is_string(),
        "integer" => value.is_i64(),
        "number" => value.is_number(),
        _ => value.is_boolean(),
    };
    if !fits {
        return Some(("wrong_type", format!("This must be of the type {kind}.")));
    }
    if let Some(text) = value.as_str() {
        let length = text.chars().count() as u64;
        let bound = |name: &str| field[name].as_u64();
        if let Some(least) = bound("minLength").filter(|least| length < *least) {
            let message = format!("Give at least {}.", told(least, "character", "characters"));
            return Some(("too_short", message));
        }
        if let Some(most) = bound("maxLength").filter(|most| length > *most) {
            let message = format!("Give at most {}.", told(most, "character", "characters"));
            return Some(("too_long", message));
        }
        let values = field["enum"].as_array();
        if let Some(values) = values.filter(|values| !values.contains(value)) {
            let values: Vec<_> = values.iter().filter_map(Json::as_str).collect();
            return Some((
                "not_allowed",
                format!("Give one of: {}.", values.join(", ")),
            ));
        }
        if text.contains('\0') {
            return Some(("invalid_text", "This must not contain NUL.".into()));
        }
    }
    let (number, bound) = (value.as_f64(), |name: &str| field[name].as_f64());
    let (least, most) = (bound("minimum"), bound("maximum"));
    let message = match number? {
        one if least.is_some_and(|least| one < least) => format!("Give at least {}.", least?),
        one if most.is_some_and(|most| one > most) => format!("Give at most {}.", most?),
        _ => return None,
    };
    Some(("out_of_range", message))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Json) -> Map<String, Json> {
        match value {
            Json::Object(object) => object,
            other => panic!("no object: {other}"),
        }
    }

    fn schema() -> Map<String, Json> {
        object(json!({
            "type": "object", "required": ["reason"],
            "properties": {
                "reason": {"type": "string", "minLength": 2, "maxLength": 5, "title": "Why"},
                "kind": {"type": "string", "enum": ["soft", "hard"]},
                "points": {"type": "integer", "minimum": 0, "maximum": 10},
                "share": {"type": "number"},
                "now": {"type": "boolean"},
            },
        }))
    }

    #[test]
    fn a_schema_is_a_flat_object_of_plain_values() {
        assert_eq!(check(&schema()), Ok(()));
        for (odd, part) in [
            (json!({}), "1 to 50"),
            (json!({"properties": {}}), "1 to 50"),
            (
                json!({"properties": {"a": {"type": "string"}}, "oneOf": []}),
                "`oneOf`",
            ),
            (
                json!({"properties": {"a": {"type": "object"}}}),
                "its `type`",
            ),
            (json!({"properties": {"a": {"$ref": "#/x"}}}), "its `type`"),
            (json!({"properties": {"a": 1}}), "no object"),
            (
                json!({"properties": {"A b": {"type": "string"}}}),
                "not a name",
            ),
            (
                json!({"properties": {"a": {"type": "string", "minimum": 1}}}),
                "beside `type`",
            ),
            (
                json!({"properties": {"a": {"type": "string", "enum": []}}}),
                "beside `type`",
            ),
            (
                json!({"properties": {"a": {"type": "string"}}, "required": ["b"]}),
                "requires \"b\"",
            ),
        ] {
            let problem = check(&object(odd.clone())).unwrap_err();
            assert!(problem.contains(part), "{odd}: {problem}");
        }
    }

    #[test]
    fn an_input_is_what_its_schema_allows() {
        let judged = |input: Json| judge(Some(&schema()), &object(input));
        let whole =
            json!({"reason": "late", "kind": "soft", "points": 10, "share": 0.5, "now": true});
        assert!(judged(whole).is_ok());
        for (input, pointer, code) in [
            (json!({}), "/input/reason", "required"),
            (json!({"reason": 1}), "/input/reason", "wrong_type"),
            (json!({"reason": null}), "/input/reason", "wrong_type"),
            (json!({"reason": "a"}), "/input/reason", "too_short"),
            (json!({"reason": "äääääö"}), "/input/reason", "too_long"),
            (json!({"reason": "a\0b"}), "/input/reason", "invalid_text"),
            (
                json!({"reason": "ab", "kind": "odd"}),
                "/input/kind",
                "not_allowed",
            ),
            (
                json!({"reason": "ab", "points": 11}),
                "/input/points",
                "out_of_range",
            ),
            (
                json!({"reason": "ab", "points": 1.5}),
                "/input/points",
                "wrong_type",
            ),
            (
                json!({"reason": "ab", "colour": 1}),
                "/input/colour",
                "unknown_field",
            ),
        ] {
            let Err(Error::Invalid(refused)) = judged(input.clone()) else {
                panic!("{input} is allowed");
            };
            assert_eq!((&*refused[0].pointer, refused[0].code), (pointer, code));
        }
        assert!(judge(None, &Map::new()).is_ok());
        assert!(judge(None, &object(json!({"a": 1}))).is_err());
    }
}
