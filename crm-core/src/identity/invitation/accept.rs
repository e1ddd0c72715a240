//! Accepting an invitation: by its link, with a new account or the one that the address has, as long
//! as whoever invited still holds what it gives.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use secrecy::SecretString;
use serde_json::json;
use uuid::Uuid;

use super::{Invitation, OBJECT, read, roles_of};
use crate::crm::Core;
use crate::db::{ColumnType, Sql, Tx};
use crate::error::{Error, Result};
use crate::id::{ApiKeyId, RoleId, TenantId, UserId};
use crate::identity::account::{Accounts, Joined, UserRow, insert_membership, insert_user};
use crate::identity::api_key;
use crate::identity::key_rights::key_rights;
use crate::identity::lockout;
use crate::identity::name::check_name;
use crate::identity::one_time;
use crate::identity::opaque;
use crate::identity::own::Owner;
use crate::identity::password::Verdict;
use crate::identity::session::invalid_credentials;
use crate::identity::tenant_security::Whose;
use crate::journal::{self, Author};
use crate::policy::Subject;
use crate::scope::{Actor, RequestContext};

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
                if verdict == Verdict::Wrong || self.is_late(owner.given_at) {
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
