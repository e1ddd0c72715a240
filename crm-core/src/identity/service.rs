//! Service accounts: users that are programs. They belong to one tenant, own rows, hold roles as
//! members do, and act by API keys alone: no password, no mail, no login.

use chrono::{DateTime, Utc};
use serde_json::json;

use super::account::{Accounts, insert_membership};
use super::name::check_name;
use crate::db::{ColumnType, Sql, Tx};
use crate::error::{Error, Result};
use crate::id::{TenantId, UserId};
use crate::journal;
use crate::policy::{self, CompiledPolicy};
use crate::role;
use crate::scope::{Create, Permit, Scope};

/// What a new service account needs.
#[derive(Debug, Clone)]
pub struct NewServiceAccount {
    /// What it is, 1 to 100 characters.
    pub name: String,
    /// Roles of the tenant, by name or id.
    pub roles: Vec<String>,
}

impl Accounts {
    /// Makes a service account of the permit's tenant. It is listed, given roles and removed as a
    /// member; an API key that names it acts as it.
    ///
    /// # Errors
    /// [`Error::Invalid`] for values that break a rule or an unknown role; [`Error::Refused`]
    /// `forbidden` for a role that may do more than the actor.
    pub async fn create_service_account(
        &self,
        permit: &Permit<Create>,
        input: NewServiceAccount,
    ) -> Result<UserId> {
        let scope = permit.on("members")?.clone();
        let name = check_name("name", &input.name)?;
        let (by, id) = (scope.clone(), UserId(scope.clock().new_id()));
        let write = by.write_policy(move |tx| {
            Box::pin(async move {
                create(tx, scope, (id, name), input.roles).await?;
                Ok(id)
            })
        });
        write.await
    }
}

/// Writes the account and its membership. Runs under the lock on the tenant's policy.
async fn create(
    tx: &mut Tx<'_>,
    scope: Scope,
    (id, name): (UserId, String),
    roles: Vec<String>,
) -> Result<()> {
    let tenant = scope.tenant();
    let roles = role::resolve(tx, tenant, "roles", &roles).await?;
    let rules = policy::rules(tx, tenant).await?;
    let given = CompiledPolicy::new(scope.catalogue(), &rules).grants(&roles);
    policy::check_held(&scope, &given)?;
    let now: DateTime<Utc> = scope.clock().now();
    let insert = Sql::new(
        "INSERT INTO users (id, email, name, kind, created_at) VALUES ($1, $2, $3, 'service', $4)",
    )
    .bind(id, ColumnType::Uuid)
    // Of a domain that never exists (RFC 2606 §2): nobody reads what is sent there.
    .bind(format!("{id}@service.invalid"), ColumnType::Text)
    .bind(name.as_str(), ColumnType::Text)
    .bind(now, ColumnType::Instant);
    tx.execute(insert).await?;
    insert_membership(tx, (tenant, id), &roles, now).await?;
    let entity = ("members", Some(id.to_string()));
    let after = json!({ "service_account": name, "roles": roles });
    journal::audit(tx, &scope, "members.create", entity, None, Some(after)).await
}

/// Refuses a user that is no service account of the tenant.
pub(super) async fn check(tx: &mut Tx<'_>, tenant: TenantId, user: UserId) -> Result<()> {
    let find = Sql::new(
        "SELECT u.id FROM memberships m \
         JOIN users u ON u.id = m.user_id AND u.kind = 'service' \
         WHERE m.tenant_id = $1 AND m.user_id = $2",
    )
    .bind(tenant, ColumnType::Uuid)
    .bind(user, ColumnType::Uuid)
    .returns(&[ColumnType::Uuid]);
    if tx.fetch_optional(find).await?.is_some() {
        return Ok(());
    }
    let message = "There is no such service account in this tenant.";
    Err(Error::invalid("service_account_id", "not_found", message))
}
