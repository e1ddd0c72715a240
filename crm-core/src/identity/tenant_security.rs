//! What a tenant settles for itself: stricter rules for its members' new passwords, and whether
//! operators of the platform may act in their names.
//!
//! A tenant's rules add to the installation's; whoever is a member of several keeps all of them.

use secrecy::SecretString;
use serde::Serialize;
use serde_json::json;

use super::account::Accounts;
use super::impersonator;
use super::password_policy::PasswordPolicy;
use super::refresh::{self, Ended};
use crate::db::{ColumnType, Sql, Tx};
use crate::error::{Error, Result};
use crate::id::{TenantId, UserId};
use crate::journal;
use crate::scope::{Permit, Read, Update};

/// Most tenants of one user whose rules are asked.
const MOST_TENANTS: i64 = 100;

/// What a tenant settles for itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TenantSecurity {
    /// Whether operators of the platform may act in the name of members.
    pub operator_impersonation: bool,
    /// What new passwords of members must be, beyond the installation's rules.
    pub password_policy: Option<PasswordPolicy>,
}

impl Default for TenantSecurity {
    fn default() -> Self {
        Self {
            operator_impersonation: true,
            password_policy: None,
        }
    }
}

/// What of it is to change; the rest stays.
#[derive(Debug, Clone, Default)]
pub struct TenantSecurityChange {
    /// Whether operators of the platform may act in the name of members.
    pub operator_impersonation: Option<bool>,
    /// What new passwords of members must be beyond the installation's rules; `Some(None)` for no
    /// more.
    pub password_policy: Option<Option<PasswordPolicy>>,
}

/// Whose password is judged.
#[derive(Debug, Clone, Copy)]
pub(super) enum Whose {
    /// That of somebody who joins this tenant.
    Tenant(TenantId),
    /// That of a member of some.
    User(UserId),
}

impl Accounts {
    /// What the tenant settles for itself.
    ///
    /// # Errors
    /// [`Error::Forbidden`] for a permit of another object than `members`.
    pub async fn tenant_security(&self, permit: &Permit<Read>) -> Result<TenantSecurity> {
        let tenant = permit.on("members")?.tenant();
        let operator_impersonation = impersonator::admits(&self.core, tenant).await?;
        let mut policies = self.policies(Whose::Tenant(tenant)).await?;
        Ok(TenantSecurity {
            operator_impersonation,
            password_policy: policies.pop(),
        })
    }

    /// Changes it. Passwords that there are stay; where operators are let in no more, those who act
    /// in a member's name are out at once.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a policy that is weaker than the standard allows, or that few could
    /// meet; [`Error::Forbidden`] for a permit of another object than `members`.
    pub async fn update_tenant_security(
        &self,
        permit: &Permit<Update>,
        change: TenantSecurityChange,
    ) -> Result<TenantSecurity> {
        let scope = permit.on("members")?.clone();
        if let Some(Some(policy)) = &change.password_policy {
            policy.check_itself().map_err(|_| {
                let message = "Ask for 8 to 64 characters and a strength of 0 to 4.";
                Error::invalid("password_policy", "out_of_range", message)
            })?;
        }
        let write = self.core.db.write(move |tx| {
            Box::pin(async move {
                let before = stored(tx, scope.tenant()).await?;
                let security = change.over(before.clone());
                if before == security {
                    return Ok((security, Vec::new()));
                }
                tx.execute(store(scope.tenant(), &security)).await?;
                let ended = match security.operator_impersonation {
                    true => Vec::new(),
                    false => {
                        let operators = Ended::OfOperators(scope.tenant());
                        refresh::end(tx, scope.clock(), operators).await?
                    }
                };
                let entity = ("tenants", Some(scope.tenant().to_string()));
                let (before, after) = (json!(before), json!(security));
                let action = "tenants.update";
                journal::audit(tx, &scope, action, entity, Some(before), Some(after)).await?;
                Ok((security, ended))
            })
        });
        let (security, ended) = write.await?;
        self.forget(ended);
        Ok(security)
    }

    /// Judges a new password by the installation's rules and those of the tenants it opens.
    ///
    /// # Errors
    /// [`Error::Invalid`] on `field`.
    pub(super) async fn check_password(
        &self,
        field: &'static str,
        password: &SecretString,
        context: Vec<String>,
        whose: Whose,
    ) -> Result<u8> {
        let policies = self.policies(whose).await?;
        let passwords = &self.core.identity.passwords;
        passwords
            .check_beyond(field, password, context, &policies)
            .await
    }

    async fn policies(&self, whose: Whose) -> Result<Vec<PasswordPolicy>> {
        let sql = match whose {
            Whose::Tenant(tenant) => Sql::new(
                "SELECT password_policy FROM tenant_settings \
                 WHERE tenant_id = $1 AND password_policy IS NOT NULL LIMIT $2",
            )
            .bind(tenant, ColumnType::Uuid),
            Whose::User(user) => Sql::new(
                "SELECT s.password_policy FROM memberships m \
                 JOIN tenant_settings s ON s.tenant_id = m.tenant_id \
                 WHERE m.user_id = $1 AND s.password_policy IS NOT NULL \
                 ORDER BY s.tenant_id LIMIT $2",
            )
            .bind(user, ColumnType::Uuid),
        };
        let sql = sql
            .bind(MOST_TENANTS, ColumnType::Int)
            .returns(&[ColumnType::Json]);
        let rows = self.core.db.fetch_all(sql).await?;
        rows.into_iter().map(|mut row| read(row.json()?)).collect()
    }
}

impl TenantSecurityChange {
    fn over(self, before: TenantSecurity) -> TenantSecurity {
        TenantSecurity {
            operator_impersonation: self
                .operator_impersonation
                .unwrap_or(before.operator_impersonation),
            password_policy: self.password_policy.unwrap_or(before.password_policy),
        }
    }
}

async fn stored(tx: &mut Tx<'_>, tenant: TenantId) -> Result<TenantSecurity> {
    let find = Sql::new(
        "SELECT operator_impersonation, password_policy FROM tenant_settings WHERE tenant_id = $1",
    )
    .bind(tenant, ColumnType::Uuid)
    .returns(&[ColumnType::Bool, ColumnType::Json]);
    let Some(mut row) = tx.fetch_optional(find).await? else {
        return Ok(TenantSecurity::default());
    };
    Ok(TenantSecurity {
        operator_impersonation: row.bool()?,
        password_policy: row.opt_json()?.map(read).transpose()?,
    })
}

fn store(tenant: TenantId, security: &TenantSecurity) -> Sql {
    Sql::new(
        "INSERT INTO tenant_settings (tenant_id, operator_impersonation, password_policy) \
         VALUES ($1, $2, $3) ON CONFLICT (tenant_id) DO UPDATE SET \
         operator_impersonation = excluded.operator_impersonation, \
         password_policy = excluded.password_policy",
    )
    .bind(tenant, ColumnType::Uuid)
    .bind(security.operator_impersonation, ColumnType::Bool)
    .bind(
        security
            .password_policy
            .as_ref()
            .map(|policy| json!(policy)),
        ColumnType::Json,
    )
}

fn read(json: serde_json::Value) -> Result<PasswordPolicy> {
    serde_json::from_value(json).map_err(|_| Error::Inconsistent {
        table: "tenant_settings".into(),
        column: "password_policy".into(),
    })
}
