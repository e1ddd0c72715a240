//! Bulk writes: `{filter, set, expected_count}` changes what matches, `{filter, expected_count}`
//! deletes it.

use crm_core::record::{Filter, Many, Matched, Once, Reply};
use crm_core::{Delete, Error, FieldError, Read, Update};
use poem::http::StatusCode;
use poem::{Request, Response};
use serde_json::{Map, Value, json};

use super::{Handler, query};
use crate::problem::Problem;

/// The path segments below a collection.
pub(super) const BULK_UPDATE: &str = "bulk-update";
pub(super) const BULK_DELETE: &str = "bulk-delete";

impl Handler<'_> {
    pub(super) async fn bulk_update(&self, request: Request) -> Result<Response, Problem> {
        let update = self.scope.permit::<Update>(self.name())?;
        let read = self.scope.permit::<Read>(self.name())?;
        query::refuse_any(&request)?;
        let (mut body, once) = self.sent(request).await?;
        let set = match body.remove("set") {
            Some(Value::Object(set)) => set,
            _ => {
                let message = "Give the fields to set as a JSON object.";
                return Err(Error::invalid("set", "required", message).into());
            }
        };
        let (filter, expected) = self.which(body, "filter, set and expected_count")?;
        let many = Many::update(&read, &update, filter, set, expected)?;
        self.many(many, once).await
    }

    pub(super) async fn bulk_delete(&self, request: Request) -> Result<Response, Problem> {
        let delete = self.scope.permit::<Delete>(self.name())?;
        let read = self.scope.permit::<Read>(self.name())?;
        query::refuse_any(&request)?;
        let (body, once) = self.sent(request).await?;
        let (filter, expected) = self.which(body, "filter and expected_count")?;
        let many = Many::delete(&read, &delete, filter, expected)?;
        self.many(many, once).await
    }

    async fn many(&self, many: Many, once: Option<Once>) -> Result<Response, Problem> {
        let reply = |Matched { matched, changed }| {
            Ok(Reply {
                status: StatusCode::OK.as_u16(),
                record: None,
                body: Some(json!({"matched": matched, "changed": changed}).to_string()),
            })
        };
        let records = self.exchange.app.crm.records();
        let answered = records.perform_many(many, once, reply).await;
        self.answered(answered).await
    }

    /// The condition, and how many records are expected to match it.
    fn which(
        &self,
        mut body: Map<String, Value>,
        known: &str,
    ) -> Result<(Filter, Option<u64>), Problem> {
        let mut refused = Vec::new();
        let filter = match body.remove("filter") {
            Some(Value::Object(filter)) if !filter.is_empty() => {
                let filter = Filter::from_member_for(&self.scope, &self.module, &filter);
                filter.map_err(|errors| refused.extend(errors)).ok()
            }
            _ => {
                let message = "Say which records, by at least one condition.";
                refused.push(FieldError::new("filter", "required", message));
                None
            }
        };
        let expected = match body.remove("expected_count") {
            None => None,
            Some(count) => {
                let number = count.as_u64();
                if number.is_none() {
                    let message = "This must be a whole number.";
                    refused.push(FieldError::new("expected_count", "wrong_type", message));
                }
                number
            }
        };
        if let Some(name) = body.keys().next() {
            let message = format!("This takes {known} only.");
            refused.push(FieldError::new(name, "unknown_field", message));
        }
        match filter {
            Some(filter) if refused.is_empty() => Ok((filter, expected)),
            _ => Err(Error::Invalid(refused).into()),
        }
    }
}
