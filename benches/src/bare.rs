//! The library's statements on contacts, in bare sqlx: no permit, no validation, no policy. The
//! measure of what the library adds.

use std::str::FromStr as _;
use std::time::Duration;

use anyhow::Result;
use crm_core::clock::Clock;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow,
    SqliteSynchronous,
};
use sqlx::{FromRow, Row as _};
use uuid::Uuid;

const GET: &str = "SELECT id, version, owner_id, created_at, updated_at, name, email, phone, \
    company, company_id, job_title, tags, notes, score, status \
    FROM contacts WHERE tenant_id = $1 AND id = $2";
const LIST: &str = "SELECT id, version, owner_id, created_at, updated_at, name, email, phone, \
    company, company_id, job_title, tags, notes, score, status \
    FROM contacts WHERE tenant_id = $1 ORDER BY id DESC LIMIT 21";
const INSERT: &str = "INSERT INTO contacts (tenant_id, id, version, owner_id, created_at, \
    updated_at, name, email, phone, company, company_id, job_title, tags, notes, score, status) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)";
const AUDIT: &str = "INSERT INTO audit_log (tenant_id, id, occurred_at, actor, action, entity, \
    entity_id, before, after, request_id, address) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
const OUTBOX: &str = "INSERT INTO outbox (id, tenant_id, module, kind, record_id, before, after, \
    actor, request_id, root_id, depth, occurred_at) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";

/// Pooled connections with the library's own settings.
pub struct Bare {
    readers: SqlitePool,
    writer: SqlitePool,
    clock: Clock,
}

/// A contact's row.
#[derive(Debug)]
pub struct Contact {
    /// Its id.
    pub id: Uuid,
    /// Counted up by every change.
    pub version: i64,
    /// The user whose row it is.
    pub owner_id: Option<Uuid>,
    /// Microseconds since 1970.
    pub created_at: i64,
    /// Microseconds since 1970.
    pub updated_at: i64,
    /// The declared fields.
    pub name: String,
    /// E-mail address.
    pub email: Option<String>,
    /// Telephone number.
    pub phone: Option<String>,
    /// The company's name.
    pub company: Option<String>,
    /// The company's record.
    pub company_id: Option<Uuid>,
    /// Job title.
    pub job_title: Option<String>,
    /// Tags.
    pub tags: Option<Vec<String>>,
    /// Notes.
    pub notes: Option<String>,
    /// Score.
    pub score: Option<i64>,
    /// Status.
    pub status: String,
}

impl FromRow<'_, SqliteRow> for Contact {
    fn from_row(row: &SqliteRow) -> sqlx::Result<Self> {
        let tags: Option<&str> = row.try_get(11)?;
        let tags = tags.map(serde_json::from_str).transpose();
        Ok(Self {
            id: row.try_get(0)?,
            version: row.try_get(1)?,
            owner_id: row.try_get(2)?,
            created_at: row.try_get(3)?,
            updated_at: row.try_get(4)?,
            name: row.try_get(5)?,
            email: row.try_get(6)?,
            phone: row.try_get(7)?,
            company: row.try_get(8)?,
            company_id: row.try_get(9)?,
            job_title: row.try_get(10)?,
            tags: tags.map_err(|error| sqlx::Error::Decode(error.into()))?,
            notes: row.try_get(12)?,
            score: row.try_get(13)?,
            status: row.try_get(14)?,
        })
    }
}

impl Bare {
    /// Opens the database that the library has made.
    ///
    /// # Errors
    /// When it is not there.
    pub async fn open(url: &str) -> Result<Self> {
        let connect = SqliteConnectOptions::from_str(url)?
            .foreign_keys(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(5))
            .statement_cache_capacity(512)
            .pragma("temp_store", "memory")
            .pragma("mmap_size", "268435456");
        let pool = |connections| {
            SqlitePoolOptions::new()
                .max_connections(connections)
                .test_before_acquire(false)
        };
        Ok(Self {
            writer: pool(1).connect_with(connect.clone()).await?,
            readers: pool(4).connect_with(connect.read_only(true)).await?,
            clock: Clock::system(),
        })
    }

    /// One contact.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn get(&self, tenant: Uuid, id: Uuid) -> Result<Option<Contact>> {
        Ok(sqlx::query_as(GET)
            .bind(tenant)
            .bind(id)
            .fetch_optional(&self.readers)
            .await?)
    }

    /// The newest 21 contacts: a page of 20, and whether there are more.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn list(&self, tenant: Uuid) -> Result<Vec<Contact>> {
        Ok(sqlx::query_as(LIST)
            .bind(tenant)
            .fetch_all(&self.readers)
            .await?)
    }

    /// A new contact with its audit row and its event, in one transaction.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn create(&self, tenant: Uuid, serial: usize) -> Result<Uuid> {
        let (id, now) = (self.clock.new_id(), self.clock.now().timestamp_micros());
        let (name, email) = (
            format!("Grace Hopper {serial}"),
            format!("bare.{serial}@example.com"),
        );
        let after = format!(
            r#"{{"id":"{id}","version":1,"owner_id":null,"created_at":"2026-01-01T00:00:00.000000Z","updated_at":"2026-01-01T00:00:00.000000Z","name":"{name}","email":"{email}","phone":"+41 44 1234567","company":"Works123","company_id":null,"job_title":"Engineer","tags":["bench","no-1"],"notes":null,"score":null,"status":"active"}}"#
        );
        let mut tx = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::query(INSERT)
            .bind(tenant)
            .bind(id)
            .bind(1_i64)
            .bind(None::<Uuid>)
            .bind(now)
            .bind(now)
            .bind(&name)
            .bind(&email)
            .bind("+41 44 1234567")
            .bind("Works123")
            .bind(None::<Uuid>)
            .bind("Engineer")
            .bind(r#"["bench","no-1"]"#)
            .bind(None::<String>)
            .bind(None::<i64>)
            .bind("active")
            .execute(&mut *tx)
            .await?;
        sqlx::query(AUDIT)
            .bind(tenant)
            .bind(self.clock.new_id())
            .bind(now)
            .bind("operator")
            .bind("contacts.create")
            .bind("contacts")
            .bind(id.to_string())
            .bind(None::<String>)
            .bind(&after)
            .bind("bench")
            .bind(None::<String>)
            .execute(&mut *tx)
            .await?;
        let event = self.clock.new_id();
        sqlx::query(OUTBOX)
            .bind(event)
            .bind(tenant)
            .bind("contacts")
            .bind("contact.created")
            .bind(id)
            .bind(None::<String>)
            .bind(&after)
            .bind("operator")
            .bind("bench")
            .bind(event)
            .bind(0_i64)
            .bind(now)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(id)
    }
}
