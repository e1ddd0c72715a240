//! What import and export promise, and in `job` what background jobs do, on both databases, through
//! the public interface. Here is what their tests share.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in what its scenarios share"
)]

use std::sync::{Arc, Mutex};

use anyhow::{Context, ensure};
use chrono::{DateTime, TimeDelta};
use crm_core::clock::{Clock, Fixed};
use crm_core::id::{JobId, TenantId, UserId};
use crm_core::identity::{NewUser, PasswordCost};
use crm_core::job::{Job, JobContext, JobKind, JobState, Progress};
use crm_core::module::default_modules;
use crm_core::record::{Filter, Query, Record};
use crm_core::testing::Backend;
use crm_core::transfer::{Format, ImportMode, ImportOptions, MappingOption, OnError};
use crm_core::{
    AuditQuery, Create, Crm, Error, Read, RequestContext, Scope, Update, on_both_databases,
};
use futures::future::BoxFuture;
use secrecy::SecretString;
use serde_json::{Value as Json, json};

#[path = "transfer/format.rs"]
mod format;
#[path = "transfer/import.rs"]
mod import;
#[path = "transfer/job.rs"]
mod job;

struct Fixture {
    crm: Crm,
    tenant: TenantId,
    clock: Arc<Fixed>,
    _backend: Backend,
}

fn request() -> RequestContext {
    RequestContext {
        id: "test".into(),
        address: None,
    }
}

impl Fixture {
    async fn open(backend: Backend, kinds: Vec<Arc<dyn JobKind>>) -> anyhow::Result<Self> {
        let start = DateTime::parse_from_rfc3339("2025-01-15T09:30:00Z")?.to_utc();
        let (clock, hands) = Clock::fixed(start, 1);
        let mut builder = Crm::builder()
            .database(backend.url())
            .database_options(crm_core::testing::database_options())
            .secret(SecretString::from("0123456789abcdef0123456789abcdef"))
            .clock(clock)
            .password_cost(PasswordCost::LOWEST)
            .modules(default_modules());
        for kind in kinds {
            builder = builder.job(kind);
        }
        let crm = builder.build().await?;
        let tenant = crm.tenants().create("Acme", request()).await?.id;
        Ok(Self {
            crm,
            tenant,
            clock: hands,
            _backend: backend,
        })
    }

    fn operator(&self) -> Scope {
        self.crm.operator(self.tenant, request())
    }

    async fn member(&self, role: &str) -> anyhow::Result<(Scope, UserId)> {
        let email = format!("{role}{}@acme.example", self.crm.clock().new_id().simple());
        let permit = self.operator().permit::<Create>("members")?;
        let input = NewUser {
            email,
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
        Ok((self.scope(user).await?, user))
    }

    async fn scope(&self, user: UserId) -> anyhow::Result<Scope> {
        let scope = crm_core::testing::scope(&self.crm, self.tenant, user, request()).await?;
        scope.context("a member")
    }

    /// Queues an import of contacts.
    async fn queue(
        &self,
        scope: &Scope,
        options: ImportOptions,
        file: &str,
    ) -> anyhow::Result<JobId> {
        let transfer = self.crm.transfer();
        let mut upload = transfer.import(scope, "contacts", options).await?;
        upload.push(file.as_bytes()).await?;
        Ok(upload.finish().await?)
    }

    /// Imports contacts as the operator, to the end.
    async fn import(&self, options: ImportOptions, file: &str) -> anyhow::Result<Job> {
        let id = self.queue(&self.operator(), options, file).await?;
        self.crm.run_jobs_once().await?;
        Ok(self.crm.jobs().get(&self.operator(), id).await?)
    }

    /// Line and code of each refused field.
    async fn errors(&self, job: &Job) -> anyhow::Result<Vec<String>> {
        let jobs = self.crm.jobs();
        let errors = jobs.errors(&self.operator(), job.id, 0, 1_000).await?;
        let told = |error: &crm_core::job::LineError| {
            format!("{} {} {}", error.line, error.pointer, error.code)
        };
        Ok(errors.iter().map(told).collect())
    }

    async fn contacts(&self, filter: Option<Json>) -> anyhow::Result<Vec<Record>> {
        let permit = self.operator().permit::<Read>("contacts")?;
        let module = self.crm.registry().get("contacts").context("contacts")?;
        let filter = match filter {
            Some(Json::Object(filter)) => {
                Some(Filter::from_json(module, &filter).map_err(Error::Invalid)?)
            }
            _ => None,
        };
        let mut query = Query {
            filter,
            limit: 100,
            ..Query::default()
        };
        let mut all = Vec::new();
        loop {
            let page = self.crm.records().list(&permit, &query).await?;
            all.extend(page.data);
            query.cursor = page.next_cursor;
            if query.cursor.is_none() {
                return Ok(all);
            }
        }
    }

    async fn count(&self) -> anyhow::Result<u64> {
        let permit = self.operator().permit::<Read>("contacts")?;
        let total = self.crm.records().count(&permit, &Query::default()).await?;
        Ok(total.count)
    }
}

fn csv() -> ImportOptions {
    ImportOptions::new(Format::Csv)
}

fn text(record: &Record, field: &str) -> String {
    let value = record.get(field).and_then(|value| value.as_text());
    value.unwrap_or_default().to_owned()
}

/// A file of that many contacts.
fn many(count: usize) -> String {
    let mut file = String::from("name,email\n");
    for number in 0..count {
        file.push_str(&format!("Row {number},row{number}@example.com\n"));
    }
    file
}
