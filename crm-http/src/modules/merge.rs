//! Duplicates, and merging them.

use crm_core::id::RecordId;
use crm_core::record::{Merge, Query, Write};
use crm_core::{Delete, Error, FieldError, Read, Update};
use poem::http::StatusCode;
use poem::{Request, Response};
use serde_json::{Map, Value, json};

use super::{Handler, body, condition, query, record_id};
use crate::problem::Problem;

/// The path segment below a collection, and below a record.
pub(super) const DUPLICATES: &str = "duplicates";
pub(super) const MERGE: &str = "merge";

impl Handler<'_> {
    pub(super) async fn duplicates(&self, request: &Request) -> Result<Response, Problem> {
        let permit = self.scope.permit::<Read>(self.name())?;
        let (limit, cursor) = query::page(request, Query::DEFAULT_LIMIT)?;
        let records = self.exchange.app.crm.records();
        let page = records
            .duplicates(&permit, limit, cursor.as_deref())
            .await?;
        body(StatusCode::OK, &page)
    }

    pub(super) async fn duplicates_of(
        &self,
        request: &Request,
        id: RecordId,
    ) -> Result<Response, Problem> {
        let permit = self.scope.permit::<Read>(self.name())?;
        query::refuse_any(request)?;
        let records = self.exchange.app.crm.records();
        let groups = records.duplicates_of(&permit, id).await?;
        body(StatusCode::OK, &json!({"data": groups}))
    }

    pub(super) async fn merge(&self, request: Request, id: RecordId) -> Result<Response, Problem> {
        let update = self.scope.permit::<Update>(self.name())?;
        let delete = self.scope.permit::<Delete>(self.name())?;
        let read = self.scope.permit::<Read>(self.name())?;
        query::refuse_any(&request)?;
        let expected = condition::expected(request.headers())?;
        let (sent, once) = self.sent(request).await?;
        let write = Write::merge(&read, &update, &delete, id, expected, merge(sent)?)?;
        self.one(once, write).await
    }
}

/// Reads `{from, take, versions}`.
fn merge(mut sent: Map<String, Value>) -> Result<Merge, Problem> {
    let (mut merge, mut refused) = (Merge::default(), Vec::new());
    from(sent.remove("from"), &mut merge, &mut refused);
    take(sent.remove("take"), &mut merge, &mut refused);
    versions(sent.remove("versions"), &mut merge, &mut refused);
    if let Some(name) = sent.keys().next() {
        let message = "A merge has from, take and versions only.";
        refused.push(FieldError::new(name, "unknown_field", message));
    }
    match refused.is_empty() {
        true => Ok(merge),
        false => Err(Error::Invalid(refused).into()),
    }
}

/// The records that are merged into the one.
fn from(sent: Option<Value>, merge: &mut Merge, refused: &mut Vec<FieldError>) {
    let Some(Value::Array(ids)) = sent else {
        refused.push(FieldError::new("from", "required", "Give a list of ids."));
        return;
    };
    for (at, value) in ids.iter().enumerate() {
        match id(value) {
            Some(id) => merge.from.push((id, None)),
            None => {
                let message = "Give the id of a record.";
                refused.push(FieldError::new(&at.to_string(), "invalid", message).under("/from"));
            }
        }
    }
}

/// Whose values it takes, by fields.
fn take(sent: Option<Value>, merge: &mut Merge, refused: &mut Vec<FieldError>) {
    let take = match sent {
        None => return,
        Some(Value::Object(take)) => take,
        Some(_) => {
            refused.push(FieldError::new(
                "take",
                "wrong_type",
                "Give fields with ids.",
            ));
            return;
        }
    };
    for (name, value) in take {
        match id(&value) {
            Some(id) => merge.take.push((name, id)),
            None => {
                let message = "Give the id of the record that has the value.";
                refused.push(FieldError::new(&name, "invalid", message).under("/take"));
            }
        }
    }
}

/// The versions that the records must have, behind their ids.
fn versions(sent: Option<Value>, merge: &mut Merge, refused: &mut Vec<FieldError>) {
    let versions = match sent {
        None => return,
        Some(Value::Object(versions)) => versions,
        Some(_) => {
            let message = "Give ids with versions.";
            refused.push(FieldError::new("versions", "wrong_type", message));
            return;
        }
    };
    for (name, value) in versions {
        let known = record_id(&name);
        let known = merge.from.iter_mut().find(|(id, _)| Some(*id) == known);
        let (code, message) = match (known, value.as_i64()) {
            (Some((_, version)), Some(number)) => {
                *version = Some(number);
                continue;
            }
            (None, _) => ("unknown_reference", "Name the ids of from only."),
            (_, None) => ("wrong_type", "A version is a number."),
        };
        refused.push(FieldError::new(&name, code, message).under("/versions"));
    }
}

fn id(value: &Value) -> Option<RecordId> {
    value.as_str().and_then(record_id)
}
