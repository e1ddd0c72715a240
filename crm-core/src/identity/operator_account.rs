//! The account of somebody who becomes an operator: the one they have, or a new one.

use chrono::{DateTime, Utc};
use secrecy::SecretString;

use super::account::{UserRow, gather, insert_membership, insert_user, vouched};
use super::email::normalize_email;
use super::name::check_name;
use super::opaque;
use crate::crm::Core;
use crate::db::{ColumnType, Sql, Tx};
use crate::error::{Error, Result};
use crate::id::UserId;
use crate::platform::PLATFORM;

/// An account about to be one of the platform's.
pub(crate) struct OperatorAccount(UserRow);

impl OperatorAccount {
    /// Checks its values. Without a password it gets one that nobody knows, until its owner sets
    /// another by a link.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every value that breaks a rule.
    pub(crate) async fn new(
        core: &Core,
        email: &str,
        name: String,
        password: Option<SecretString>,
    ) -> Result<Self> {
        let mut errors = Vec::new();
        let passwords = &core.identity.passwords;
        if let Some(password) = &password {
            let words = vec![email.to_owned(), name.clone()];
            let checked = passwords.check("password", password, words).await;
            gather(&mut errors, checked)?;
        }
        let email = gather(&mut errors, normalize_email(email))?;
        let name = gather(&mut errors, check_name("name", &name))?;
        if !errors.is_empty() {
            return Err(Error::Invalid(errors));
        }
        let given = password.is_some();
        let password = password.unwrap_or_else(|| opaque::generate(&core.clock, ""));
        Ok(Self(UserRow {
            id: UserId(core.clock.new_id()),
            email,
            name,
            hash: passwords.hash(password).await?,
            given,
        }))
    }

    /// Makes the account when there is none of its address, and a member of the platform; answers
    /// whose it is, and whether it existed.
    ///
    /// # Errors
    /// [`Error::Conflict`] `already_operator`, `not_a_person`, and `address_unproven` for an account
    /// whose address nobody has proven to be its owner's.
    pub(crate) async fn join(self, tx: &mut Tx<'_>, now: DateTime<Utc>) -> Result<(UserId, bool)> {
        let Self(row) = self;
        let existed = !insert_user(tx, &row, now).await?;
        let find = Sql::new(
            "SELECT u.id, u.kind = 'person' AND u.status = 'active', m.user_id FROM users u \
             LEFT JOIN memberships m ON m.tenant_id = $1 AND m.user_id = u.id WHERE u.email = $2",
        )
        .bind(PLATFORM, ColumnType::Uuid)
        .bind(row.email.as_str(), ColumnType::Text)
        .returns(&[ColumnType::Uuid, ColumnType::Bool, ColumnType::Uuid]);
        let mut found = tx.fetch_optional(find).await?.ok_or(Error::NotFound)?;
        let user = found.uuid()?;
        if !found.bool()? {
            let message = "this account is a program's or not active; use another address";
            return Err(Error::conflict("not_a_person", message));
        }
        if found.opt_uuid::<UserId>()?.is_some() {
            let message = "this user is an operator already; take them away first to change that";
            return Err(Error::conflict("already_operator", message));
        }
        vouched(tx, user, existed, now).await?;
        insert_membership(tx, (PLATFORM, user), &[], now).await?;
        Ok((user, existed))
    }
}
