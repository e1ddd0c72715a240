//! One suite for every module: what a declaration promises, tried on a registered module through
//! the public interface, with bodies made from the declaration itself.
//!
//! An application's own modules are held to it in its own tests:
//!
//! ```no_run
//! # async fn test(crm: crm_core::Crm) -> Result<(), Box<dyn std::error::Error>> {
//! crm_core::testing::module_suite(&crm, "companies").await?;
//! # Ok(()) }
//! ```

mod promises;
pub(in crate::testing) mod sample;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::future::BoxFuture;
use serde_json::{Map, Value as Json};

use crate::crm::Crm;
use crate::error::{Error, Result};
use crate::id::{RecordId, TenantId};
use crate::module::{CompiledModule, FieldSpec, FieldType, MachineSpec, MoneyCurrency};
use crate::record::{Filter, Query, Record};
use crate::scope::{Create, Delete, Read, RequestContext, Scope, Update};

/// Tries every promise of the module called `name`, in two new tenants of this database.
///
/// # Errors
/// [`Broken`] for the first promise that does not hold, with what happened instead.
pub async fn module_suite(crm: &Crm, name: &str) -> Result<(), Broken> {
    let suite = Suite::new(crm, name)
        .await
        .map_err(|Failure(detail)| Broken {
            module: name.to_owned(),
            promise: "it is registered, and tenants can be made",
            detail,
        })?;
    for (promise, attempt) in promises::ALL {
        attempt(&suite).await.map_err(|Failure(detail)| Broken {
            module: name.to_owned(),
            promise,
            detail,
        })?;
    }
    Ok(())
}

/// A promise that does not hold.
#[derive(Debug, thiserror::Error)]
#[error("{module}: not true that {promise}: {detail}")]
pub struct Broken {
    /// The module.
    pub module: String,
    /// What was promised.
    pub promise: &'static str,
    /// What happened instead.
    pub detail: String,
}

/// What happened instead of what was promised.
struct Failure(String);

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self(format!("{}: {error}", error.code()))
    }
}

type Outcome<T = ()> = Result<T, Failure>;

fn hold(promised: bool, otherwise: impl fmt::Display) -> Outcome {
    if promised {
        Ok(())
    } else {
        Err(Failure(otherwise.to_string()))
    }
}

/// The work was refused with this code.
fn refused<T>(outcome: Result<T>, code: &str, what: impl fmt::Display) -> Outcome<Error> {
    match outcome {
        Ok(_) => Err(Failure(format!(
            "{what} was not refused, but must be ({code})"
        ))),
        Err(error) if error.code() == code => Ok(error),
        Err(error) => Err(Failure(format!(
            "{what} was refused as {}, but must be as {code}",
            error.code()
        ))),
    }
}

struct Suite {
    crm: Crm,
    module: Arc<CompiledModule>,
    ours: Scope,
    theirs: Scope,
    count: AtomicU64,
}

impl Suite {
    async fn new(crm: &Crm, name: &str) -> Outcome<Self> {
        let module = crm.registry().get(name).cloned();
        let module = module.ok_or_else(|| Failure(format!("there is no module {name}")))?;
        Ok(Self {
            crm: crm.clone(),
            module,
            ours: tenant(crm, "ours").await?,
            theirs: tenant(crm, "theirs").await?,
            count: AtomicU64::new(1),
        })
    }

    fn name(&self) -> &str {
        self.module.name().as_str()
    }

    fn next(&self) -> u64 {
        self.count.fetch_add(1, Ordering::Relaxed)
    }

    /// A valid body with a value for each field that clients set and `wanted` picks; references are
    /// to new records.
    async fn body(
        &self,
        scope: &Scope,
        wanted: impl Fn(&FieldSpec) -> bool,
    ) -> Outcome<Map<String, Json>> {
        let mut body = Map::new();
        for field in self.module.writable().filter(|field| wanted(field)) {
            if let Some(value) = self.value(scope, &self.module, field, 0).await? {
                body.insert(field.name.to_string(), value);
            }
        }
        Ok(body)
    }

    async fn full_body(&self, scope: &Scope) -> Outcome<Map<String, Json>> {
        self.body(scope, |_| true).await
    }

    /// A new value for the field; none for an optional reference that leads ever deeper.
    async fn value(
        &self,
        scope: &Scope,
        module: &CompiledModule,
        field: &FieldSpec,
        depth: u8,
    ) -> Outcome<Option<Json>> {
        let machine = machine(module, field);
        if let Some(initial) = machine.and_then(|machine| machine.initial.first()) {
            return Ok(Some(Json::from(initial.as_str())));
        }
        let Some(target) = field.kind.targets().first() else {
            return Ok(Some(sample::of(&field.kind, self.next())));
        };
        if depth > 2 && !field.required {
            return Ok(None);
        }
        let id = self.related(scope, target.as_str(), depth + 1).await?;
        Ok(Some(match &field.kind {
            FieldType::References { .. } => Json::from(vec![id.to_string()]),
            FieldType::AnyReference { .. } => Json::from(format!("{target}/{id}")),
            _ => Json::from(id.to_string()),
        }))
    }

    /// A new record of another module, with what it needs, and a currency for amounts that copy it.
    fn related<'s>(
        &'s self,
        scope: &'s Scope,
        name: &'s str,
        depth: u8,
    ) -> BoxFuture<'s, Outcome<RecordId>> {
        Box::pin(async move {
            let permit = scope.permit::<Create>(name)?;
            let module = permit.module()?.clone();
            let mut body = Map::new();
            let wanted = |field: &&FieldSpec| field.required || field.kind == FieldType::Currency;
            for field in module.writable().filter(wanted) {
                if let Some(value) = self.value(scope, &module, field, depth).await? {
                    body.insert(field.name.to_string(), value);
                }
            }
            Ok(self.crm.records().create(&permit, body).await?.id)
        })
    }

    /// Whether no record is made without a value for the field.
    fn needs(&self, field: &FieldSpec) -> bool {
        needs(&self.module, field)
    }

    async fn made(&self, scope: &Scope) -> Outcome<Record> {
        let body = self.full_body(scope).await?;
        Ok(self.create(scope, body).await?)
    }

    async fn create(&self, scope: &Scope, body: Map<String, Json>) -> Result<Record> {
        let permit = scope.permit::<Create>(self.name())?;
        self.crm.records().create(&permit, body).await
    }

    async fn update(
        &self,
        scope: &Scope,
        id: RecordId,
        version: Option<i64>,
        body: Map<String, Json>,
    ) -> Result<Record> {
        let permit = scope.permit::<Update>(self.name())?;
        self.crm.records().update(&permit, id, version, body).await
    }

    async fn delete(&self, scope: &Scope, id: RecordId) -> Result<()> {
        let permit = scope.permit::<Delete>(self.name())?;
        self.crm.records().delete(&permit, id, None).await
    }

    async fn get(&self, scope: &Scope, id: RecordId) -> Result<Record> {
        let permit = scope.permit::<Read>(self.name())?;
        self.crm.records().get(&permit, id).await
    }

    /// The ids of all that the query finds, page by page.
    async fn ids(&self, scope: &Scope, mut query: Query) -> Result<Vec<RecordId>> {
        let permit = scope.permit::<Read>(self.name())?;
        let mut ids = Vec::new();
        loop {
            let page = self.crm.records().list(&permit, &query).await?;
            ids.extend(page.data.iter().map(|record| record.id));
            if page.next_cursor.is_none() {
                return Ok(ids);
            }
            query.cursor = page.next_cursor;
        }
    }

    /// The ids of what `field[op]=text` finds.
    async fn found(
        &self,
        scope: &Scope,
        field: &str,
        op: &str,
        text: &str,
    ) -> Result<Vec<RecordId>> {
        let filter = Filter::parse(&self.module, field, op, text)
            .map_err(|refused| Error::Invalid(vec![refused]))?;
        let query = Query {
            filter: Some(filter),
            ..Query::default()
        };
        self.ids(scope, query).await
    }
}

/// The state machine that governs the field.
pub(in crate::testing) fn machine<'m>(
    module: &'m CompiledModule,
    field: &FieldSpec,
) -> Option<&'m MachineSpec> {
    let mut machines = module.spec().machines.iter();
    machines.find(|machine| machine.field == field.name)
}

async fn tenant(crm: &Crm, name: &str) -> Result<Scope> {
    let name = format!("{name} {}", crm.clock().new_id().simple());
    let tenant: TenantId = crm.tenants().create(&name, request()).await?.id;
    Ok(crm.operator(tenant, request()))
}

fn request() -> RequestContext {
    RequestContext {
        id: "module-suite".into(),
        address: None,
    }
}

/// Whether no record is made without a value for the field: it is required, or the currency of an
/// amount that is always there.
fn needs(module: &CompiledModule, field: &FieldSpec) -> bool {
    let amounts = || {
        let mut fields = module.fields().iter();
        fields.any(|amount| {
            let always = amount.required || amount.default.is_some();
            let FieldType::Money { currency, .. } = &amount.kind else {
                return false;
            };
            always && *currency == MoneyCurrency::Field(field.name.clone())
        })
    };
    field.required_on_create() || field.default.is_none() && amounts()
}
