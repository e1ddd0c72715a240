//! Invitations: how people come into a tenant by their own consent.
//!
//! Whoever may add members invites an address, with roles they could give themselves; the mail's
//! link lets its reader in, with a new account or the one they have. Until then the tenant learns
//! nothing of whether there is one. An address has one invitation per tenant: a new one kills the
//! one before.

mod accept;

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use secrecy::SecretString;
use serde::Serialize;
use serde_json::{Value as Json, json};

use super::account::{gather, is_member};
use super::email::normalize_email;
use super::name::check_name;
use super::opaque;
use super::reset::MAIL_PAUSE;
use crate::crm::Core;
use crate::db::{ColumnType, Row, Sql, Tx};
use crate::error::{Error, Result};
use crate::id::{InvitationId, RoleId, TenantId};
use crate::journal;
use crate::mail::{self, Letter, Link, MailKind};
use crate::policy::{self, CompiledPolicy};
use crate::role;
use crate::scope::{Create, Delete, Permit, Read, Scope};
use crate::tenant::name_of;

pub use accept::{Acceptance, InvitationView};

/// The object of the permissions asked for here: who may add members may invite them.
const OBJECT: &str = "members";
/// The entity of the audit rows.
const ENTITY: &str = "invitations";
const PREFIX: &str = "crm_in_";
/// How long an invitation holds.
const LIFETIME: TimeDelta = TimeDelta::days(7);
/// Most invitations of a tenant that are open.
const MOST_OPEN: i64 = 1_000;

/// An invitation as answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Invitation {
    /// Its id.
    pub id: InvitationId,
    /// The address it was sent to.
    pub email: String,
    /// Whom it is for, in the words of whoever invited.
    pub name: String,
    /// The roles that come with it.
    pub roles: Vec<RoleId>,
    /// Who invited: `user:<id>`, `api_key:<id>`, `operator:<id>` or `operator`.
    pub invited_by: String,
    /// When it was sent.
    pub created_at: DateTime<Utc>,
    /// When it ends.
    pub expires_at: DateTime<Utc>,
}

/// Somebody to be invited.
#[derive(Debug, Clone)]
pub struct NewInvitation {
    /// The address it is sent to.
    pub email: String,
    /// Their name, 1 to 100 characters.
    pub name: String,
    /// Roles of the tenant, by name or id.
    pub roles: Vec<String>,
}

/// The invitations of the tenant that a permit is for.
#[derive(Clone)]
pub struct Invitations {
    core: Arc<Core>,
}

impl Invitations {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    /// Invites somebody, by mail.
    ///
    /// # Errors
    /// [`Error::Invalid`] for values that break a rule or an unknown role; [`Error::Refused`]
    /// `forbidden` for a role that may do more than the actor; [`Error::Conflict`] `already_member`, and
    /// `too_many_invitations` when a thousand are open.
    pub async fn create(
        &self,
        permit: &Permit<Create>,
        input: NewInvitation,
    ) -> Result<Invitation> {
        let scope = permit.on(OBJECT)?.clone();
        let invitation = draft(&scope, &input)?;
        let (core, by, roles) = (self.core.clone(), scope.clone(), input.roles);
        let made = by.write_policy(move |tx| {
            Box::pin(async move { invite(tx, &core, scope, invitation, roles).await })
        });
        let made = made.await?;
        self.core.post.wake();
        Ok(made)
    }

    /// The open invitations, the oldest first.
    ///
    /// # Errors
    /// [`Error::Forbidden`] for a permit of another object.
    pub async fn list(&self, permit: &Permit<Read>) -> Result<Vec<Invitation>> {
        let scope = permit.on(OBJECT)?;
        let open = Sql::new(
            "SELECT id, email, name, roles, invited_by, created_at, expires_at FROM invitations \
             WHERE tenant_id = $1 AND expires_at > $2 ORDER BY id",
        )
        .bind(scope.tenant(), ColumnType::Uuid)
        .bind(scope.clock().now(), ColumnType::Instant)
        .returns(&[
            ColumnType::Uuid,
            ColumnType::Text,
            ColumnType::Text,
            ColumnType::Json,
            ColumnType::Text,
            ColumnType::Instant,
            ColumnType::Instant,
        ]);
        let rows = self.core.db.fetch_all(open).await?;
        rows.into_iter().map(read).collect()
    }

    /// Takes an invitation back: its link is dead.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the tenant has no such invitation.
    pub async fn revoke(&self, permit: &Permit<Delete>, id: InvitationId) -> Result<()> {
        let scope = permit.on(OBJECT)?.clone();
        self.core
            .db
            .write(move |tx| {
                Box::pin(async move {
                    let delete =
                        Sql::new("DELETE FROM invitations WHERE tenant_id = $1 AND id = $2")
                            .bind(scope.tenant(), ColumnType::Uuid)
                            .bind(id.0, ColumnType::Uuid);
                    if tx.execute(delete).await? == 0 {
                        return Err(Error::NotFound);
                    }
                    let entity = (ENTITY, Some(id.to_string()));
                    journal::audit(tx, &scope, "invitations.delete", entity, None, None).await
                })
            })
            .await
    }
}

/// The address and the name of somebody to be invited, in the form they are stored in.
///
/// # Errors
/// [`Error::Invalid`] with each that breaks a rule.
pub(crate) fn check_invited(input: &NewInvitation) -> Result<(String, String)> {
    let mut errors = Vec::new();
    let email = gather(&mut errors, normalize_email(&input.email))?;
    let name = gather(&mut errors, check_name("name", &input.name))?;
    match errors.is_empty() {
        true => Ok((email, name)),
        false => Err(Error::Invalid(errors)),
    }
}

/// An invitation without its roles.
fn draft(scope: &Scope, input: &NewInvitation) -> Result<Invitation> {
    let (email, name) = check_invited(input)?;
    let now = scope.clock().now();
    Ok(Invitation {
        id: InvitationId(scope.clock().new_id()),
        email,
        name,
        roles: Vec::new(),
        invited_by: scope.actor().to_string(),
        created_at: now,
        expires_at: now + LIFETIME,
    })
}

/// Invites the first admin of a tenant, in the transaction that makes it.
pub(crate) async fn invite_first_admin(
    tx: &mut Tx<'_>,
    core: &Core,
    scope: Scope,
    input: NewInvitation,
) -> Result<Invitation> {
    let invitation = draft(&scope, &input)?;
    invite(tx, core, scope, invitation, input.roles).await
}

/// Writes the invitation and its mail. Runs under the lock on the tenant's policy.
async fn invite(
    tx: &mut Tx<'_>,
    core: &Core,
    scope: Scope,
    mut invitation: Invitation,
    roles: Vec<String>,
) -> Result<Invitation> {
    let tenant = scope.tenant();
    invitation.roles = role::resolve(tx, tenant, "roles", &roles).await?;
    let rules = policy::rules(tx, tenant).await?;
    let given = CompiledPolicy::new(scope.catalogue(), &rules).grants(&invitation.roles);
    policy::check_held(&scope, &given)?;
    refuse_member(tx, tenant, &invitation.email).await?;
    make_room(tx, tenant, scope.clock().now()).await?;
    pause(tx, tenant, &invitation).await?;
    let token = opaque::generate(scope.clock(), PREFIX);
    store(tx, tenant, &invitation, &token).await?;
    send(tx, core, &scope, &invitation, &token).await?;
    let entity = (ENTITY, Some(invitation.id.to_string()));
    let after = json!({ "email": invitation.email, "roles": invitation.roles });
    journal::audit(tx, &scope, "invitations.create", entity, None, Some(after)).await?;
    Ok(invitation)
}

/// Stores it in place of an earlier one to the same address.
async fn store(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    invitation: &Invitation,
    token: &SecretString,
) -> Result<()> {
    let insert = Sql::new(
        "INSERT INTO invitations (tenant_id, id, email, name, roles, hash, invited_by, created_at, \
         expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) \
         ON CONFLICT (tenant_id, email) DO UPDATE SET id = excluded.id, name = excluded.name, \
         roles = excluded.roles, hash = excluded.hash, invited_by = excluded.invited_by, \
         created_at = excluded.created_at, expires_at = excluded.expires_at",
    )
    .bind(tenant, ColumnType::Uuid)
    .bind(invitation.id.0, ColumnType::Uuid)
    .bind(invitation.email.as_str(), ColumnType::Text)
    .bind(invitation.name.as_str(), ColumnType::Text)
    .bind(json!(invitation.roles), ColumnType::Json)
    .bind(opaque::hash(token), ColumnType::Bytes)
    .bind(invitation.invited_by.as_str(), ColumnType::Text)
    .bind(invitation.created_at, ColumnType::Instant)
    .bind(invitation.expires_at, ColumnType::Instant);
    tx.execute(insert).await.map(drop)
}

/// Writes the letter that its link is in.
async fn send(
    tx: &mut Tx<'_>,
    core: &Core,
    scope: &Scope,
    invitation: &Invitation,
    token: &SecretString,
) -> Result<()> {
    let tenant = scope.tenant();
    let name = name_of(tx, tenant).await?.ok_or(Error::NotFound)?;
    let by = inviter(tx, scope).await?;
    let letter = Letter {
        kind: MailKind::Invitation,
        to: &invitation.email,
        name: &invitation.name,
        tenant: Some(&name),
        by: by.as_deref(),
        link: Some(Link {
            token,
            holds: "seven days",
        }),
    };
    mail::enqueue_of(tx, core, tenant, letter, invitation.expires_at).await
}

/// The name of the member who invites; none for a program, or an operator.
async fn inviter(tx: &mut Tx<'_>, scope: &Scope) -> Result<Option<String>> {
    let Some(user) = scope.actor().user() else {
        return Ok(None);
    };
    let find = Sql::new("SELECT name FROM users WHERE id = $1")
        .bind(user, ColumnType::Uuid)
        .returns(&[ColumnType::Text]);
    let row = tx.fetch_optional(find).await?;
    row.map(|mut row| row.text()).transpose()
}

/// Refuses to write to somebody again so soon.
async fn pause(tx: &mut Tx<'_>, tenant: TenantId, invitation: &Invitation) -> Result<()> {
    let last = Sql::new("SELECT created_at FROM invitations WHERE tenant_id = $1 AND email = $2")
        .bind(tenant, ColumnType::Uuid)
        .bind(invitation.email.as_str(), ColumnType::Text)
        .returns(&[ColumnType::Instant]);
    let Some(mut row) = tx.fetch_optional(last).await? else {
        return Ok(());
    };
    let wait = row.instant::<DateTime<Utc>>()? + MAIL_PAUSE - invitation.created_at;
    match wait.to_std() {
        Ok(retry_after) if !retry_after.is_zero() && wait <= MAIL_PAUSE => {
            Err(Error::too_soon(retry_after))
        }
        _ => Ok(()),
    }
}

async fn refuse_member(tx: &mut Tx<'_>, tenant: TenantId, email: &str) -> Result<()> {
    match is_member(tx, tenant, email).await? {
        false => Ok(()),
        true => Err(Error::conflict(
            "already_member",
            "this user is a member of the tenant already; change their roles instead",
        )),
    }
}

/// Forgets the invitations that have ended, and refuses one more than a tenant may have open.
async fn make_room(tx: &mut Tx<'_>, tenant: TenantId, now: DateTime<Utc>) -> Result<()> {
    let ended = Sql::new("DELETE FROM invitations WHERE tenant_id = $1 AND expires_at <= $2")
        .bind(tenant, ColumnType::Uuid)
        .bind(now, ColumnType::Instant);
    tx.execute(ended).await?;
    let open = Sql::new("SELECT COUNT(*) FROM invitations WHERE tenant_id = $1")
        .bind(tenant, ColumnType::Uuid);
    if tx.number(open).await? < MOST_OPEN {
        return Ok(());
    }
    Err(Error::conflict(
        "too_many_invitations",
        "this tenant has 1,000 open invitations; take some back first",
    ))
}

fn roles_of(json: Json) -> Result<Vec<RoleId>> {
    serde_json::from_value(json).map_err(|_| Error::Inconsistent {
        table: "invitations".into(),
        column: "roles".into(),
    })
}

fn read(mut row: Row) -> Result<Invitation> {
    let (id, email, name) = (row.uuid()?, row.text()?, row.text()?);
    let roles = roles_of(row.json()?)?;
    Ok(Invitation {
        id,
        email,
        name,
        roles,
        invited_by: row.text()?,
        created_at: row.instant()?,
        expires_at: row.instant()?,
    })
}
