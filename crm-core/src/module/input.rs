//! From a request's body to values: every rule checked, every refusal reported at once.
//!
//! Unknown names are refused (a typing error is not swallowed), what only the library writes is
//! ignored (a client may send back what it read), a foreign tenant is refused.

#[cfg(test)]
mod tests;

use serde_json::{Map, Value as Json};

use super::FieldType;
use super::compiled::CompiledModule;
use super::rule::{self, Refusal};
use super::suggestion::suggestion;
use crate::error::{Error, FieldError, Result};
use crate::id::{TenantId, UserId};
use crate::record::Field;
use crate::value::Value;

/// Fields of every record that the library writes; in a body they are read past.
pub(super) const READ_ONLY: [&str; 4] = ["id", "version", "created_at", "updated_at"];

/// A checked body of a create.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateInput {
    /// One value for each declared field, in their order.
    pub values: Vec<Value>,
    /// The owner as sent: absent, nobody, or a user.
    pub owner: Option<Option<UserId>>,
}

/// A checked body of an update.
#[derive(Debug, Clone, PartialEq)]
pub struct UpdateInput {
    /// The fields that were sent, by position, each with its new value.
    pub changes: Vec<(usize, Value)>,
    /// The owner as sent: absent, nobody, or a user.
    pub owner: Option<Option<UserId>>,
}

/// The fields that a body sets: of what it names, those that are not read past.
pub(crate) fn named(module: &CompiledModule, body: &Map<String, Json>) -> Vec<Field> {
    let named = body.keys().filter_map(|name| match name.as_str() {
        "owner_id" => Some(Field::OwnerId),
        name => {
            let position = module.position(name)?;
            let set = !module.fields()[position].is_read_only();
            set.then_some(Field::Declared(position))
        }
    });
    named.collect()
}

/// Checks the body of a create and fills in the defaults.
///
/// # Errors
/// [`Error::Invalid`] with every refused field.
pub fn create(
    module: &CompiledModule,
    tenant: TenantId,
    body: Map<String, Json>,
) -> Result<CreateInput> {
    let (input, mut refused, missing) = begun(module, tenant, body);
    refused.extend(missing);
    match refused.is_empty() {
        true => Ok(input),
        false => Err(Error::Invalid(refused)),
    }
}

/// As [`create`], of a record that hooks complete: what is left out is refused behind them, by
/// [`complete`].
///
/// # Errors
/// [`Error::Invalid`] with every refused field.
pub(crate) fn create_for_hooks(
    module: &CompiledModule,
    tenant: TenantId,
    body: Map<String, Json>,
) -> Result<CreateInput> {
    match begun(module, tenant, body) {
        (input, refused, _) if refused.is_empty() => Ok(input),
        (_, mut refused, missing) => {
            refused.extend(missing);
            Err(Error::Invalid(refused))
        }
    }
}

/// Refuses values that lack one of a required field.
///
/// # Errors
/// [`Error::Invalid`] with each of them.
pub(crate) fn complete(module: &CompiledModule, values: &[Value]) -> Result<()> {
    let pairs = module.fields().iter().zip(values);
    let missing = pairs.filter(|(field, value)| {
        field.required && value.is_null() && !field.serial && field.copied.is_none()
    });
    let missing: Vec<_> = missing
        .map(|(field, _)| required(field.name.as_str()))
        .collect();
    match missing.is_empty() {
        true => Ok(()),
        false => Err(Error::Invalid(missing)),
    }
}

/// The input as far as it can be read, what of it is refused, and what is required and left out.
fn begun(
    module: &CompiledModule,
    tenant: TenantId,
    body: Map<String, Json>,
) -> (CreateInput, Vec<FieldError>, Vec<FieldError>) {
    let (read, mut missing) = (read(module, tenant, body), Vec::new());
    let mut sent = read.changes.into_iter().peekable();
    let mut values = Vec::with_capacity(module.fields().len());
    for (position, field) in module.fields().iter().enumerate() {
        let value = match sent.next_if(|(at, _)| *at == position) {
            Some((_, Some(value))) => value,
            // Refused already: what stands here no longer matters.
            Some((_, None)) => Value::Null,
            None => {
                if field.required_on_create() {
                    missing.push(required(field.name.as_str()));
                }
                module.default_of(position).clone()
            }
        };
        values.push(value);
    }
    let owner = read.owner;
    (CreateInput { values, owner }, read.refused, missing)
}

/// Checks the body of an update: absent fields stay, `null` clears a field that may be null.
///
/// # Errors
/// [`Error::Invalid`] with every refused field.
pub fn update(
    module: &CompiledModule,
    tenant: TenantId,
    body: Map<String, Json>,
) -> Result<UpdateInput> {
    let read = read(module, tenant, body);
    if !read.refused.is_empty() {
        return Err(Error::Invalid(read.refused));
    }
    let changes = read
        .changes
        .into_iter()
        .filter_map(|(at, value)| Some((at, value?)))
        .collect();
    Ok(UpdateInput {
        changes,
        owner: read.owner,
    })
}

/// The value of the field at `position`, held against its rules.
///
/// # Errors
/// [`Error::Invalid`] naming the field.
pub(crate) fn value_of(module: &CompiledModule, position: usize, json: Json) -> Result<Value> {
    let field = &module.fields()[position];
    let name = field.name.as_str();
    match rule::from_json(&field.kind, json) {
        Ok(Value::Null) if field.required => Err(Error::Invalid(vec![required(name)])),
        Ok(value) => Ok(value),
        Err(refusal) => Err(Error::Invalid(vec![refusal.of(name)])),
    }
}

/// The owner that `json` names: a user, or nobody.
///
/// # Errors
/// [`Error::Invalid`] on `owner_id`.
pub(crate) fn owner_of(json: &Json) -> Result<Option<UserId>> {
    owner(json).map_err(|refusal| Error::Invalid(vec![refusal.of("owner_id")]))
}

/// A text that stored ones are compared with: bounded, and without NUL.
pub(crate) fn operand_text(text: &str) -> Result<String, Refusal> {
    rule::limited(text.to_owned(), OPERAND_MAX)
}

/// The entry that lists of type `kind` are asked for.
pub(crate) fn operand_entry(kind: &FieldType, text: &str) -> Result<String, Refusal> {
    match kind {
        FieldType::References { .. } => rule::uuid(text).map(|id| id.to_string()),
        _ => operand_text(text),
    }
}

/// The value that a query string's `text` stands for when compared with a field of type `kind`.
///
/// Texts are compared as they come, also partial addresses; tags are compared entry by entry.
///
/// # Errors
/// A [`Refusal`] to be reported under the parameter's name.
pub fn parse_text(kind: &FieldType, text: &str) -> Result<Value, Refusal> {
    match kind {
        FieldType::Url => rule::limited(text.to_owned(), URL_MAX).map(Value::Text),
        kind if kind.is_text() => operand_text(text).map(Value::Text),
        kind => rule::read_text(kind, text.to_owned()),
    }
}

/// The value that a JSON filter's operand stands for when compared with a field of type `kind`.
///
/// # Errors
/// A [`Refusal`] to be reported under the operand's place.
pub fn from_json_filter(kind: &FieldType, json: &Json) -> Result<Value, Refusal> {
    match (kind, json) {
        (_, Json::Null) => Ok(Value::Null),
        (FieldType::Bool | FieldType::Integer { .. }, Json::String(_)) => {
            rule::read_json(kind, json.clone())
        }
        (FieldType::Json { .. }, _) => parse_text(kind, ""),
        (_, Json::String(text)) => parse_text(kind, text),
        (kind, json) => rule::read_json(kind, json.clone()),
    }
}

/// Most characters of a text that others are compared with.
const OPERAND_MAX: u32 = 1_000;
const URL_MAX: u32 = 2_048;

/// What a body says: fields by position (`None` where refused), the owner, the refusals.
struct Read {
    changes: Vec<(usize, Option<Value>)>,
    owner: Option<Option<UserId>>,
    refused: Vec<FieldError>,
}

fn read(module: &CompiledModule, tenant: TenantId, body: Map<String, Json>) -> Read {
    let mut read = Read {
        changes: Vec::with_capacity(body.len()),
        owner: None,
        refused: vec![],
    };
    for (name, json) in body {
        if let Some(position) = module.position(&name) {
            let field = &module.fields()[position];
            if field.is_read_only() {
                continue;
            }
            let value = match rule::from_json(&field.kind, json) {
                Ok(Value::Null) if field.required => Err(required(&name)),
                Ok(value) => Ok(value),
                Err(refusal) => Err(refusal.of(&name)),
            };
            read.changes.push((
                position,
                value.map_err(|error| read.refused.push(error)).ok(),
            ));
            continue;
        }
        let refusal = match name.as_str() {
            "owner_id" => match owner(&json) {
                Ok(owner) => {
                    read.owner = Some(owner);
                    continue;
                }
                Err(refusal) => refusal,
            },
            "tenant_id" if json == Json::String(tenant.to_string()) => continue,
            "tenant_id" => {
                Refusal::new("foreign_tenant", "must be left out: it is the caller's own")
            }
            name if READ_ONLY.contains(&name) => continue,
            name if module.computed_at(name).is_some() => continue,
            name => unknown(module, name),
        };
        read.refused.push(refusal.of(&name));
    }
    read.changes.sort_unstable_by_key(|(position, _)| *position);
    read
}

fn owner(json: &Json) -> Result<Option<UserId>, Refusal> {
    match json {
        Json::Null => Ok(None),
        Json::String(text) => rule::uuid(text).map(|id| Some(UserId(id))),
        _ => Err(Refusal::new(
            "wrong_type",
            "must be the id of a user, or null",
        )),
    }
}

fn required(name: &str) -> FieldError {
    FieldError::new(name, "required", "is required")
}

fn unknown(module: &CompiledModule, name: &str) -> Refusal {
    let known = module.fields().iter().map(|field| field.name.as_str());
    let hint = match suggestion(name, known.chain(["owner_id"])) {
        Some(close) => format!("; did you mean `{close}`?"),
        None => String::new(),
    };
    Refusal::new(
        "unknown_field",
        format!("is not a field of {}{hint}", module.name()),
    )
}
