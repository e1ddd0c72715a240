//! Writing records: one, one by its unique value, or a batch.
//!
//! Every write is performed by the library in one transaction together with the answer to it, which
//! is made here.

use std::future::ready;

use crm_core::id::RecordId;
use crm_core::module::CompiledModule;
use crm_core::record::{Answered, Expected, Key, Once, Refused, Reply, Work, Write, Written};
use crm_core::{Create, Delete, Error, FieldError, Permit, Scope, Update};
use poem::http::header::{CONTENT_TYPE, ETAG, LOCATION};
use poem::http::{HeaderName, HeaderValue, StatusCode};
use poem::{Request, Response};
use serde_json::{Map, Value};

use super::{BASE, Handler, condition, query, record_id};
use crate::json;
use crate::problem::Problem;

/// The path segments below a collection that take several or known records.
pub(super) const UPSERT: &str = "upsert";
pub(super) const BATCH: &str = "batch";

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

impl Handler<'_> {
    pub(super) async fn create(&self, request: Request) -> Result<Response, Problem> {
        let permit = self.scope.permit::<Create>(self.name())?;
        query::refuse_any(&request)?;
        let (values, once) = self.sent(request).await?;
        self.one(once, Write::create(&permit, values)?).await
    }

    pub(super) async fn update(&self, request: Request, id: RecordId) -> Result<Response, Problem> {
        let permit = self.scope.permit::<Update>(self.name())?;
        query::refuse_any(&request)?;
        let expected = condition::expected(request.headers())?;
        let (values, once) = self.sent(request).await?;
        self.one(once, Write::update(&permit, id, expected, values)?)
            .await
    }

    pub(super) async fn delete(&self, request: Request, id: RecordId) -> Result<Response, Problem> {
        let permit = self.scope.permit::<Delete>(self.name())?;
        query::refuse_any(&request)?;
        let expected = condition::expected(request.headers())?;
        let once = self.once(&request, &[])?;
        self.one(once, Write::delete(&permit, id, expected)?).await
    }

    pub(super) async fn upsert(&self, request: Request) -> Result<Response, Problem> {
        let create = self.scope.permit::<Create>(self.name())?;
        let update = self.scope.permit::<Update>(self.name())?;
        let key = Key::named(&self.module, &query::only(&request, "by")?)?;
        let (values, once) = self.sent(request).await?;
        self.one(once, Write::upsert(&create, &update, key, values)?)
            .await
    }

    pub(super) async fn batch(&self, request: Request) -> Result<Response, Problem> {
        let rights = Rights::of(&self.scope, &self.module)?;
        query::refuse_any(&request)?;
        let (body, once) = self.sent(request).await?;
        let (atomic, operations) = operations(body)?;
        let writes = operations.into_iter().map(|one| rights.write(one));
        let work = match atomic {
            true => Work::All(writes.collect()),
            false => Work::Each(writes.collect()),
        };
        let (scope, request_id) = (self.scope.clone(), self.scope.request().id.clone());
        let reply = move |outcomes: Vec<crm_core::Result<Written>>| {
            let results = outcomes
                .into_iter()
                .map(|outcome| result(outcome, &scope, &request_id));
            let results = results.collect::<crm_core::Result<Vec<Value>>>()?;
            Ok(Reply {
                status: StatusCode::OK.as_u16(),
                record: None,
                body: Some(serde_json::json!({"results": results}).to_string()),
            })
        };
        self.perform(work, once, reply).await
    }

    /// Does one write and answers the record, as far as the caller may read it.
    pub(super) async fn one(&self, once: Option<Once>, write: Write) -> Result<Response, Problem> {
        let scope = self.scope.clone();
        let reply = move |outcomes: Vec<crm_core::Result<Written>>| {
            let outcome = outcomes.into_iter().next().ok_or(Error::NotFound)?;
            let Written { kind, record } = outcome?;
            let status = status(kind);
            if status == StatusCode::NO_CONTENT {
                return Ok(Reply {
                    status: status.as_u16(),
                    record: None,
                    body: None,
                });
            }
            let body = serde_json::to_string(&record.shown(&scope)).map_err(Error::internal)?;
            Ok(Reply::about(status.as_u16(), &record, Some(body)))
        };
        self.perform(Work::One(write), once, reply).await
    }

    async fn perform<F>(
        &self,
        work: Work,
        once: Option<Once>,
        reply: F,
    ) -> Result<Response, Problem>
    where
        F: Fn(Vec<crm_core::Result<Written>>) -> crm_core::Result<Reply> + Send + Sync + 'static,
    {
        let records = self.exchange.app.crm.records();
        let answered = records.perform(&self.scope, work, once, reply).await;
        self.answered(answered).await
    }

    /// The response to what became of a request.
    pub(super) async fn answered(
        &self,
        answered: Result<Answered, Refused>,
    ) -> Result<Response, Problem> {
        match answered {
            Ok(answered) => told(answered, |reply| ready(self.answer(reply))).await,
            Err(refused) => Err(match refused.index {
                None => refused.error.into(),
                Some(index) => {
                    let place = format!("/operations/{index}");
                    let problem = of_operation(refused.error.under(&place)).at(place);
                    problem.about(&format!("operation {index}, counted from 0"))
                }
            }),
        }
    }

    /// The body, and the key of a request that carries one.
    pub(super) async fn sent(
        &self,
        mut request: Request,
    ) -> Result<(Map<String, Value>, Option<Once>), Problem> {
        let limit = self.exchange.app.options.body_limit;
        let body = request.take_body();
        let (values, text) = json::read_object_and_text(request.headers(), body, limit).await?;
        let once = self.once(&request, &text)?;
        Ok((values, once))
    }

    pub(super) fn once(&self, request: &Request, body: &[u8]) -> Result<Option<Once>, Problem> {
        let mut keys = request.headers().get_all(IDEMPOTENCY_KEY).iter();
        let Some(key) = keys.next() else {
            return Ok(None);
        };
        // Neither two keys nor one that is no text are a key.
        let key = match keys.next() {
            None => key.to_str().unwrap_or_default(),
            Some(_) => "",
        };
        let uri = request.uri();
        let parts = [
            request.method().as_str().as_bytes(),
            uri.path().as_bytes(),
            uri.query().unwrap_or_default().as_bytes(),
            body,
        ];
        Ok(Some(Once::new(&self.scope, key, parts)?))
    }

    fn answer(&self, reply: Reply) -> Result<Response, Problem> {
        let status = StatusCode::from_u16(reply.status).map_err(Error::internal)?;
        let mut response = Response::builder().status(status).finish();
        if let Some(body) = reply.body {
            response.set_body(body);
            let media_type = const { HeaderValue::from_static("application/json") };
            response.headers_mut().insert(CONTENT_TYPE, media_type);
        }
        let Some((id, version)) = reply.record else {
            return Ok(response);
        };
        let headers = response.headers_mut();
        if let Ok(tag) = HeaderValue::try_from(format!("\"{version}\"")) {
            headers.insert(ETAG, tag);
        }
        let base = &self.exchange.app.options.public_url;
        let location = format!("{base}{BASE}{}/{id}", self.module.name());
        if status == StatusCode::CREATED
            && let Ok(location) = HeaderValue::try_from(location)
        {
            headers.insert(LOCATION, location);
        }
        Ok(response)
    }
}

fn status(kind: crm_core::event::ChangeKind) -> StatusCode {
    use crm_core::event::ChangeKind;

    match kind {
        ChangeKind::Created => StatusCode::CREATED,
        ChangeKind::Updated | ChangeKind::Restored | ChangeKind::Merged => StatusCode::OK,
        ChangeKind::Deleted | ChangeKind::Purged => StatusCode::NO_CONTENT,
    }
}

/// The refusal of one operation of a batch: it has no headers, but members.
fn of_operation(error: Error) -> Problem {
    match error {
        Error::PreconditionRequired => Problem::new(
            StatusCode::PRECONDITION_REQUIRED,
            "precondition_required",
            "say which version of the record you mean, as you read it, in the operation's member \
             `version`",
        ),
        error => error.into(),
    }
}

/// The outcome of one operation of a batch.
fn result(
    outcome: crm_core::Result<Written>,
    scope: &Scope,
    request_id: &str,
) -> crm_core::Result<Value> {
    match outcome {
        Ok(Written { kind, record }) => {
            let status = status(kind);
            let mut result = serde_json::json!({"status": status.as_u16()});
            if status != StatusCode::NO_CONTENT {
                result["record"] =
                    serde_json::to_value(record.shown(scope)).map_err(Error::internal)?;
            }
            Ok(result)
        }
        Err(error) => {
            let problem = of_operation(error);
            problem.log(request_id);
            Ok(problem.result())
        }
    }
}

/// What the caller may do to the records of the module.
struct Rights<'a> {
    module: &'a CompiledModule,
    create: crm_core::Result<Permit<Create>>,
    update: crm_core::Result<Permit<Update>>,
    delete: crm_core::Result<Permit<Delete>>,
}

/// A right, or the same refusal as often as it is asked for.
fn held<A>(right: &crm_core::Result<Permit<A>>) -> crm_core::Result<&Permit<A>> {
    right.as_ref().map_err(|error| match error {
        Error::Forbidden { permission } => Error::Forbidden {
            permission: permission.clone(),
        },
        _ => Error::NotFound,
    })
}

impl<'a> Rights<'a> {
    /// # Errors
    /// 403 for whoever may write nothing.
    fn of(scope: &Scope, module: &'a CompiledModule) -> Result<Self, Problem> {
        let name = module.name().as_str();
        let rights = Self {
            module,
            create: scope.permit(name),
            update: scope.permit(name),
            delete: scope.permit(name),
        };
        if rights.update.is_err() && rights.delete.is_err() {
            held(&rights.create)?;
        }
        Ok(rights)
    }

    /// The write that one operation of a batch asks for.
    fn write(&self, operation: Value) -> crm_core::Result<Write> {
        let Value::Object(mut operation) = operation else {
            return Err(refused(
                "",
                "wrong_type",
                "An operation must be a JSON object.",
            ));
        };
        let op = match operation.remove("op") {
            Some(Value::String(op)) => op,
            _ => String::new(),
        };
        let known: &[&str] = match op.as_str() {
            "create" => &["values"],
            "update" => &["id", "version", "values"],
            "delete" => &["id", "version"],
            "upsert" => &["by", "values"],
            _ => {
                let message = "Use create, update, delete or upsert.";
                return Err(refused("/op", "invalid", message));
            }
        };
        if let Some(name) = operation
            .keys()
            .find(|name| !known.contains(&name.as_str()))
        {
            let message = format!("The operation {op} takes {}.", known.join(", "));
            return Err(Error::invalid(name, "unknown_field", message));
        }
        let under = |error: Error| error.under("/values");
        match op.as_str() {
            "create" => {
                let permit = held(&self.create)?;
                Write::create(permit, values(&mut operation)?).map_err(under)
            }
            "update" => {
                let permit = held(&self.update)?;
                let (id, expected) = target(&operation)?;
                Write::update(permit, id, expected, values(&mut operation)?).map_err(under)
            }
            "delete" => {
                let permit = held(&self.delete)?;
                let (id, expected) = target(&operation)?;
                Write::delete(permit, id, expected)
            }
            _ => {
                let (create, update) = (held(&self.create)?, held(&self.update)?);
                let by = operation.get("by").and_then(Value::as_str);
                let by = Key::named(self.module, by.unwrap_or_default())?;
                Write::upsert(create, update, by, values(&mut operation)?).map_err(under)
            }
        }
    }
}

fn refused(pointer: &str, code: &'static str, message: &str) -> Error {
    Error::Invalid(vec![FieldError {
        pointer: pointer.into(),
        code,
        message: message.into(),
    }])
}

fn values(operation: &mut Map<String, Value>) -> crm_core::Result<Map<String, Value>> {
    match operation.remove("values") {
        Some(Value::Object(values)) => Ok(values),
        _ => Err(refused(
            "/values",
            "wrong_type",
            "Give the values as a JSON object.",
        )),
    }
}

/// The record that an operation is about, and the version it is meant for.
fn target(operation: &Map<String, Value>) -> crm_core::Result<(RecordId, Expected)> {
    let id = operation.get("id").and_then(Value::as_str);
    let id = id
        .and_then(record_id)
        .ok_or_else(|| refused("/id", "invalid", "Give the id of a record."))?;
    let expected = match operation.get("version") {
        None => Expected::Any,
        Some(version) => match version.as_i64() {
            Some(version) => Expected::OneOf(vec![version]),
            None => return Err(refused("/version", "wrong_type", "A version is a number.")),
        },
    };
    Ok((id, expected))
}

/// The members of a batch.
fn operations(mut body: Map<String, Value>) -> Result<(bool, Vec<Value>), Problem> {
    let atomic = match body.remove("atomic") {
        Some(Value::Bool(atomic)) => atomic,
        _ => {
            let message = "Say whether all or none shall be done (true), or each that can be.";
            return Err(refused("/atomic", "required", message).into());
        }
    };
    let Some(Value::Array(operations)) = body.remove("operations") else {
        return Err(refused("/operations", "required", "Give a list of operations.").into());
    };
    if let Some(name) = body.keys().next() {
        let message = "A batch has atomic and operations only.";
        return Err(Error::invalid(name, "unknown_field", message).into());
    }
    Ok((atomic, operations))
}

/// The response to a request that is done once: made from what was done, and marked when that was
/// before.
pub(super) async fn told<T, F>(
    answered: Answered<T>,
    response: impl FnOnce(T) -> F,
) -> Result<Response, Problem>
where
    F: Future<Output = Result<Response, Problem>>,
{
    match answered {
        Answered::Now(done) => response(done).await,
        Answered::Before(done) => response(done).await.map(replayed),
        Answered::KeyReused => Err(key_reused()),
        Answered::UnderWay => Err(under_way()),
    }
}

/// An answer that was given before.
fn replayed(mut response: Response) -> Response {
    let replayed = const { HeaderValue::from_static("true") };
    response
        .headers_mut()
        .insert(IDEMPOTENCY_REPLAYED, replayed);
    response
}

fn key_reused() -> Problem {
    Problem::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "idempotency_key_reused",
        "another request has this Idempotency-Key; choose a new one for each request",
    )
}

fn under_way() -> Problem {
    Problem::new(
        StatusCode::CONFLICT,
        "request_under_way",
        "this request began before under its Idempotency-Key and has not ended; ask again with the same \
         key for its answer. When that never comes, its process was stopped in the middle: see what was \
         done before asking with a new key",
    )
}
