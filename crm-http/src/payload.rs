//! Request bodies of the fixed resources: strict JSON whose every refused field is named, or bytes.
//!
//! The schema in the OpenAPI document is the rule that is enforced; there is no second list. A value
//! that was refused is never repeated in the answer, since it may be a password.

use bytes::Bytes;
use crm_core::count::told;
use crm_core::{Error, FieldError};
use poem::{Request, RequestBody};
use poem_openapi::payload::{Binary, ParsePayload, Payload};
use poem_openapi::registry::{MetaMediaType, MetaRequest, MetaSchema, MetaSchemaRef, Registry};
use poem_openapi::types::ParseFromJSON;
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};
use serde_json::{Map, Value};

use crate::edge::Exchange;
use crate::json;
use crate::problem::Problem;
use crate::resource::{MACHINE, is_declared, is_field_change, unknown_of_machine};

/// A JSON request body that obeys the schema of `T`.
pub(crate) struct Strict<T>(pub(crate) T);

impl<T: ParseFromJSON> Payload for Strict<T> {
    const CONTENT_TYPE: &'static str = "application/json";

    fn schema_ref() -> MetaSchemaRef {
        T::schema_ref()
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

impl<T: ParseFromJSON> ParsePayload for Strict<T> {
    const IS_REQUIRED: bool = true;

    async fn from_request(request: &Request, body: &mut RequestBody) -> poem::Result<Self> {
        let limit = Exchange::of(request)?.app.options.body_limit;
        let value = json::read(request.headers(), body.take()?, limit).await?;
        Ok(Self(conform(value)?))
    }
}

impl<'a, T: ParseFromJSON> ApiExtractor<'a> for Strict<T> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        <Self as Payload>::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        Some(MetaRequest {
            description: None,
            content: vec![MetaMediaType {
                content_type: Self::CONTENT_TYPE,
                schema: <Self as Payload>::schema_ref(),
            }],
            required: true,
        })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        <Self as ParsePayload>::from_request(request, body).await
    }
}

/// A body of bytes in the document. Client generators know this media type, whatever others are taken.
pub(crate) fn binary(description: &'static str) -> MetaRequest {
    MetaRequest {
        description: Some(description),
        content: vec![MetaMediaType {
            content_type: <Binary<Bytes> as Payload>::CONTENT_TYPE,
            schema: <Binary<Bytes> as Payload>::schema_ref(),
        }],
        required: true,
    }
}

/// The value as `T`, or every field that keeps it from being one.
fn conform<T: ParseFromJSON>(value: Value) -> Result<T, Problem> {
    let mut registry = Registry::new();
    T::register(&mut registry);
    let mut refused = Vec::new();
    judge(
        &registry,
        &T::schema_ref(),
        &value,
        &mut String::new(),
        &mut refused,
    );
    if refused.is_empty() {
        // Rules beyond the schema belong to the library, so this is a form the schema let pass.
        T::parse_from_json(Some(value)).map_err(|_| refuse("", "invalid", "The body is not valid."))
    } else {
        Err(Error::Invalid(refused).into())
    }
}

fn refuse(pointer: &str, code: &'static str, message: &str) -> Problem {
    Error::Invalid(vec![FieldError {
        pointer: pointer.into(),
        code,
        message: message.into(),
    }])
    .into()
}

/// Collects what in `value` breaks `schema`; `at` is the JSON Pointer of `value`.
fn judge(
    registry: &Registry,
    schema: &MetaSchemaRef,
    value: &Value,
    at: &mut String,
    refused: &mut Vec<FieldError>,
) {
    let Some((name, schema)) = resolved(registry, schema) else {
        return;
    };
    let refuse_unknown: Unknown = match name {
        name if is_field_change(name) => unknown_of_field,
        MACHINE => |member| unknown_of_machine(member).unwrap_or_else(|| unknown(member)),
        _ => unknown,
    };
    // A reference with overrides is written as allOf; its parts carry the rules.
    for part in &schema.all_of {
        judge(registry, part, value, at, refused);
    }
    if schema.nullable && value.is_null() {
        return;
    }
    if !schema.any_of.is_empty() {
        return judge_alternatives(registry, &schema.any_of, value, at, refused);
    }
    if let Some((code, message)) = breach(schema, value) {
        refused.push(FieldError {
            pointer: at.clone(),
            code,
            message,
        });
        return;
    }
    match value {
        Value::Object(members) if !schema.properties.is_empty() => {
            judge_members(registry, schema, members, refuse_unknown, at, refused);
        }
        Value::Object(members) => {
            for (name, member) in members {
                if let Some(part) = &schema.additional_properties {
                    descend(registry, part, member, at, name, refused);
                }
            }
        }
        Value::Array(items) => {
            if let Some(item_schema) = &schema.items {
                for (index, item) in items.iter().enumerate() {
                    descend(registry, item_schema, item, at, &index.to_string(), refused);
                }
            }
        }
        _ => {}
    }
}

/// The schema itself with its name, if it has one; none for a reference that leads nowhere.
fn resolved<'a>(
    registry: &'a Registry,
    schema: &'a MetaSchemaRef,
) -> Option<(&'a str, &'a MetaSchema)> {
    match schema {
        MetaSchemaRef::Inline(schema) => Some(("", schema)),
        MetaSchemaRef::Reference(name) => Some((name, registry.schemas.get(name)?)),
    }
}

/// Judges by the one of these that is of the value's type, for they differ in it.
fn judge_alternatives(
    registry: &Registry,
    alternatives: &[MetaSchemaRef],
    value: &Value,
    at: &mut String,
    refused: &mut Vec<FieldError>,
) {
    let of_type =
        |part: &MetaSchemaRef| resolved(registry, part).map_or("", |(_, schema)| schema.ty);
    let mut parts = alternatives.iter();
    match parts.find(|part| is_of(of_type(part), value)) {
        Some(part) => judge(registry, part, value, at, refused),
        None => {
            let types: Vec<_> = alternatives.iter().map(of_type).collect();
            refused.push(FieldError {
                pointer: at.clone(),
                code: "wrong_type",
                message: format!("This must be of type {}.", types.join(" or ")),
            });
        }
    }
}

fn judge_members(
    registry: &Registry,
    schema: &MetaSchema,
    members: &Map<String, Value>,
    refuse_unknown: Unknown,
    at: &mut String,
    refused: &mut Vec<FieldError>,
) {
    for name in &schema.required {
        if !members.contains_key(*name) {
            push(refused, at, name, "required", "This field is required.");
        }
    }
    for (name, member) in members {
        match schema.properties.iter().find(|(known, _)| known == name) {
            // For an optional field, null says the same as leaving it out.
            Some(_) if member.is_null() && !schema.required.contains(&name.as_str()) => {}
            Some((_, property)) => descend(registry, property, member, at, name, refused),
            None => {
                let (code, message) = refuse_unknown(name);
                push(refused, at, name, code, message);
            }
        }
    }
}

/// The code and the words that refuse a member by its name.
type Unknown = fn(&str) -> (&'static str, &'static str);

/// Why a body has no such member.
fn unknown(_: &str) -> (&'static str, &'static str) {
    ("unknown_field", "There is no such field.")
}

/// Why the change of a tenant's field has no such member: most of what is declared stays.
fn unknown_of_field(member: &str) -> (&'static str, &'static str) {
    let message = "This cannot be changed afterwards: declare another field, or remove and purge this \
                   one and declare it anew.";
    match is_declared(member) {
        true => ("immutable", message),
        false => unknown(member),
    }
}

fn descend(
    registry: &Registry,
    schema: &MetaSchemaRef,
    value: &Value,
    at: &mut String,
    name: &str,
    refused: &mut Vec<FieldError>,
) {
    let length = at.len();
    at.push_str(&FieldError::pointer_to(name));
    judge(registry, schema, value, at, refused);
    at.truncate(length);
}

fn push(refused: &mut Vec<FieldError>, at: &str, name: &str, code: &'static str, message: &str) {
    refused.push(FieldError::new(name, code, message).under(at));
}

/// The one rule of `schema` itself that `value` breaks.
fn breach(schema: &MetaSchema, value: &Value) -> Option<(&'static str, String)> {
    if !is_of(schema.ty, value) {
        return Some(("wrong_type", format!("This must be of type {}.", schema.ty)));
    }
    if !schema.enum_items.is_empty() && !schema.enum_items.contains(value) {
        let known: Vec<String> = schema.enum_items.iter().map(Value::to_string).collect();
        return Some((
            "not_allowed",
            format!("Choose one of {}.", known.join(", ")),
        ));
    }
    match value {
        Value::String(text) => text_breach(schema, text),
        Value::Array(items) => {
            let most = schema.max_items.filter(|most| items.len() > *most)?;
            let entries = told(most, "entry is", "entries are");
            Some(("too_many", format!("At most {entries} allowed.")))
        }
        Value::Number(number) => number_breach(schema, number.as_f64()?),
        _ => None,
    }
}

fn number_breach(schema: &MetaSchema, number: f64) -> Option<(&'static str, String)> {
    let (least, most) = (schema.minimum, schema.maximum);
    if least.is_none_or(|least| number >= least) && most.is_none_or(|most| number <= most) {
        return None;
    }
    let message = match (least, most) {
        (Some(least), Some(most)) => format!("This is {least} to {most}."),
        (Some(least), None) => format!("This is {least} at least."),
        (None, most) => format!("This is {} at most.", most.unwrap_or_default()),
    };
    Some(("out_of_range", message))
}

fn is_of(ty: &str, value: &Value) -> bool {
    match ty {
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => true,
    }
}

fn text_breach(schema: &MetaSchema, text: &str) -> Option<(&'static str, String)> {
    let length = text.chars().count();
    if let Some(most) = schema.max_length.filter(|most| length > *most) {
        let characters = told(most, "character is", "characters are");
        return Some(("too_long", format!("At most {characters} allowed.")));
    }
    if let Some(least) = schema.min_length.filter(|least| length < *least) {
        let characters = told(least, "character is", "characters are");
        return Some(("too_short", format!("At least {characters} needed.")));
    }
    match schema.format {
        Some("uuid") if uuid::Uuid::try_parse(text).is_err() => {
            Some(("invalid", "This must be a UUID.".into()))
        }
        Some("date-time") if chrono::DateTime::parse_from_rfc3339(text).is_err() => {
            Some(("invalid", "This must be an instant as in RFC 3339.".into()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use poem_openapi::{Enum, Object};
    use serde_json::json;

    use super::*;

    #[derive(Debug, Enum)]
    #[oai(rename_all = "snake_case")]
    enum Effect {
        Allow,
        Deny,
    }

    #[derive(Debug, Object)]
    #[oai(deny_unknown_fields)]
    struct Rule {
        #[oai(validator(max_length = 5))]
        module: String,
        effect: Effect,
    }

    #[derive(Debug, Object)]
    #[oai(deny_unknown_fields)]
    struct Role {
        name: String,
        parent: Option<uuid::Uuid>,
        #[oai(validator(max_items = 2))]
        rules: Vec<Rule>,
        #[oai(default, validator(minimum(value = "1"), maximum(value = "9")))]
        rank: u8,
    }

    fn refused(value: Value) -> Vec<String> {
        match conform::<Role>(value).map_err(|problem| problem.into_fields()) {
            Ok(_) => Vec::new(),
            Err(fields) => fields
                .iter()
                .map(|f| format!("{} {}", f.pointer, f.code))
                .collect(),
        }
    }

    #[test]
    fn a_body_that_obeys_its_schema_is_read() {
        let role = json!({"name": "x", "rules": [{"module": "deals", "effect": "deny"}]});
        let role: Role = conform(role).unwrap();
        assert!(matches!(role.rules[0].effect, Effect::Deny));
        assert_eq!(
            refused(json!({"name": "x", "parent": null, "rules": []})),
            [""; 0]
        );
    }

    #[test]
    fn every_refused_field_is_named_by_its_pointer() {
        let role = json!({
            "parent": "x",
            "rank": 10,
            "roles": 1,
            "rules": [{"module": "too long", "effect": "maybe", "a/b": 1}, 7],
        });
        assert_eq!(
            refused(role),
            [
                "/name required",
                "/parent invalid",
                "/rank out_of_range",
                "/roles unknown_field",
                "/rules/0/a~1b unknown_field",
                "/rules/0/effect not_allowed",
                "/rules/0/module too_long",
                "/rules/1 wrong_type",
            ]
        );
    }

    #[test]
    fn the_body_itself_has_the_empty_pointer() {
        assert_eq!(refused(json!([])), [" wrong_type"]);
    }

    #[test]
    fn a_refused_value_is_not_repeated() {
        let error = conform::<Role>(json!({"name": 4711, "rules": []})).unwrap_err();
        assert!(!format!("{error:?}").contains("4711"));
    }
}
