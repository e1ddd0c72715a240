//! Users of another system, taken over by the operator with the hashes of their passwords.

use serde::Deserialize;
use serde_json::json;

use super::account::{Accounts, Joined, UserRow, gather, insert_membership, insert_user, vouched};
use super::address::{normalize_username, username_taken};
use super::email::normalize_email;
use super::name::check_name;
use super::password::is_stored_hash;
use crate::db::{ColumnType, Sql, Tx};
use crate::error::{Error, Result};
use crate::id::UserId;
use crate::journal;
use crate::role;
use crate::scope::{Actor, Create, Permit, Scope};

/// A user of another system.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportedUser {
    /// The e-mail address they log in with.
    pub email: String,
    /// Their name, 1 to 100 characters.
    pub name: String,
    /// The name they may log in with instead.
    #[serde(default)]
    pub username: Option<String>,
    /// The hash of their password: bcrypt (`$2b$12$…`, cost 4 to 15) or argon2id (`$argon2id$…`).
    /// It is replaced by one made here at their first login; a bcrypt hash only by a password below
    /// 72 bytes, since bcrypt looks at no more: others stay until they are changed.
    pub password_hash: String,
    /// Roles of the tenant, by name or id.
    #[serde(default)]
    pub roles: Vec<String>,
}

impl Accounts {
    /// Makes a user with the password they had, and a member of the permit's tenant; for the
    /// operator alone. A user who exists keeps name and password, and becomes a member.
    ///
    /// # Errors
    /// [`Error::Forbidden`] for all but the operator; [`Error::Invalid`] for values that break a rule
    /// or an unknown role; [`Error::Conflict`] `already_member`, `username_taken`.
    pub async fn import_user(
        &self,
        permit: &Permit<Create>,
        input: ImportedUser,
    ) -> Result<Joined> {
        let scope = permit.on("members")?.clone();
        if scope.actor() != Actor::Operator {
            return Err(Error::Forbidden {
                permission: "operator".into(),
            });
        }
        let mut errors = Vec::new();
        let email = gather(&mut errors, normalize_email(&input.email))?;
        let name = gather(&mut errors, check_name("name", &input.name))?;
        let username = input.username.as_deref().map(normalize_username);
        let username = gather(&mut errors, username.transpose())?;
        if !is_stored_hash(&input.password_hash) {
            let message = "Give a bcrypt hash of cost 4 to 15, or an argon2id hash.";
            gather(
                &mut errors,
                Err::<(), _>(Error::invalid("password_hash", "unknown_hash", message)),
            )?;
        }
        if !errors.is_empty() {
            return Err(Error::Invalid(errors));
        }
        let row = UserRow {
            id: UserId(scope.clock().new_id()),
            email,
            name,
            hash: input.password_hash,
            given: false,
        };
        let (by, roles) = (scope.clone(), input.roles);
        let write = by.write_policy(move |tx| {
            Box::pin(async move { import(tx, scope, row, username, roles).await })
        });
        write.await
    }
}

async fn import(
    tx: &mut Tx<'_>,
    scope: Scope,
    row: UserRow,
    username: Option<String>,
    roles: Vec<String>,
) -> Result<Joined> {
    let (tenant, now) = (scope.tenant(), scope.clock().now());
    let roles = role::resolve(tx, tenant, "roles", &roles).await?;
    let existed = !insert_user(tx, &row, now).await?;
    let by_email = Sql::new("SELECT id FROM users WHERE email = $1")
        .bind(row.email.as_str(), ColumnType::Text)
        .returns(&[ColumnType::Uuid]);
    let found = tx.fetch_optional(by_email).await?;
    let user_id: UserId = found.ok_or(Error::NotFound)?.uuid()?;
    if let (Some(username), false) = (username, existed) {
        let taken = Sql::new("SELECT id FROM users WHERE username = $1")
            .bind(username.as_str(), ColumnType::Text)
            .returns(&[ColumnType::Uuid]);
        if tx.fetch_optional(taken).await?.is_some() {
            return Err(username_taken());
        }
        let set = Sql::new("UPDATE users SET username = $1 WHERE id = $2")
            .bind(username, ColumnType::Text)
            .bind(user_id, ColumnType::Uuid);
        tx.execute(set).await?;
    }
    insert_membership(tx, (tenant, user_id), &roles, now).await?;
    vouched(tx, user_id, existed, now).await?;
    let entity = ("members", Some(user_id.to_string()));
    let after = json!({ "email": row.email, "roles": roles, "imported": true });
    journal::audit(tx, &scope, "members.create", entity, None, Some(after)).await?;
    Ok(Joined {
        user_id,
        existed,
        password_score: None,
    })
}

#[cfg(test)]
mod tests;
