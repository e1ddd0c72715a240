//! Operators: made by the program itself or by an operator, never by a tenant.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use secrecy::SecretString;
use serde::Serialize;
use serde_json::json;

use super::permission::{parse, stored};
use super::{PLATFORM, Platform, PlatformPermission};
use crate::crm::Core;
use crate::db::{ColumnType, Row, Sql, Tx};
use crate::error::{Error, FieldError, Result};
use crate::id::UserId;
use crate::identity::{Accounts, OperatorAccount};
use crate::journal::{self, Author};
use crate::mail::MailKind;
use crate::scope::{Actor, RequestContext, Scope, Update};

/// Most operators of an installation.
const MOST: i64 = 1_000;

/// An operator as answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Operator {
    /// The user.
    pub user_id: UserId,
    /// The e-mail address they log in with.
    pub email: String,
    /// Their name.
    pub name: String,
    /// What they may do.
    pub permissions: BTreeSet<PlatformPermission>,
    /// Who made them one: `operator` for the command line, or `operator:<id>`.
    pub created_by: String,
    /// When.
    pub created_at: DateTime<Utc>,
}

/// Somebody to become an operator.
#[derive(Debug, Clone)]
pub struct NewOperator {
    /// The e-mail address they log in with.
    pub email: String,
    /// Their name, 1 to 100 characters; not used when they have an account.
    pub name: String,
    /// What they may do: names of [`PlatformPermission`]s.
    pub permissions: Vec<String>,
    /// The first password of a new account. Without one they are sent a link that sets it.
    pub password: Option<SecretString>,
}

/// The operators of this installation.
#[derive(Clone)]
pub struct Operators {
    core: Arc<Core>,
    actor: Actor,
}

impl Operators {
    pub(super) fn new(core: Arc<Core>) -> Self {
        Self {
            core,
            actor: Actor::Operator,
        }
    }

    /// Makes somebody an operator. An account that exists keeps name and password, and must have
    /// proven its address.
    ///
    /// # Errors
    /// [`Error::Invalid`] for values that break a rule; [`Error::Conflict`] `already_operator`,
    /// `address_unproven`, `too_many_operators`.
    pub async fn create(&self, input: NewOperator, request: RequestContext) -> Result<Operator> {
        let permissions = some(parse(&input.permissions)?)?;
        let sends = input.password.is_none();
        let (name, password) = (input.name, input.password);
        let account = OperatorAccount::new(&self.core, &input.email, name, password).await?;
        let (core, actor, about) = (self.core.clone(), self.actor, request.clone());
        let write = self.core.policy.write(PLATFORM, move |tx| {
            Box::pin(async move { insert(tx, &core, actor, account, permissions, &about).await })
        });
        let (operator, existed) = write.await?;
        if sends && !existed {
            let accounts = Accounts::new(self.core.clone());
            let (kind, email) = (MailKind::NewOperator, operator.email.clone());
            accounts.send_password_link(kind, email, request).await?;
        }
        Ok(operator)
    }

    /// All operators, the oldest account first.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn list(&self) -> Result<Vec<Operator>> {
        let rows = self.core.db.fetch_all(select()).await?;
        rows.into_iter().map(read).collect()
    }

    /// Takes an operator's rights and sessions on the platform away; the account stays, and what it
    /// is in tenants. The last one is taken away by the program itself alone.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Conflict`] `last_operator`.
    pub async fn revoke(&self, user: UserId, request: RequestContext) -> Result<()> {
        let (clock, actor) = (self.core.clock.clone(), self.actor);
        let write = self.core.policy.write(PLATFORM, move |tx| {
            Box::pin(async move {
                // Rights, sessions, and what was begun in them go with it.
                let delete =
                    Sql::new("DELETE FROM memberships WHERE tenant_id = $1 AND user_id = $2")
                        .bind(PLATFORM, ColumnType::Uuid)
                        .bind(user, ColumnType::Uuid);
                if tx.execute(delete).await? == 0 {
                    return Err(Error::NotFound);
                }
                if actor != Actor::Operator && count(tx).await? == 0 {
                    return Err(Error::conflict(
                        "last_operator",
                        "this is the last operator; make another one first",
                    ));
                }
                let author = Author {
                    clock: &clock,
                    tenant: PLATFORM,
                    actor,
                    request: &request,
                };
                let entity = ("operators", Some(user.to_string()));
                journal::audit_by(tx, author, "operators.delete", entity, None, None).await
            })
        });
        write.await
    }

    /// Has operators log in with a second factor, or without one. They do from the beginning; only
    /// the program itself can change that. What is asked for ends the sessions that began without
    /// it.
    ///
    /// # Errors
    /// [`Error::Conflict`] `strict_authentication` where nobody is let in without one.
    pub async fn require_second_factor(
        &self,
        required: bool,
        request: RequestContext,
    ) -> Result<()> {
        let scope = Scope::operator(&self.core, PLATFORM, request).await?;
        let accounts = Accounts::new(self.core.clone());
        let permit = scope.permit::<Update>("members")?;
        accounts.require_second_factor(&permit, required).await
    }
}

impl Platform {
    fn operators(&self) -> Operators {
        Operators {
            core: self.crm.core.clone(),
            actor: self.actor(),
        }
    }

    /// All operators, the oldest account first.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `operators.read`.
    pub async fn list_operators(&self) -> Result<Vec<Operator>> {
        self.check(PlatformPermission::OperatorsRead)?;
        self.operators().list().await
    }

    /// Makes somebody an operator, with permissions that one holds; a new account sets its password
    /// by a link that is sent to it.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `operators.create`, or for a permission that the caller lacks;
    /// those of [`Operators::create`].
    pub async fn create_operator(&self, input: NewOperator) -> Result<Operator> {
        self.check(PlatformPermission::OperatorsCreate)?;
        for permission in parse(&input.permissions)? {
            self.check(permission)?;
        }
        let input = NewOperator {
            password: None,
            ..input
        };
        let request = self.scope.request().clone();
        self.operators().create(input, request).await
    }

    /// Takes an operator's rights and sessions on the platform away.
    ///
    /// # Errors
    /// [`Error::Forbidden`] without `operators.delete`, or for a permission of the operator's that the
    /// caller lacks; those of [`Operators::revoke`].
    pub async fn revoke_operator(&self, user: UserId) -> Result<()> {
        self.check(PlatformPermission::OperatorsDelete)?;
        let operators = self.operators().list().await?;
        let permissions = operators
            .into_iter()
            .filter(|operator| operator.user_id == user)
            .flat_map(|operator| operator.permissions);
        for permission in permissions {
            self.check(permission)?;
        }
        let request = self.scope.request().clone();
        self.operators().revoke(user, request).await
    }
}

/// Refuses an operator who may do nothing.
fn some(permissions: BTreeSet<PlatformPermission>) -> Result<BTreeSet<PlatformPermission>> {
    match permissions.is_empty() {
        false => Ok(permissions),
        true => Err(Error::Invalid(vec![FieldError::new(
            "permissions",
            "required",
            "Give at least one permission.",
        )])),
    }
}

async fn insert(
    tx: &mut Tx<'_>,
    core: &Core,
    actor: Actor,
    account: OperatorAccount,
    permissions: BTreeSet<PlatformPermission>,
    request: &RequestContext,
) -> Result<(Operator, bool)> {
    make_room(tx).await?;
    let now = core.clock.now();
    let (user, existed) = account.join(tx, now).await?;
    let insert = Sql::new(
        "INSERT INTO operators (tenant_id, user_id, permissions, created_by, created_at) \
         VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(PLATFORM, ColumnType::Uuid)
    .bind(user, ColumnType::Uuid)
    .bind(json!(permissions), ColumnType::Json)
    .bind(actor.to_string(), ColumnType::Text)
    .bind(now, ColumnType::Instant);
    tx.execute(insert).await?;
    let author = Author {
        clock: &core.clock,
        tenant: PLATFORM,
        actor,
        request,
    };
    let entity = ("operators", Some(user.to_string()));
    let after = json!({ "permissions": permissions });
    journal::audit_by(tx, author, "operators.create", entity, None, Some(after)).await?;
    let mut one = select();
    one.push(" AND o.user_id = $2");
    let one = one.bind(user, ColumnType::Uuid);
    let row = tx.fetch_optional(one).await?;
    Ok((read(row.ok_or(Error::NotFound)?)?, existed))
}

async fn count(tx: &mut Tx<'_>) -> Result<i64> {
    let count = Sql::new("SELECT count(*) FROM operators WHERE tenant_id = $1")
        .bind(PLATFORM, ColumnType::Uuid);
    tx.number(count).await
}

async fn make_room(tx: &mut Tx<'_>) -> Result<()> {
    match count(tx).await? < MOST {
        true => Ok(()),
        false => Err(Error::conflict(
            "too_many_operators",
            "there are 1,000 operators; take some away first",
        )),
    }
}

/// The statement that reads operators; callers append which ones.
fn select() -> Sql {
    Sql::new(
        "SELECT u.id, u.email, u.name, o.permissions, o.created_by, o.created_at \
         FROM operators o JOIN users u ON u.id = o.user_id WHERE o.tenant_id = $1",
    )
    .bind(PLATFORM, ColumnType::Uuid)
    .returns(&[
        ColumnType::Uuid,
        ColumnType::Text,
        ColumnType::Text,
        ColumnType::Json,
        ColumnType::Text,
        ColumnType::Instant,
    ])
}

fn read(mut row: Row) -> Result<Operator> {
    Ok(Operator {
        user_id: row.uuid()?,
        email: row.text()?,
        name: row.text()?,
        permissions: stored(row.json()?)?,
        created_by: row.text()?,
        created_at: row.instant()?,
    })
}

impl std::fmt::Debug for Operators {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Operators").finish_non_exhaustive()
    }
}
