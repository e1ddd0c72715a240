//! Invitations: how people come into a tenant by their own consent.
//!
//! Whoever may add members invites an address, with roles they could give themselves; the mail's
//! link lets its reader in, with a new account or the one they have. Until then the tenant learns
//! nothing of whether there is one. An address has one invitation per tenant: a new one kills the
//! one before.

use std::collections::HashSet;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use secrecy::SecretString;
use serde::Serialize;
use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::account::{
    Accounts, Joined, UserRow, gather, insert_membership, insert_user, is_member,
};
use super::api_key;
use super::email::normalize_email;
use super::key_rights::key_rights;
use super::lockout;
use super::name::check_name;
use super::one_time;
use super::opaque;
use super::own::Owner;
use super::password::Verdict;
use super::reset::MAIL_PAUSE;
use super::session::invalid_credentials;
use super::tenant_security::Whose;
use crate::crm::Core;
use crate::db::{ColumnType, Row, Sql, Tx};
use crate::error::{Error, Result};
use crate::id::{ApiKeyId, InvitationId, RoleId, TenantId, UserId};
use crate::journal::{self, Author};
use crate::mail::{self, Letter, Link, MailKind};
use crate::policy::{self, CompiledPolicy, Subject};
use crate::role;
use crate::scope::{Actor, Create, Delete, Permit, Read, RequestContext, Scope};
use crate::tenant::name_of;

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

/// What the reader of an invitation is told before they accept it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvitationView {
    /// The tenant's name.
    pub tenant: String,
    /// The address that was invited.
    pub email: String,
    /// The name that was given for them.
    pub name: String,
    /// Whether the address has an account, whose password is asked for.
    pub has_account: bool,
}

/// The answer to an invitation.
#[derive(Debug, Clone)]
pub struct Acceptance {
    /// The token of the link.
    pub token: SecretString,
    /// The password of the account there is, or the first one of a new account.
    pub password: SecretString,
    /// The name of a new account; the one of the invitation when left out.
    pub name: Option<String>,
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

impl Accounts {
    /// What an invitation says, to whoever holds its token.
    ///
    /// # Errors
    /// [`Error::Invalid`] on `token` for one that is unknown, used, taken back or older than a week.
    pub async fn read_invitation(
        &self,
        token: &SecretString,
        request: &RequestContext,
    ) -> Result<InvitationView> {
        self.limit("invitation", "", request)?;
        let open = self.open_invitation(token).await?;
        let account = self.core.db.fetch_optional(Owner::by_email(&open.email));
        Ok(InvitationView {
            has_account: account.await?.is_some(),
            tenant: open.tenant_name,
            email: open.email,
            name: open.name,
        })
    }

    /// Makes whoever holds the token a member: with a new account, whose address is proven by that,
    /// or with the one that the address has, whose password is asked for. They log in afterwards.
    ///
    /// # Errors
    /// As [`read_invitation`](Self::read_invitation); [`Error::Unauthenticated`]
    /// `invalid_credentials` for a wrong password of the account there is, which counts as one at a
    /// login; [`Error::TooMany`] after too many of them; [`Error::Invalid`] for values that break a
    /// rule; [`Error::Conflict`] `already_member`.
    pub async fn accept_invitation(
        &self,
        input: Acceptance,
        request: RequestContext,
    ) -> Result<Joined> {
        self.limit("invitation", "", &request)?;
        let open = self.open_invitation(&input.token).await?;
        let core = self.core.clone();
        let known = core.db.fetch_optional(Owner::by_email(&open.email)).await?;
        let passwords = &core.identity.passwords;
        let account = match known.map(Owner::read).transpose()? {
            Some(owner) => {
                self.limit("confirm", &owner.id.to_string(), &request)?;
                lockout::check(&core.db, &core.clock, &owner.email).await?;
                let verdict = passwords.verify(input.password, owner.hash.clone()).await?;
                if verdict == Verdict::Wrong {
                    self.note_wrong(owner, request).await?;
                    return Err(invalid_credentials());
                }
                Account::Known(owner.id)
            }
            None => {
                let name = check_name("name", input.name.as_ref().unwrap_or(&open.name))?;
                let words = vec![open.email.clone(), name.clone(), open.tenant_name.clone()];
                let whose = Whose::Tenant(open.tenant);
                let score = self
                    .check_password("password", &input.password, words, whose)
                    .await?;
                let user = UserRow {
                    id: UserId(core.clock.new_id()),
                    email: open.email.clone(),
                    name,
                    hash: passwords.hash(input.password).await?,
                    given: false,
                };
                Account::New(user, score)
            }
        };
        let (tenant, hash) = (open.tenant, opaque::hash(&input.token));
        let policy = &self.core.policy;
        let write = policy.write(tenant, move |tx| {
            Box::pin(async move { accept(tx, &core, (tenant, hash), account, request).await })
        });
        write.await
    }

    /// Audits a wrong password of the account that an invitation's address has; it counts as one at
    /// a login does.
    async fn note_wrong(&self, owner: Owner, request: RequestContext) -> Result<()> {
        let clock = self.core.clock.clone();
        let write = self.core.db.write(move |tx| {
            Box::pin(async move { lockout::fail_owner(tx, &clock, &owner, &request).await })
        });
        write.await
    }

    async fn open_invitation(&self, token: &SecretString) -> Result<Open> {
        let find = Sql::new(
            "SELECT i.tenant_id, t.name, i.email, i.name, i.roles, i.invited_by FROM invitations i \
             JOIN tenants t ON t.id = i.tenant_id AND t.status = 'active' \
             WHERE i.hash = $1 AND i.expires_at > $2",
        )
        .bind(opaque::hash(token), ColumnType::Bytes)
        .bind(self.core.clock.now(), ColumnType::Instant)
        .returns(&[
            ColumnType::Uuid,
            ColumnType::Text,
            ColumnType::Text,
            ColumnType::Text,
            ColumnType::Json,
            ColumnType::Text,
        ]);
        let row = self.core.db.fetch_optional(find).await?;
        let mut row = row.ok_or_else(one_time::invalid)?;
        let open = Open {
            tenant: row.uuid()?,
            tenant_name: row.text()?,
            email: row.text()?,
            name: row.text()?,
        };
        let (roles, invited_by) = (roles_of(row.json()?)?, row.text::<String>()?);
        match self
            .is_stood_behind(open.tenant, &invited_by, roles)
            .await?
        {
            true => Ok(open),
            false => Err(one_time::invalid()),
        }
    }

    /// Whether whoever invited still holds the rights that the invitation gives: those of an
    /// operator are not bounded by any role.
    async fn is_stood_behind(
        &self,
        tenant: TenantId,
        invited_by: &str,
        roles: Vec<RoleId>,
    ) -> Result<bool> {
        let (core, policy) = (&self.core, &self.core.policy);
        let (kind, id) = invited_by.split_once(':').unwrap_or_default();
        let rights = match (kind, Uuid::parse_str(id)) {
            ("user", Ok(id)) => {
                let inviter = Subject::User(UserId(id));
                policy.rights_for(tenant, inviter).await?
            }
            ("api_key", Ok(id)) => match api_key::find(core, tenant, ApiKeyId(id)).await? {
                Some(key) => key_rights(core, &key).await?,
                None => None,
            },
            _ => return Ok(true),
        };
        let Some(rights) = rights else {
            return Ok(false);
        };
        for role in roles {
            // One that was deleted since is not given.
            let given = policy.grants_for(tenant, Subject::Role(role)).await?;
            let beyond = given.map(|given| given.beyond(&rights.lasting));
            let catalogue = rights.modules.catalogue();
            if beyond.is_some_and(|beyond| beyond.named(catalogue).is_some()) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// An invitation that may be accepted.
struct Open {
    tenant: TenantId,
    tenant_name: String,
    email: String,
    name: String,
}

/// Who accepts.
enum Account {
    Known(UserId),
    /// With the strength of their password.
    New(UserRow, u8),
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
        .bind(tenant, ColumnType::Uuid)
        .returns(&[ColumnType::Int]);
    let open = tx.fetch_optional(open).await?;
    if open.map_or(Ok(0), |mut row| row.int::<i64>())? < MOST_OPEN {
        return Ok(());
    }
    Err(Error::conflict(
        "too_many_invitations",
        "this tenant has 1,000 open invitations; take some back first",
    ))
}

/// Uses the invitation up. Runs under the lock on the tenant's policy.
async fn accept(
    tx: &mut Tx<'_>,
    core: &Core,
    (tenant, hash): (TenantId, Vec<u8>),
    account: Account,
    request: RequestContext,
) -> Result<Joined> {
    let now = core.clock.now();
    let invitation = redeem(tx, tenant, hash, now).await?;
    let (user_id, password_score) = match account {
        Account::Known(user) => (user, None),
        Account::New(user, score) => {
            if !insert_user(tx, &user, now).await? {
                return Err(Error::conflict(
                    "email_taken",
                    "the address has got an account meanwhile; accept with its password",
                ));
            }
            (user.id, Some(score))
        }
    };
    verify(tx, user_id, &invitation.email, now).await?;
    let roles = still_there(tx, tenant, &invitation.roles).await?;
    insert_membership(tx, (tenant, user_id), &roles, now).await?;
    let author = Author {
        clock: &core.clock,
        tenant,
        actor: Actor::User(user_id),
        request: &request,
    };
    let entity = (OBJECT, Some(user_id.to_string()));
    let after = json!({
        "email": invitation.email, "roles": roles, "invited_by": invitation.invited_by,
    });
    journal::audit_by(tx, author, "members.create", entity, None, Some(after)).await?;
    Ok(Joined {
        user_id,
        existed: password_score.is_none(),
        password_score,
    })
}

/// Takes the invitation of this token away.
async fn redeem(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    hash: Vec<u8>,
    now: DateTime<Utc>,
) -> Result<Invitation> {
    use ColumnType::{Bytes, Instant, Json, Text, Uuid};
    let redeem = Sql::new(
        "DELETE FROM invitations WHERE hash = $1 AND tenant_id = $2 AND expires_at > $3 \
         RETURNING id, email, name, roles, invited_by, created_at, expires_at",
    )
    .bind(hash, Bytes)
    .bind(tenant, Uuid)
    .bind(now, Instant)
    .returns(&[Uuid, Text, Text, Json, Text, Instant, Instant]);
    let row = tx.fetch_optional(redeem).await?;
    read(row.ok_or_else(one_time::invalid)?)
}

/// Takes the address as proven, as long as it is the user's.
async fn verify(tx: &mut Tx<'_>, user: UserId, email: &str, now: DateTime<Utc>) -> Result<()> {
    let verified = Sql::new(
        "UPDATE users SET email_verified_at = $1 \
         WHERE id = $2 AND email = $3 AND email_verified_at IS NULL",
    )
    .bind(now, ColumnType::Instant)
    .bind(user, ColumnType::Uuid)
    .bind(email, ColumnType::Text);
    tx.execute(verified).await.map(drop)
}

/// The roles that have not been deleted since.
async fn still_there(tx: &mut Tx<'_>, tenant: TenantId, roles: &[RoleId]) -> Result<Vec<RoleId>> {
    let all = Sql::new("SELECT id FROM roles WHERE tenant_id = $1")
        .bind(tenant, ColumnType::Uuid)
        .returns(&[ColumnType::Uuid]);
    let rows = tx.fetch_all(all).await?;
    let all: HashSet<RoleId> = rows
        .into_iter()
        .map(|mut row| row.uuid())
        .collect::<Result<_>>()?;
    let there = roles.iter().filter(|role| all.contains(role));
    Ok(there.copied().collect())
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
