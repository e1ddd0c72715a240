//! Tenants: the units of isolation, made, suspended, exported and erased by the operator.
//!
//! The one repository that takes no permit, because it is about all tenants at once: it belongs to
//! the command line and to the application itself. Requests reach it through
//! [`Platform`](crate::platform::Platform) alone, as operators.

mod erase;
mod export;
mod page;
mod status;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Value as Json, json};

use crate::clock::Clock;
use crate::crm::Core;
use crate::db::{ColumnType, Dialect, Row, Sql, Tx};
use crate::error::{Error, Result};
use crate::id::TenantId;
use crate::identity::{
    Invitation, NewInvitation, check_invited, check_name, gather, invite_first_admin,
};
use crate::journal::{self, Author};
use crate::platform::PLATFORM;
use crate::policy::Grants;
use crate::role::{BuiltIns, seed_roles};
use crate::scope::{Actor, RequestContext, Scope};

pub use erase::Tombstone;
pub use export::{ExportPiece, TenantExport};
pub use page::TenantPage;
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
    /// Who acts: the program itself, or an operator.
    actor: Actor,
}

impl Tenants {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self {
            core,
            actor: Actor::Operator,
        }
    }

    /// The same, for the acts of an operator.
    pub(crate) fn by(self, actor: Actor) -> Self {
        Self { actor, ..self }
    }

    /// Makes a tenant with the built-in roles.
    ///
    /// # Errors
    /// [`Error::Invalid`] on `name`, which has 1 to 100 characters; [`Error::Conflict`]
    /// `already_exists` when a tenant has it, or one that differs in the case of ASCII letters only.
    pub async fn create(&self, name: &str, request: RequestContext) -> Result<Tenant> {
        let name = check_name("name", name)?;
        let (clock, actor) = (self.core.clock.clone(), self.actor);
        let write = self.core.db.write(move |tx| {
            Box::pin(async move { create(tx, (&clock, actor, &request), name).await })
        });
        write.await
    }

    /// Makes a tenant with the built-in roles, and invites its first admin by mail: both or
    /// neither.
    ///
    /// # Errors
    /// Those of [`create`](Self::create), and of an invitation.
    pub(crate) async fn create_with_admin(
        &self,
        name: &str,
        admin: NewInvitation,
        request: RequestContext,
    ) -> Result<(Tenant, Invitation)> {
        let mut errors = Vec::new();
        let name = gather(&mut errors, check_name("name", name))?;
        let invited = check_invited(&admin).map_err(|refused| refused.under("/admin"));
        gather(&mut errors, invited)?;
        if !errors.is_empty() {
            return Err(Error::Invalid(errors));
        }
        let (core, actor) = (self.core.clone(), self.actor);
        let write = self.core.db.write(move |tx| {
            Box::pin(async move {
                let tenant = create(tx, (&core.clock, actor, &request), name).await?;
                let scope = Scope::new(
                    core.clone(),
                    actor,
                    tenant.id,
                    Arc::new(Grants::everything(&core.catalogue)),
                    request,
                );
                let invited = invite_first_admin(tx, &core, scope, admin).await;
                let invited = invited.map_err(|refused| refused.under("/admin"))?;
                Ok((tenant, invited))
            })
        });
        let made = write.await?;
        self.core.post.wake();
        Ok(made)
    }

    /// Tells the audit logs that an export began.
    pub(crate) async fn tell_export(&self, id: TenantId, request: RequestContext) -> Result<()> {
        let (clock, actor) = (self.core.clock.clone(), self.actor);
        let write = self.core.db.write(move |tx| {
            Box::pin(async move {
                let by = (&clock, actor, &request);
                tell(tx, by, id, "tenants.export", (None, None)).await
            })
        });
        write.await
    }

    /// All tenants, by name.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn list(&self) -> Result<Vec<Tenant>> {
        let all = Sql::new(
            "SELECT id, name, status, created_at FROM tenants WHERE id <> $1 ORDER BY name, id",
        )
        .bind(PLATFORM, ColumnType::Uuid)
        .returns(COLUMNS);
        self.core
            .db
            .fetch_all(all)
            .await?
            .into_iter()
            .map(read)
            .collect()
    }

    /// The tenant of this name, in any case of its letters, as at a login.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn find_by_name(&self, name: &str) -> Result<Option<Tenant>> {
        named(&self.core, name).await
    }
}

/// The tenant of this name, in any case of its letters.
pub(crate) async fn named(core: &Core, name: &str) -> Result<Option<Tenant>> {
    let name = name.trim();
    let alike = core.db.fetch_all(alike(core.db.dialect(), name)).await?;
    let alike: Vec<_> = alike.into_iter().map(read).collect::<Result<_>>()?;
    Ok(called(&alike, name, |tenant| &tenant.name).cloned())
}

/// The one of this name, in any case of its letters: no other tenant gets such a name. Of older
/// ones that differ in nothing else, the exact one.
pub(crate) fn called<'t, T>(
    tenants: &'t [T],
    name: &str,
    name_of: impl Fn(&T) -> &str,
) -> Option<&'t T> {
    let exact = tenants.iter().find(|tenant| name_of(tenant) == name);
    let alike = |tenant: &&T| name_of(tenant).eq_ignore_ascii_case(name);
    let mut alike = tenants.iter().filter(alike);
    exact.or_else(|| alike.next().filter(|_| alike.next().is_none()))
}

/// Those whose names differ from this one in the case of ASCII letters at most, whatever the language of
/// the database makes of case.
fn alike(dialect: Dialect, name: &str) -> Sql {
    Sql::new(match dialect {
        Dialect::Sqlite => {
            "SELECT id, name, status, created_at FROM tenants WHERE lower(name) = lower($1)"
        }
        Dialect::Postgres => {
            "SELECT id, name, status, created_at FROM tenants \
             WHERE lower(name COLLATE \"C\") = lower($1 COLLATE \"C\")"
        }
    })
    .bind(name, ColumnType::Text)
    .returns(COLUMNS)
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

/// Who acts, in which request.
type By<'a> = (&'a Clock, Actor, &'a RequestContext);

async fn create(tx: &mut Tx<'_>, by: By<'_>, name: String) -> Result<Tenant> {
    let (tenant, _) = insert(tx, by.0, name).await?;
    let after = json!({ "name": tenant.name });
    tell(tx, by, tenant.id, "tenants.create", (None, Some(after))).await?;
    Ok(tenant)
}

/// Tells the tenant's audit log of an act, and the platform's, which learns no name of it.
async fn tell(
    tx: &mut Tx<'_>,
    (clock, actor, request): By<'_>,
    id: TenantId,
    action: &str,
    (before, after): (Option<Json>, Option<Json>),
) -> Result<()> {
    let author = Author {
        clock,
        tenant: id,
        actor,
        request,
    };
    let entity = || ("tenants", Some(id.to_string()));
    journal::audit_by(tx, author, action, entity(), before, after).await?;
    let author = Author {
        tenant: PLATFORM,
        ..author
    };
    journal::audit_by(tx, author, action, entity(), None, None).await
}

/// What the tenant is called; none when there is no such tenant.
pub(crate) async fn name_of(tx: &mut Tx<'_>, tenant: TenantId) -> Result<Option<String>> {
    let name = Sql::new("SELECT name FROM tenants WHERE id = $1")
        .bind(tenant, ColumnType::Uuid)
        .returns(&[ColumnType::Text]);
    let row = tx.fetch_optional(name).await?;
    row.map(|mut row| row.text()).transpose()
}

/// Writes a tenant with its built-in roles.
pub(crate) async fn insert(
    tx: &mut Tx<'_>,
    clock: &Clock,
    name: String,
) -> Result<(Tenant, BuiltIns)> {
    refuse_other_case(tx, &name).await?;
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

/// Refuses a name that people would take for another tenant's. Names in other cases were allowed
/// once; those that there are stay.
async fn refuse_other_case(tx: &mut Tx<'_>, name: &str) -> Result<()> {
    // Of two that are made at once, the second one waits here.
    let hold = Sql::new("UPDATE tenants SET name = name WHERE id = $1");
    tx.execute(hold.bind(PLATFORM, ColumnType::Uuid)).await?;
    for row in tx.fetch_all(alike(tx.dialect(), name)).await? {
        let other = read(row)?.name;
        if other.eq_ignore_ascii_case(name) && other != name {
            let message = format!(
                "there is a tenant called {other:?} already, which differs in its case only; choose \
                 another name"
            );
            return Err(Error::conflict("already_exists", message));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
