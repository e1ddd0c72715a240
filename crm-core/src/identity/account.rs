//! Accounts: the users of an installation, and how one comes to be a member of a tenant.
//!
//! A user exists once, by e-mail, and may belong to several tenants. Nobody but that user ever
//! changes their password: whoever adds an existing user to a tenant adds a membership only.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use secrecy::SecretString;
use serde::Serialize;
use serde_json::json;

use super::email::normalize_email;
use super::name::check_name;
use super::refresh;
use super::session;
use super::tenant_security::Whose;
use crate::crm::Core;
use crate::db::{ColumnType, Sql, Tx};
use crate::error::{Error, FieldError, Result};
use crate::id::{RoleId, TenantId, UserId};
use crate::journal::{self, Author};
use crate::platform::{self, PLATFORM};
use crate::policy::{self, CompiledPolicy, Rows};
use crate::scope::{Actor, Create, Permit, RequestContext, Scope};
use crate::{member, role};

/// The accounts of this installation: registration, sessions, and who the caller is.
#[derive(Clone)]
pub struct Accounts {
    pub(super) core: Arc<Core>,
    /// The `User-Agent` of whoever opens a session.
    pub(super) user_agent: Option<Arc<str>>,
    /// Whether sessions opened let each request name its tenant.
    pub(super) roaming: bool,
    /// Whether sessions opened are operators', of the platform.
    pub(super) platform: bool,
}

/// Somebody to be made a user and a member of a tenant.
#[derive(Debug, Clone)]
pub struct NewUser {
    /// The e-mail address they log in with.
    pub email: String,
    /// Their name, 1 to 100 characters.
    pub name: String,
    /// Their first password; not used when the user exists already. Where the application
    /// [authenticates strictly](crate::Builder::strict_authentication), it is replaced at the first
    /// login.
    pub password: SecretString,
    /// Roles of the tenant, by name or id.
    pub roles: Vec<String>,
}

/// What became of a [`NewUser`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Joined {
    /// The user.
    pub user_id: UserId,
    /// Whether the user existed before: name and password stay as they were.
    pub existed: bool,
    /// The strength of the password of a user who was made, 0 to 4, as zxcvbn estimates it.
    pub password_score: Option<u8>,
}

/// Who the caller is, and what they may do where they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Me {
    /// The acting user; none for an API key.
    pub user: Option<Profile>,
    /// The tenant acted in; none for an operator on the platform.
    pub tenant: Option<TenantRef>,
    /// The roles held there.
    pub roles: Vec<member::HeldRole>,
    /// What that allows: `contacts.read`, or `contacts.update:own` for own rows only; on the
    /// platform the permissions of the operator.
    pub permissions: Vec<String>,
    /// Who acts in the user's name, where somebody else does.
    pub impersonated_by: Option<ImpersonatedBy>,
}

/// Who acts in a user's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImpersonatedBy {
    /// `user:<id>` for a member of the tenant, `operator:<id>` for an operator of the platform.
    pub actor: String,
    /// Their name.
    pub name: String,
}

/// A user, as shown to themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Profile {
    /// The user's id.
    pub id: UserId,
    /// The e-mail address they log in with.
    pub email: String,
    /// The name they may log in with instead.
    pub username: Option<String>,
    /// When they showed that they read what is sent to the address.
    pub email_verified_at: Option<DateTime<Utc>>,
    /// Their name.
    pub name: String,
    /// Their latest login.
    pub last_login_at: Option<DateTime<Utc>>,
}

/// A tenant, as shown to its members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TenantRef {
    /// The tenant's id.
    pub id: TenantId,
    /// Its name.
    pub name: String,
}

impl Accounts {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self {
            core,
            user_agent: None,
            roaming: false,
            platform: false,
        }
    }

    /// The same, for sessions opened and refreshed by this `User-Agent`; owners recognise their
    /// devices by it.
    #[must_use]
    pub fn on_device(self, user_agent: Option<&str>) -> Self {
        let user_agent = user_agent.map(Into::into);
        Self { user_agent, ..self }
    }

    /// The same, for sessions whose access tokens name no tenant: each request may name one that
    /// the user is a member of, and is otherwise about the session's active one. The second step of
    /// a login opens what its first step asked for, however it is called.
    #[must_use]
    pub fn roaming(self) -> Self {
        Self {
            roaming: true,
            ..self
        }
    }

    /// The same, for logins of operators to the platform. Whoever is an operator and member of no
    /// tenant logs in there anyway.
    #[must_use]
    pub fn on_platform(self) -> Self {
        Self {
            platform: true,
            ..self
        }
    }

    /// Makes the user when the e-mail is new, and a member of the permit's tenant.
    ///
    /// # Errors
    /// [`Error::Invalid`] for values that break a rule or an unknown role; [`Error::Refused`]
    /// `forbidden` for a role that may do more than the actor; [`Error::Conflict`] `already_member`, and
    /// for all but the operator `user_exists`: who has an account joins by an invitation that they accept.
    pub async fn create_user(&self, permit: &Permit<Create>, input: NewUser) -> Result<Joined> {
        let scope = permit.on("members")?.clone();
        let mut errors = Vec::new();
        let email = gather(&mut errors, normalize_email(&input.email))?;
        let name = gather(&mut errors, check_name("name", &input.name))?;
        let context = vec![input.email.clone(), input.name.clone()];
        let checked = self
            .check_password(
                "password",
                &input.password,
                context,
                Whose::Tenant(scope.tenant()),
            )
            .await;
        let score = gather(&mut errors, checked)?;
        if !errors.is_empty() {
            return Err(Error::Invalid(errors));
        }
        let hash = self.core.identity.passwords.hash(input.password).await?;
        let row = UserRow {
            id: UserId(scope.clock().new_id()),
            email,
            name,
            hash,
            given: true,
        };
        let (by, roles) = (scope.clone(), input.roles);
        let write = by.write_policy(move |tx| Box::pin(join(tx, scope, row, roles)));
        let joined = write.await?;
        Ok(Joined {
            password_score: (!joined.existed).then_some(score),
            ..joined
        })
    }

    /// An access token of a member, without a login: for the operator's own use. It lets in where a
    /// second factor is asked for.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no active user of this e-mail in an active tenant of this
    /// name, in any case of its letters.
    pub async fn operator_token(
        &self,
        tenant: &str,
        email: &str,
        request: RequestContext,
    ) -> Result<SecretString> {
        let email = normalize_email(email)?;
        let active = Sql::new("SELECT id FROM users WHERE email = $1 AND status = 'active'")
            .bind(email, ColumnType::Text)
            .returns(&[ColumnType::Uuid]);
        let row = self.core.db.fetch_optional(active).await?;
        let user: UserId = row.ok_or(Error::NotFound)?.uuid()?;
        let choices = self.choices(user).await?;
        let tenant = session::called(&choices, tenant.trim()).ok_or(Error::NotFound)?;
        let clock = self.core.clock.clone();
        let lifetime = self.core.identity.tokens.lifetime();
        let device = self.on_device_of(&request);
        let family = self
            .core
            .db
            .write(move |tx| {
                Box::pin(async move {
                    let whose = (tenant, user);
                    let family = refresh::open_family(tx, &clock, whose, lifetime, &device).await?;
                    // Whoever runs the server's command line stands above the factors of its users.
                    session::note_two_factors(tx, family.id).await?;
                    let author = Author {
                        clock: &clock,
                        tenant,
                        actor: Actor::Operator,
                        request: &request,
                    };
                    let entity = ("users", Some(user.to_string()));
                    journal::audit_by(tx, author, "auth.operator_token", entity, None, None)
                        .await?;
                    Ok(family)
                })
            })
            .await?;
        let tokens = &self.core.identity.tokens;
        let (token, _) = tokens.issue(&family)?;
        Ok(token)
    }

    /// Who the caller is.
    ///
    /// # Errors
    /// [`Error::NotFound`] when user or tenant vanished after the scope was made.
    pub async fn me(&self, scope: &Scope) -> Result<Me> {
        let tenant = match scope.tenant() {
            PLATFORM => None,
            id => Some(self.tenant(id).await?),
        };
        let user = match scope.actor() {
            Actor::User(id) => Some(self.profile(id).await?),
            Actor::ApiKey(_)
            | Actor::Plugin(_)
            | Actor::Operator
            | Actor::PlatformOperator(_)
            | Actor::Anonymous => None,
        };
        Ok(Me {
            user,
            tenant,
            roles: self.roles(scope).await?,
            permissions: match scope.tenant() {
                PLATFORM => self.platform_permissions(scope).await?,
                _ => permissions(scope),
            },
            impersonated_by: self.impersonator(scope).await?,
        })
    }

    async fn tenant(&self, id: TenantId) -> Result<TenantRef> {
        let tenant = Sql::new("SELECT id, name FROM tenants WHERE id = $1")
            .bind(id, ColumnType::Uuid)
            .returns(&[ColumnType::Uuid, ColumnType::Text]);
        let row = self.core.db.fetch_optional(tenant).await?;
        let mut row = row.ok_or(Error::NotFound)?;
        Ok(TenantRef {
            id: row.uuid()?,
            name: row.text()?,
        })
    }

    async fn platform_permissions(&self, scope: &Scope) -> Result<Vec<String>> {
        let Some(user) = scope.actor().user() else {
            return Ok(Vec::new());
        };
        let held = platform::permissions(&self.core.db, user).await?;
        let held = held.unwrap_or_default().into_iter();
        Ok(held.map(|permission| permission.to_string()).collect())
    }

    async fn impersonator(&self, scope: &Scope) -> Result<Option<ImpersonatedBy>> {
        let Some(actor) = scope.impersonator() else {
            return Ok(None);
        };
        let (Actor::User(id) | Actor::PlatformOperator(id)) = actor else {
            return Ok(None);
        };
        let name = self.profile(id).await?.name;
        let actor = actor.to_string();
        Ok(Some(ImpersonatedBy { actor, name }))
    }

    async fn profile(&self, id: UserId) -> Result<Profile> {
        let user = Sql::new(
            "SELECT id, email, username, email_verified_at, name, last_login_at \
             FROM users WHERE id = $1",
        )
        .bind(id, ColumnType::Uuid)
        .returns(&[
            ColumnType::Uuid,
            ColumnType::Text,
            ColumnType::Text,
            ColumnType::Instant,
            ColumnType::Text,
            ColumnType::Instant,
        ]);
        let mut row = self
            .core
            .db
            .fetch_optional(user)
            .await?
            .ok_or(Error::NotFound)?;
        Ok(Profile {
            id: row.uuid()?,
            email: row.text()?,
            username: row.opt_text()?,
            email_verified_at: row.opt_instant()?,
            name: row.text()?,
            last_login_at: row.opt_instant()?,
        })
    }

    async fn roles(&self, scope: &Scope) -> Result<Vec<member::HeldRole>> {
        let held = match scope.actor() {
            Actor::User(user) => Sql::new(
                "SELECT r.id, r.name, a.until FROM role_assignments a \
                 JOIN roles r ON r.tenant_id = a.tenant_id AND r.id = a.role_id \
                 WHERE a.tenant_id = $1 AND a.user_id = $2 ORDER BY r.id",
            )
            .bind(scope.tenant(), ColumnType::Uuid)
            .bind(user, ColumnType::Uuid),
            Actor::ApiKey(key) => Sql::new(
                "SELECT r.id, r.name, k.revoked_at FROM api_keys k \
                 JOIN roles r ON r.tenant_id = k.tenant_id AND r.id = k.role_id \
                 WHERE k.tenant_id = $1 AND k.id = $2",
            )
            .bind(scope.tenant(), ColumnType::Uuid)
            .bind(key, ColumnType::Uuid),
            Actor::Plugin(_) | Actor::Operator | Actor::PlatformOperator(_) | Actor::Anonymous => {
                return Ok(Vec::new());
            }
        };
        let rows = self.core.db.fetch_all(held.returns(&[
            ColumnType::Uuid,
            ColumnType::Text,
            ColumnType::Instant,
        ]));
        let read = |mut row: crate::db::Row| {
            Ok(member::HeldRole {
                id: row.uuid()?,
                name: row.text()?,
                until: row.opt_instant()?,
            })
        };
        rows.await?.into_iter().map(read).collect()
    }
}

fn permissions(scope: &Scope) -> Vec<String> {
    let mut all = Vec::new();
    for (operation, object, action) in scope.catalogue().operations() {
        let name = format!("{object}.{action}");
        match scope.grants().rows(operation) {
            None => {}
            Some(Rows::All) => all.push(name),
            Some(Rows::Of(rules)) => all.extend(rules.iter().map(|rule| format!("{name}{rule}"))),
        }
    }
    all
}

/// A user about to be written.
pub(super) struct UserRow {
    pub(super) id: UserId,
    pub(super) email: String,
    pub(super) name: String,
    pub(super) hash: String,
    /// Whether somebody else knows the password.
    pub(super) given: bool,
}

/// Makes a membership, and the user when there is none. Runs under the lock on the tenant's policy.
async fn join(tx: &mut Tx<'_>, scope: Scope, new: UserRow, roles: Vec<String>) -> Result<Joined> {
    let tenant = scope.tenant();
    let roles = role::resolve(tx, tenant, "roles", &roles).await?;
    let rules = policy::rules(tx, tenant).await?;
    let given = CompiledPolicy::new(scope.catalogue(), &rules).grants(&roles);
    policy::check_held(&scope, &given)?;

    let now = scope.clock().now();
    let existed = !insert_user(tx, &new, now).await?;
    let by_email = Sql::new("SELECT id FROM users WHERE email = $1")
        .bind(new.email.as_str(), ColumnType::Text)
        .returns(&[ColumnType::Uuid]);
    if existed && scope.actor() != Actor::Operator {
        refuse_existing(tx, tenant, &new.email).await?;
    }
    let user_id = tx
        .fetch_optional(by_email)
        .await?
        .ok_or(Error::NotFound)?
        .uuid()?;
    insert_membership(tx, (tenant, user_id), &roles, now).await?;
    if scope.actor() == Actor::Operator {
        vouched(tx, user_id, existed, now).await?;
    }
    let entity = ("members", Some(user_id.to_string()));
    let after = json!({ "email": new.email, "roles": roles });
    journal::audit(tx, &scope, "members.create", entity, None, Some(after)).await?;
    Ok(Joined {
        user_id,
        existed,
        password_score: None,
    })
}

/// Takes the operator's word for the address of a new user. For that of a user who existed,
/// somebody must have proven it before: an admin elsewhere may have made the account, and know its
/// password.
pub(super) async fn vouched(
    tx: &mut Tx<'_>,
    user: UserId,
    existed: bool,
    now: DateTime<Utc>,
) -> Result<()> {
    let proven = Sql::new(
        "UPDATE users SET email_verified_at = coalesce(email_verified_at, $1) \
         WHERE id = $2 AND (email_verified_at IS NOT NULL OR NOT $3)",
    )
    .bind(now, ColumnType::Instant)
    .bind(user, ColumnType::Uuid)
    .bind(existed, ColumnType::Bool);
    match tx.execute(proven).await? {
        0 => Err(Error::conflict(
            "address_unproven",
            "this address has an account that nobody has proven to be its owner's; invite it instead",
        )),
        _ => Ok(()),
    }
}

/// Whether a member of the tenant has this address.
pub(super) async fn is_member(tx: &mut Tx<'_>, tenant: TenantId, email: &str) -> Result<bool> {
    let member = Sql::new(
        "SELECT m.user_id FROM memberships m JOIN users u ON u.id = m.user_id \
         WHERE m.tenant_id = $1 AND u.email = $2",
    )
    .bind(tenant, ColumnType::Uuid)
    .bind(email, ColumnType::Text)
    .returns(&[ColumnType::Uuid]);
    Ok(tx.fetch_optional(member).await?.is_some())
}

/// Refuses to add somebody who has an account: they have not been asked.
async fn refuse_existing(tx: &mut Tx<'_>, tenant: TenantId, email: &str) -> Result<()> {
    // The membership that is there already is refused by itself.
    match is_member(tx, tenant, email).await? {
        true => Ok(()),
        false => Err(Error::conflict(
            "user_exists",
            "this address has an account; invite it, so that its owner may accept",
        )),
    }
}

/// Writes a user; `false` when there is one with this e-mail.
pub(super) async fn insert_user(
    tx: &mut Tx<'_>,
    user: &UserRow,
    now: DateTime<Utc>,
) -> Result<bool> {
    let made = tx
        .execute(
            Sql::new(
                "INSERT INTO users (id, email, name, password_hash, created_at, \
                 password_given_at, password_shared) VALUES ($1, $2, $3, $4, $5, $6, $7) \
                 ON CONFLICT (email) DO NOTHING",
            )
            .bind(user.id, ColumnType::Uuid)
            .bind(user.email.as_str(), ColumnType::Text)
            .bind(user.name.as_str(), ColumnType::Text)
            .bind(user.hash.as_str(), ColumnType::Text)
            .bind(now, ColumnType::Instant)
            .bind(user.given.then_some(now), ColumnType::Instant)
            .bind(user.given, ColumnType::Bool),
        )
        .await?;
    Ok(made > 0)
}

/// Makes a user a member with these roles.
pub(super) async fn insert_membership(
    tx: &mut Tx<'_>,
    (tenant, user): (TenantId, UserId),
    roles: &[RoleId],
    now: DateTime<Utc>,
) -> Result<()> {
    let made = tx
        .execute(
            Sql::new(
                "INSERT INTO memberships (tenant_id, user_id, created_at) VALUES ($1, $2, $3) \
                 ON CONFLICT (tenant_id, user_id) DO NOTHING",
            )
            .bind(tenant, ColumnType::Uuid)
            .bind(user, ColumnType::Uuid)
            .bind(now, ColumnType::Instant),
        )
        .await?;
    if made == 0 {
        return Err(Error::conflict(
            "already_member",
            "this user is a member of the tenant already; change their roles instead",
        ));
    }
    member::assign(tx, tenant, user, roles, now).await
}

/// Keeps the refused fields of a check, so that all checks of an input are answered at once.
pub(crate) fn gather<T: Default>(errors: &mut Vec<FieldError>, checked: Result<T>) -> Result<T> {
    match checked {
        Err(Error::Invalid(fields)) => {
            errors.extend(fields);
            Ok(T::default())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests;
