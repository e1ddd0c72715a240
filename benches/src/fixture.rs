//! A library handle on a temporary SQLite database with contacts in one tenant.

use std::path::Path;

use anyhow::Result;
use crm_core::id::RecordId;
use crm_core::identity::PasswordCost;
use crm_core::module::default_modules;
use crm_core::{Create, Crm, DatabaseOptions, Permit, Read, RequestContext, Scope};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

/// Contacts being made at the same time.
const SEEDERS: usize = 64;

/// The library on a database that is gone afterwards.
pub struct Fixture {
    /// The handle.
    pub crm: Crm,
    /// The operator in the tenant.
    pub scope: Scope,
    /// The tenant's contacts.
    pub contacts: Vec<RecordId>,
    /// Where the database is.
    pub url: String,
    _folder: Option<TempDir>,
}

impl Fixture {
    /// Opens a database below `folder` and makes contacts.
    ///
    /// # Errors
    /// When the folder cannot be written to.
    pub async fn open(folder: &Path, options: DatabaseOptions, contacts: usize) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let folder = tempfile::tempdir_in(folder)?;
        let url = format!("sqlite://{}", folder.path().join("crm.db").display());
        Self::on(url, Some(folder), options, contacts).await
    }

    /// As [`open`](Self::open) without contacts, on the empty database that `BENCH_DATABASE` names,
    /// if any.
    ///
    /// # Errors
    /// When the database cannot be opened.
    pub async fn open_on_any(folder: &Path, options: DatabaseOptions) -> Result<Self> {
        match std::env::var("BENCH_DATABASE") {
            Ok(url) => Self::on(url, None, options, 0).await,
            Err(_) => Self::open(folder, options, 0).await,
        }
    }

    async fn on(
        url: String,
        folder: Option<TempDir>,
        options: DatabaseOptions,
        contacts: usize,
    ) -> Result<Self> {
        let crm = library(&url, options).await?;
        let tenant = crm.tenants().create("bench", request()).await?.id;
        let scope = crm.operator(tenant, request());
        let mut fixture = Self {
            crm,
            scope,
            contacts: Vec::new(),
            url,
            _folder: folder,
        };
        let permit = fixture.create_permit()?;
        let records = fixture.crm.records();
        fixture.contacts = stream::iter(0..contacts)
            .map(|serial| records.create(&permit, contact(serial)))
            .buffered(SEEDERS)
            .map_ok(|record| record.id)
            .try_collect()
            .await?;
        Ok(fixture)
    }

    /// The right to read contacts.
    ///
    /// # Errors
    /// Those of the scope.
    pub fn read_permit(&self) -> Result<Permit<Read>> {
        Ok(self.scope.permit("contacts")?)
    }

    /// The right to make contacts.
    ///
    /// # Errors
    /// Those of the scope.
    pub fn create_permit(&self) -> Result<Permit<Create>> {
        Ok(self.scope.permit("contacts")?)
    }
}

/// The library with the default modules on a fixture's database, with passwords that cost next to
/// nothing.
///
/// # Errors
/// When the database cannot be opened.
pub async fn library(url: &str, options: DatabaseOptions) -> Result<Crm> {
    let lowest = PasswordCost {
        memory_kib: 8,
        passes: 1,
        lanes: 1,
    };
    let crm = Crm::builder()
        .database(url)
        .database_options(options)
        .secret("a secret of a database of a bench, long enough".into())
        .password_cost(lowest)
        .modules(default_modules())
        .build()
        .await?;
    Ok(crm)
}

/// What audit rows say of a bench's work.
pub fn request() -> RequestContext {
    RequestContext {
        id: "bench".into(),
        address: None,
    }
}

/// The wire form of the contact with this number; its e-mail address is its own.
pub fn contact(serial: usize) -> Map<String, Value> {
    let contact = json!({
        "name": format!("Grace Hopper {serial}"),
        "email": format!("grace.{serial}@example.com"),
        "phone": format!("+41 44 {:07}", serial % 10_000_000),
        "company": format!("Works{:03}", serial % 400),
        "job_title": "Engineer",
        "tags": ["bench", format!("no-{}", serial % 10)],
        "status": "active",
    });
    match contact {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}
