//! Tenants: the units of isolation, made, suspended, exported and erased by the operator.
//!
//! The one repository that takes no permit, because it is about all tenants at once: it belongs to
//! the command line and to the application itself, and no request may reach it.

mod erase;
mod export;
mod status;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::json;

use crate::clock::Clock;
use crate::crm::Core;
use crate::db::{ColumnType, Row, Sql, Tx};
use crate::error::{Error, Result};
use crate::id::TenantId;
use crate::identity::check_name;
use crate::journal::{self, Author};
use crate::role::{BuiltIns, seed_roles};
use crate::scope::{Actor, RequestContext};

pub use erase::Tombstone;
pub use export::{ExportPiece, TenantExport};
use status::Status;

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tenant {
    /// Its id.
    pub id: TenantId,
    /// Its name, unique in this installation.
    pub name: String,
    /// Whether its members and keys are let in.
    pub is_active: bool,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

/// The tenants of this installation.
#[derive(Clone)]
pub struct Tenants {
    core: Arc<Core>,
}

impl Tenants {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    /// Makes a tenant with the built-in roles.
    ///
    /// # Errors
    /// [`Error::Invalid`] on `name`, which has 1 to 100 characters; [`Error::Conflict`]
    /// `already_exists` when a tenant has it.
    pub async fn create(&self, name: &str, request: RequestContext) -> Result<Tenant> {
        let name = check_name("name", name)?;
        let clock = self.core.clock.clone();
        self.core
            .db
            .write(move |tx| {
                Box::pin(async move {
                    let (tenant, _) = insert(tx, &clock, name).await?;
                    let author = Author {
                        clock: &clock,
                        tenant: tenant.id,
                        actor: Actor::Operator,
                        request: &request,
                    };
                    let entity = ("tenants", Some(tenant.id.to_string()));
                    let after = json!({ "name": tenant.name });
                    journal::audit_by(tx, author, "tenants.create", entity, None, Some(after))
                        .await?;
                    Ok(tenant)
                })
            })
            .await
    }

    /// All tenants, by name.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn list(&self) -> Result<Vec<Tenant>> {
        let all = Sql::new("SELECT id, name, status, created_at FROM tenants ORDER BY name, id")
            .returns(COLUMNS);
        self.core
            .db
            .fetch_all(all)
            .await?
            .into_iter()
            .map(read)
            .collect()
    }

    /// The tenant of this name.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn find_by_name(&self, name: &str) -> Result<Option<Tenant>> {
        let one = Sql::new("SELECT id, name, status, created_at FROM tenants WHERE name = $1")
            .bind(name.trim(), ColumnType::Text)
            .returns(COLUMNS);
        self.core
            .db
            .fetch_optional(one)
            .await?
            .map(read)
            .transpose()
    }
}

const COLUMNS: &[ColumnType] = &[
    ColumnType::Uuid,
    ColumnType::Text,
    ColumnType::Text,
    ColumnType::Instant,
];

fn read(mut row: Row) -> Result<Tenant> {
    Ok(Tenant {
        id: row.uuid()?,
        name: row.text()?,
        is_active: row.text::<String>()? == "active",
        created_at: row.instant()?,
    })
}

/// Writes a tenant with its built-in roles.
pub(crate) async fn insert(
    tx: &mut Tx<'_>,
    clock: &Clock,
    name: String,
) -> Result<(Tenant, BuiltIns)> {
    let tenant = Tenant {
        id: TenantId(clock.new_id()),
        name,
        is_active: true,
        created_at: clock.now(),
    };
    let made = tx
        .execute(
            Sql::new(
                "INSERT INTO tenants (id, name, created_at) VALUES ($1, $2, $3) \
                 ON CONFLICT (name) DO NOTHING",
            )
            .bind(tenant.id, ColumnType::Uuid)
            .bind(tenant.name.as_str(), ColumnType::Text)
            .bind(tenant.created_at, ColumnType::Instant),
        )
        .await?;
    if made == 0 {
        return Err(Error::conflict(
            "already_exists",
            "there is a tenant of this name already",
        ));
    }
    let roles = seed_roles(tx, tenant.id, clock).await?;
    Ok((tenant, roles))
}

#[cfg(test)]
mod tests;
