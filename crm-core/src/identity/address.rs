//! The addresses and names that users log in with: proving an address, changing it, and the user
//! name.
//!
//! An address changes once its new owner has shown that they read what is sent there. Whether
//! another user has it is told to that address alone.

use chrono::TimeDelta;
use secrecy::SecretString;

use super::account::Accounts;
use super::email::normalize_email;
use super::one_time::{self, Purpose};
use super::own::{self, Owner};
use super::reset::MAIL_PAUSE;
use crate::crm::Core;
use crate::db::{ColumnType, Sql, Tx};
use crate::error::{Error, Result};
use crate::mail::{self, Letter, Link, MailKind};
use crate::scope::Scope;

/// Longest user name, in characters.
const MAX_USERNAME_CHARS: usize = 80;
/// Shortest one.
const MIN_USERNAME_CHARS: usize = 3;

impl Accounts {
    /// Sends the caller a link that proves their address, at most one a minute; nothing when it is
    /// proven.
    ///
    /// # Errors
    /// [`Error::Conflict`] `not_a_user`.
    pub async fn send_verification(&self, scope: &Scope) -> Result<()> {
        let owner = self.person(scope).await?;
        if owner.verified {
            return Ok(());
        }
        let core = self.core.clone();
        self.core
            .db
            .write(move |tx| {
                Box::pin(async move {
                    match own::has_address(tx, owner.id, &owner.email).await? {
                        true => {
                            let kind = MailKind::VerifyEmail;
                            send_link(tx, &core, &owner, kind, &owner.email).await
                        }
                        false => Ok(()),
                    }
                })
            })
            .await?;
        self.core.post.wake();
        Ok(())
    }

    /// Sends a link to the address that the caller wants to have from now on; the address changes
    /// when it is used.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what is no address, and on `password`; [`Error::TooMany`];
    /// [`Error::Conflict`] `not_a_user`, `bound_session`, `second_factor_required`. Not for an address
    /// of another user, who gets a mail instead.
    pub async fn change_email(
        &self,
        scope: &Scope,
        email: &str,
        password: SecretString,
    ) -> Result<()> {
        let email = normalize_email(email)?;
        let owner = self.owner(scope).await?;
        self.confirm(&owner, "password", password, scope).await?;
        if email == owner.email {
            return self.send_verification(scope).await;
        }
        let (core, scope) = (self.core.clone(), scope.clone());
        let write = self.core.db.write(move |tx| {
            Box::pin(async move {
                match tx.fetch_optional(Owner::by_email(&email)).await? {
                    Some(other) => {
                        let other = Owner::read(other)?;
                        own::notify(tx, &core, &other, MailKind::EmailInUse).await?;
                    }
                    None => send_link(tx, &core, &owner, MailKind::ChangeEmail, &email).await?,
                }
                let action = "auth.email_change_requested";
                own::audit(tx, &core.clock, owner.id, scope.request(), action).await
            })
        });
        write.await?;
        self.core.post.wake();
        Ok(())
    }

    /// Takes an address as proven, and as the caller's from now on, with the token of a link that
    /// was sent there for them. When the address changes, all other links die.
    ///
    /// The link alone proves nothing: whoever reads the mails of an address may be sent one by an
    /// account that somebody else has made for it.
    ///
    /// # Errors
    /// [`Error::Invalid`] on `token` for one that is unknown, used, replaced, older than a day or
    /// another user's; [`Error::Conflict`] `email_taken` when another user has got the address
    /// meanwhile, `not_a_user`, `bound_session`.
    pub async fn verify_email(&self, scope: &Scope, token: SecretString) -> Result<()> {
        let request = scope.request().clone();
        self.limit("verify", "", &request)?;
        let caller = self.person(scope).await?.id;
        let core = self.core.clone();
        let write = self.core.db.write(move |tx| {
            Box::pin(async move {
                let used = one_time::redeem(tx, &core.clock, Purpose::VerifyEmail, &token).await?;
                if used.user != caller {
                    return Err(one_time::invalid());
                }
                let row = tx.fetch_optional(Owner::by_id(caller)).await?;
                let owner = Owner::read(row.ok_or_else(one_time::invalid)?)?;
                prove(tx, &core, &owner, &used.email).await?;
                let mut action = "auth.email_verified";
                if used.email != owner.email {
                    one_time::kill(tx, owner.id).await?;
                    own::notify(tx, &core, &owner, MailKind::EmailChanged).await?;
                    action = "auth.email_changed";
                }
                own::audit(tx, &core.clock, owner.id, &request, action).await
            })
        });
        write.await?;
        self.core.post.wake();
        Ok(())
    }

    /// Sets the name that the caller may log in with instead of their address; `None` takes it
    /// away.
    ///
    /// # Errors
    /// [`Error::Invalid`] on `username`, `password`; [`Error::TooMany`] after too many wrong passwords;
    /// [`Error::Conflict`] `username_taken`, `not_a_user`, `bound_session`, `second_factor_required`.
    pub async fn set_username(
        &self,
        scope: &Scope,
        username: Option<&str>,
        password: SecretString,
    ) -> Result<()> {
        let username = username.map(normalize_username).transpose()?;
        let owner = self.owner(scope).await?;
        self.confirm(&owner, "password", password, scope).await?;
        let (clock, scope) = (self.core.clock.clone(), scope.clone());
        self.core
            .db
            .write(move |tx| {
                Box::pin(async move {
                    write_username(tx, &owner, username).await?;
                    let action = "auth.username_changed";
                    own::audit(tx, &clock, owner.id, scope.request(), action).await
                })
            })
            .await
    }
}

async fn send_link(
    tx: &mut Tx<'_>,
    core: &Core,
    owner: &Owner,
    kind: MailKind,
    email: &str,
) -> Result<()> {
    let (purpose, place) = (Purpose::VerifyEmail, (owner.id, email));
    // A mistyped address may be mended at once; the same one again waits.
    let pause = match kind {
        MailKind::ChangeEmail => TimeDelta::zero(),
        _ => MAIL_PAUSE,
    };
    let Some(token) = one_time::make(tx, &core.clock, purpose, place, pause).await? else {
        return Ok(());
    };
    let letter = Letter {
        kind,
        to: email,
        name: &owner.name,
        tenant: None,
        by: None,
        link: Some(Link {
            token: &token,
            holds: "one day",
        }),
    };
    mail::enqueue(tx, core, letter, core.clock.now() + purpose.lifetime()).await
}

async fn prove(tx: &mut Tx<'_>, core: &Core, owner: &Owner, email: &str) -> Result<()> {
    let taken = Sql::new("SELECT id FROM users WHERE email = $1 AND id <> $2")
        .bind(email, ColumnType::Text)
        .bind(owner.id, ColumnType::Uuid)
        .returns(&[ColumnType::Uuid]);
    if tx.fetch_optional(taken).await?.is_some() {
        return Err(Error::conflict(
            "email_taken",
            "another account has this address now; log in with that one",
        ));
    }
    let set = Sql::new("UPDATE users SET email = $1, email_verified_at = $2 WHERE id = $3")
        .bind(email, ColumnType::Text)
        .bind(core.clock.now(), ColumnType::Instant)
        .bind(owner.id, ColumnType::Uuid);
    tx.execute(set).await?;
    Ok(())
}

async fn write_username(tx: &mut Tx<'_>, owner: &Owner, username: Option<String>) -> Result<()> {
    let taken = Sql::new("SELECT id FROM users WHERE username = $1 AND id <> $2")
        .bind(username.clone(), ColumnType::Text)
        .bind(owner.id, ColumnType::Uuid)
        .returns(&[ColumnType::Uuid]);
    if tx.fetch_optional(taken).await?.is_some() {
        return Err(username_taken());
    }
    let set = Sql::new("UPDATE users SET username = $1 WHERE id = $2")
        .bind(username, ColumnType::Text)
        .bind(owner.id, ColumnType::Uuid);
    tx.execute(set).await?;
    Ok(())
}

pub(super) fn username_taken() -> Error {
    Error::conflict(
        "username_taken",
        "somebody has this user name; choose another",
    )
}

/// The user name as stored and compared: trimmed and lower-cased.
///
/// It has 3 to 80 characters of `a-z`, `0-9`, `.`, `_` and `-`, and begins with a letter or digit:
/// no letters that look alike, and no `@`, so that it is never taken for an address.
///
/// # Errors
/// [`Error::Invalid`] on `username`, `malformed`.
pub fn normalize_username(text: &str) -> Result<String> {
    let name = text.trim().to_ascii_lowercase();
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let fits = (MIN_USERNAME_CHARS..=MAX_USERNAME_CHARS).contains(&name.len())
        && name.bytes().next().is_some_and(allowed)
        && name
            .bytes()
            .all(|byte| allowed(byte) || b"._-".contains(&byte));
    if fits {
        return Ok(name);
    }
    let message = "Use 3 to 80 letters, digits, dots, hyphens and underscores, beginning with a \
                   letter or digit.";
    Err(Error::invalid("username", "malformed", message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_name_is_compared_without_case_and_is_never_an_address() {
        assert_eq!(
            normalize_username(" Employee.One ").unwrap(),
            "employee.one"
        );
        for text in [
            "",
            "ab",
            "a@b.example",
            ".dot",
            "two words",
            "Ärzte",
            &"x".repeat(81),
        ] {
            assert!(normalize_username(text).is_err(), "{text}");
        }
    }
}
