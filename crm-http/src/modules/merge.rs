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
    let mut refuse = |pointer: String, code, message: &str| {
        refused.push(FieldError {
            pointer,
            code,
            message: message.to_owned(),
        });
    };
    let id = |value: &Value| value.as_str().and_then(record_id);
    match sent.remove("from") {
        Some(Value::Array(ids)) => {
            for (at, value) in ids.iter().enumerate() {
                match id(value) {
                    Some(id) => merge.from.push((id, None)),
                    None => refuse(format!("/from/{at}"), "invalid", "Give the id of a record."),
                }
            }
        }
        _ => refuse("/from".into(), "required", "Give a list of ids."),
    }
    match sent.remove("take") {
        None => {}
        Some(Value::Object(take)) => {
            for (name, value) in take {
                match id(&value) {
                    Some(id) => merge.take.push((name, id)),
                    None => {
                        let place = FieldError::pointer_to(&name);
                        let message = "Give the id of the record that has the value.";
                        refuse(format!("/take{place}"), "invalid", message);
                    }
                }
            }
        }
        Some(_) => refuse("/take".into(), "wrong_type", "Give fields with ids."),
    }
    match sent.remove("versions") {
        None => {}
        Some(Value::Object(versions)) => {
            for (name, value) in versions {
                let place = FieldError::pointer_to(&name);
                let known = record_id(&name);
                let known = merge.from.iter_mut().find(|(id, _)| Some(*id) == known);
                match (known, value.as_i64()) {
                    (Some((_, version)), Some(number)) => *version = Some(number),
                    (None, _) => {
                        let message = "Name the ids of from only.";
                        refuse(format!("/versions{place}"), "unknown_reference", message);
                    }
                    (_, None) => {
                        let message = "A version is a number.";
                        refuse(format!("/versions{place}"), "wrong_type", message);
                    }
                }
            }
        }
        Some(_) => refuse("/versions".into(), "wrong_type", "Give ids with versions."),
    }
    if let Some(name) = sent.keys().next() {
        let place = FieldError::pointer_to(name);
        refuse(
            place,
            "unknown_field",
            "A merge has from, take and versions only.",
        );
    }
    match refused.is_empty() {
        true => Ok(merge),
        false => Err(Error::Invalid(refused).into()),
    }
}
