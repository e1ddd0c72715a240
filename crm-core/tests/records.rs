//! What records promise, on both databases, through the public interface only. Here is what the
//! tests share.

use std::sync::{Arc, Mutex};

use anyhow::Context;
use chrono::{DateTime, TimeDelta};
use crm_core::clock::Clock;
use crm_core::event::Event;
use crm_core::id::{RecordId, TenantId, UserId};
use crm_core::identity::{NewUser, PasswordCost};
use crm_core::module::{ModuleSpec, default_modules};
use crm_core::record::{Count, Direction, Field, Filter, Query, Record, Sort};
use crm_core::testing::Backend;
use crm_core::{
    AuditQuery, Create, Crm, DatabaseOptions, Delete, Error, Permit, Read, RequestContext, Scope,
    Subscriber, Update, on_both_databases,
};
use futures::future::BoxFuture;
use proptest::prelude::*;
use secrecy::SecretString;
use serde_json::{Map, Value as Json, json};

#[path = "records/activity.rs"]
mod activity;
#[path = "records/amounts.rs"]
mod amounts;
#[path = "records/bulk_filter.rs"]
mod bulk_filter;
#[path = "records/completed.rs"]
mod completed;
#[path = "records/count.rs"]
mod count;
#[path = "records/custom.rs"]
mod custom;
#[path = "records/custom_computed.rs"]
mod custom_computed;
#[path = "records/custom_copied.rs"]
mod custom_copied;
#[path = "records/custom_declaration.rs"]
mod custom_declaration;
#[path = "records/custom_machine.rs"]
mod custom_machine;
#[path = "records/custom_machine_declaration.rs"]
mod custom_machine_declaration;
#[path = "records/custom_module.rs"]
mod custom_module;
#[path = "records/custom_query.rs"]
mod custom_query;
#[path = "records/custom_reference.rs"]
mod custom_reference;
#[path = "records/custom_reference_declaration.rs"]
mod custom_reference_declaration;
#[path = "records/custom_reference_follow.rs"]
mod custom_reference_follow;
#[path = "records/custom_rules.rs"]
mod custom_rules;
#[path = "records/custom_trash.rs"]
mod custom_trash;
#[path = "records/custom_trash_writes.rs"]
mod custom_trash_writes;
#[path = "records/deals.rs"]
mod deals;
#[path = "records/derived.rs"]
mod derived;
#[path = "records/duplicates.rs"]
mod duplicates;
#[path = "records/event.rs"]
mod event;
#[path = "records/expand.rs"]
mod expand;
#[path = "records/field_attacks.rs"]
mod field_attacks;
#[path = "records/field_list_model.rs"]
mod field_list_model;
#[path = "records/field_list_role.rs"]
mod field_list_role;
#[path = "records/field_lists.rs"]
mod field_lists;
#[path = "records/figures.rs"]
mod figures;
#[path = "records/filter_references.rs"]
mod filter_references;
#[path = "records/flags.rs"]
mod flags;
#[path = "records/hooks.rs"]
mod hooks;
#[path = "records/isolation.rs"]
mod isolation;
#[path = "records/links.rs"]
mod links;
#[path = "records/lists.rs"]
mod lists;
#[path = "records/matrix.rs"]
mod matrix;
#[path = "records/merge.rs"]
mod merge;
#[path = "records/merge_reference.rs"]
mod merge_reference;
#[path = "records/module_suite.rs"]
mod module_suite;
#[path = "records/money.rs"]
mod money;
#[path = "records/nearest.rs"]
mod nearest;
#[path = "records/nodes.rs"]
mod nodes;
#[path = "records/page_number.rs"]
mod page_number;
#[path = "records/query.rs"]
mod query;
#[path = "records/record.rs"]
mod record;
#[path = "records/relations.rs"]
mod relations;
#[path = "records/repoint.rs"]
mod repoint;
#[path = "records/review.rs"]
mod review;
#[path = "records/role_systems.rs"]
mod role_systems;
#[path = "records/scope_model.rs"]
mod scope_model;
#[path = "records/scopes.rs"]
mod scopes;
#[path = "records/search.rs"]
mod search;
#[path = "records/search_index.rs"]
mod search_index;
#[path = "records/serial.rs"]
mod serial;
#[path = "records/tags.rs"]
mod tags;
#[path = "records/through.rs"]
mod through;
#[path = "records/transition.rs"]
mod transition;
#[path = "records/trash.rs"]
mod trash;
#[path = "records/trash_module.rs"]
mod trash_module;
#[path = "records/trash_reference.rs"]
mod trash_reference;
#[path = "records/types.rs"]
mod types;
#[path = "records/upsert.rs"]
mod upsert;

type Body = Map<String, Json>;

fn body(json: Json) -> Body {
    json.as_object().cloned().unwrap_or_default()
}

const THINGS: &str = r#"
name = "things"
singular = "thing"
fields = [
    { name = "title", type = "text", sort = true, search = true },
    { name = "email", type = "email" },
    { name = "number", type = "integer", sort = true },
    { name = "price", type = "decimal", precision = 10, scale = 2, sort = true },
    { name = "done", type = "bool" },
    { name = "due", type = "date", sort = true },
    { name = "at", type = "instant", sort = true },
    { name = "stage", type = "enum", values = ["new", "old"] },
    { name = "tags", type = "tags", search = true },
    { name = "extra", type = "json" },
]
"#;

struct Fixture {
    crm: Crm,
    tenant: TenantId,
    _backend: Backend,
}

impl Fixture {
    async fn open(backend: Backend) -> anyhow::Result<Self> {
        Self::with(backend, None).await
    }

    async fn with(
        backend: Backend,
        subscriber: Option<Arc<dyn Subscriber>>,
    ) -> anyhow::Result<Self> {
        Self::built(backend, |builder| match subscriber {
            Some(subscriber) => builder.subscribe(subscriber),
            None => builder,
        })
        .await
    }

    /// An application with more to it.
    async fn built(
        backend: Backend,
        more: impl FnOnce(crm_core::Builder) -> crm_core::Builder,
    ) -> anyhow::Result<Self> {
        let start = DateTime::parse_from_rfc3339("2025-01-15T09:30:00Z")?.to_utc();
        let (clock, _) = Clock::fixed(start, 1);
        let builder = Crm::builder()
            .database(backend.url())
            .database_options(crm_core::testing::database_options())
            .secret(SecretString::from("0123456789abcdef0123456789abcdef"))
            .clock(clock)
            .password_cost(PasswordCost::LOWEST)
            .modules(default_modules())
            .modules([
                ModuleSpec::from_toml(THINGS)?,
                ModuleSpec::from_toml(query::BOXES)?,
                ModuleSpec::from_toml(search::NOTES)?,
                ModuleSpec::from_toml(custom::BARE)?,
            ]);
        let crm = more(builder).build().await?;
        let tenant = crm.tenants().create("Acme", request()).await?.id;
        Ok(Self {
            crm,
            tenant,
            _backend: backend,
        })
    }

    /// The records of all pages, in the order that they come in.
    async fn paged(
        &self,
        permit: &Permit<Read>,
        mut query: Query,
    ) -> crm_core::Result<Vec<Record>> {
        let mut seen = Vec::new();
        loop {
            let page = self.crm.records().list(permit, &query).await?;
            seen.extend(page.data);
            query.cursor = page.next_cursor;
            if query.cursor.is_none() {
                return Ok(seen);
            }
        }
    }

    fn operator(&self) -> Scope {
        self.crm.operator(self.tenant, request())
    }

    /// A member with this role, and their id.
    async fn member(&self, role: &str) -> anyhow::Result<(Scope, UserId)> {
        let email = format!("{role}{}@acme.example", self.crm.clock().new_id().simple());
        let permit = self.operator().permit::<Create>("members")?;
        let input = NewUser {
            email: email.clone(),
            name: role.to_owned(),
            password: SecretString::from("correct horse battery"),
            roles: vec![role.to_owned()],
        };
        let user = self
            .crm
            .accounts()
            .create_user(&permit, input)
            .await?
            .user_id;
        let token = self
            .crm
            .accounts()
            .operator_token("Acme", &email, request())
            .await?;
        use secrecy::ExposeSecret;
        let scope = self
            .crm
            .authenticate(token.expose_secret(), request())
            .await?;
        Ok((scope, user))
    }

    async fn create(&self, scope: &Scope, module: &str, json: Json) -> crm_core::Result<Record> {
        self.crm
            .records()
            .create(&scope.permit::<Create>(module)?, body(json))
            .await
    }

    async fn update(
        &self,
        scope: &Scope,
        record: &Record,
        version: Option<i64>,
        json: Json,
    ) -> crm_core::Result<Record> {
        let permit = scope.permit::<Update>(record.module().name().as_str())?;
        self.crm
            .records()
            .update(&permit, record.id, version, body(json))
            .await
    }

    async fn delete(&self, scope: &Scope, record: &Record) -> crm_core::Result<()> {
        let permit = scope.permit::<Delete>(record.module().name().as_str())?;
        self.crm.records().delete(&permit, record.id, None).await
    }

    async fn get(&self, scope: &Scope, module: &str, id: RecordId) -> crm_core::Result<Record> {
        self.crm
            .records()
            .get(&scope.permit::<Read>(module)?, id)
            .await
    }

    async fn ids(
        &self,
        scope: &Scope,
        module: &str,
        query: &Query,
    ) -> crm_core::Result<Vec<RecordId>> {
        let page = self
            .crm
            .records()
            .list(&scope.permit::<Read>(module)?, query)
            .await?;
        Ok(page.data.iter().map(|record| record.id).collect())
    }

    async fn audit(&self) -> crm_core::Result<Vec<crm_core::AuditEntry>> {
        let permit = self.operator().permit::<Read>("audit")?;
        let query = AuditQuery {
            limit: Some(100),
            ..AuditQuery::default()
        };
        Ok(self.crm.audit().list(&permit, &query).await?.data)
    }
}

fn request() -> RequestContext {
    RequestContext {
        id: "req-1".into(),
        address: None,
    }
}

fn code<T>(result: crm_core::Result<T>) -> &'static str {
    result.map_or_else(|error| error.code(), |_| "ok")
}

#[derive(Default)]
struct Collector {
    events: Mutex<Vec<Arc<Event>>>,
    refuse: Mutex<Option<RecordId>>,
}

impl Collector {
    fn take(&self) -> Vec<Arc<Event>> {
        std::mem::take(&mut self.events.lock().expect("not poisoned"))
    }

    /// The kinds of the events that came since the last look.
    fn kinds(&self) -> Vec<String> {
        self.take().iter().map(|event| event.kind.clone()).collect()
    }

    fn refuse(&self, record: Option<RecordId>) {
        *self.refuse.lock().expect("not poisoned") = record;
    }
}

impl Subscriber for Collector {
    fn name(&self) -> &'static str {
        "collector"
    }

    fn deliver(&self, event: Arc<Event>) -> BoxFuture<'_, crm_core::Result<()>> {
        Box::pin(async move {
            if *self.refuse.lock().expect("not poisoned") == Some(event.record_id) {
                return Err(Error::unavailable("not now"));
            }
            self.events.lock().expect("not poisoned").push(event);
            Ok(())
        })
    }
}
