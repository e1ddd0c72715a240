//! The codes of a user's device, and the recovery codes that stand in for it. Each works once.

use chrono::{DateTime, Utc};
use secrecy::SecretString;

use crate::crm::Core;
use crate::db::{ColumnType, Sql, Tx};
use crate::error::{Error, Result};
use crate::id::UserId;
use crate::identity::own::Owner;
use crate::identity::{Sealed, lockout, opaque, passkey, session, totp};
use crate::scope::Scope;

/// Recovery codes that a user gets at a time.
const RECOVERY_CODES: usize = 10;
/// Random bytes of a recovery code: 120 bits, so that a plain hash protects it (ASVS 5, 6.5.2).
const RECOVERY_BYTES: usize = 15;
/// Longest text looked at as a code.
const MOST_CODE_BYTES: usize = 64;

/// A factor as it is stored.
pub(super) struct Factor {
    secret: Vec<u8>,
    pub(super) confirmed: bool,
}

/// By what a code passes: the device, a recovery code, or the device that it confirms.
pub(super) async fn passes(
    tx: &mut Tx<'_>,
    core: &Core,
    user: UserId,
    code: &str,
) -> Result<Option<&'static str>> {
    let Some(factor) = factor(tx, core, user).await? else {
        return Ok(None);
    };
    // Whoever has a passkey confirms codes in a session, not by knowing the password.
    if !factor.confirmed && passkey::exists_in(tx, user).await? {
        return Ok(None);
    }
    if use_totp(tx, core, user, &factor, code).await? {
        if !factor.confirmed {
            switch_on(tx, core, user).await?;
        }
        return Ok(Some("totp"));
    }
    let recovered = factor.confirmed && use_recovery_code(tx, user, code).await?;
    Ok(recovered.then_some("recovery_code"))
}

/// Spends a code of a user whose factor is on; the session has passed it from now on. A wrong one,
/// the inner error, counts as one at a login does: the transaction commits it.
///
/// # Errors
/// [`Error::Conflict`] `no_second_factor`; [`Error::TooMany`] as long as the codes are locked.
pub(in crate::identity) async fn spend(
    tx: &mut Tx<'_>,
    core: &Core,
    scope: &Scope,
    user: UserId,
    code: &str,
) -> Result<Result<()>> {
    let factor = factor(tx, core, user).await?;
    if !factor.is_some_and(|factor| factor.confirmed) {
        return Err(none());
    }
    let owner = tx.fetch_optional(Owner::by_id(user)).await?;
    let owner = Owner::read(owner.ok_or(Error::NotFound)?)?;
    let codes = lockout::codes_of(user);
    lockout::check_in(tx, &core.clock, &codes).await?;
    if passes(tx, core, user, code).await?.is_none() {
        lockout::fail_in(tx, &core.clock, &codes).await?;
        lockout::fail_owner(tx, &core.clock, &owner, scope.request()).await?;
        return Ok(Err(wrong_code()));
    }
    lockout::clear(tx, &codes).await?;
    lockout::clear(tx, &owner.email).await?;
    if let Some(session) = scope.session() {
        session::note_two_factors(tx, session).await?;
    }
    Ok(Ok(()))
}

/// Whether the user's time-based codes are on.
pub(in crate::identity) async fn has_codes(tx: &mut Tx<'_>, user: UserId) -> Result<bool> {
    let find = Sql::new(
        "SELECT user_id FROM totp_factors WHERE user_id = $1 AND confirmed_at IS NOT NULL",
    )
    .bind(user, ColumnType::Uuid)
    .returns(&[ColumnType::Uuid]);
    Ok(tx.fetch_optional(find).await?.is_some())
}

pub(super) async fn factor(tx: &mut Tx<'_>, core: &Core, user: UserId) -> Result<Option<Factor>> {
    let find = Sql::new("SELECT sealed, confirmed_at FROM totp_factors WHERE user_id = $1")
        .bind(user, ColumnType::Uuid)
        .returns(&[ColumnType::Bytes, ColumnType::Instant]);
    let Some(mut row) = tx.fetch_optional(find).await? else {
        return Ok(None);
    };
    let sealed: Vec<u8> = row.bytes()?;
    let secret = core.identity.seal.open(&label(user), &sealed);
    Ok(Some(Factor {
        // Sealed under a secret that is gone: the operator takes the factor away.
        secret: secret.ok_or_else(|| Error::Inconsistent {
            table: "totp_factors".into(),
            column: "sealed".into(),
        })?,
        confirmed: row.opt_instant::<DateTime<Utc>>()?.is_some(),
    }))
}

/// Where the secrets of devices lie.
pub(in crate::identity) const SEALED: Sealed = Sealed {
    words: ("second factor", "second factors"),
    table: "totp_factors",
    column: "sealed",
    optional: false,
    key: &[("user_id", ColumnType::Uuid)],
    label: |mut row| Ok(label(row.uuid()?)),
};

pub(super) fn label(user: UserId) -> String {
    format!("totp:{user}")
}

/// Uses a code of the device, once and never one of an earlier step again (RFC 6238 §5.2).
pub(super) async fn use_totp(
    tx: &mut Tx<'_>,
    core: &Core,
    user: UserId,
    factor: &Factor,
    code: &str,
) -> Result<bool> {
    let code = code.trim();
    if !totp::is_code(code) {
        return Ok(false);
    }
    let drift = i64::from(!core.identity.strict);
    let Some(step) = totp::step_of(&factor.secret, code, core.clock.now(), drift) else {
        return Ok(false);
    };
    let advance =
        Sql::new("UPDATE totp_factors SET last_step = $1 WHERE user_id = $2 AND last_step < $1")
            .bind(step, ColumnType::Int)
            .bind(user, ColumnType::Uuid);
    Ok(tx.execute(advance).await? > 0)
}

async fn use_recovery_code(tx: &mut Tx<'_>, user: UserId, code: &str) -> Result<bool> {
    if code.len() > MOST_CODE_BYTES {
        return Ok(false);
    }
    let delete = Sql::new("DELETE FROM recovery_codes WHERE user_id = $1 AND hash = $2")
        .bind(user, ColumnType::Uuid)
        .bind(opaque::hash(&plain(code).into()), ColumnType::Bytes);
    Ok(tx.execute(delete).await? > 0)
}

/// A recovery code as hashed: without what people add to read it.
fn plain(code: &str) -> String {
    let letters = code.chars().filter(|char| char.is_ascii_alphanumeric());
    letters.map(|char| char.to_ascii_uppercase()).collect()
}

pub(super) async fn switch_on(tx: &mut Tx<'_>, core: &Core, user: UserId) -> Result<()> {
    let set = Sql::new("UPDATE totp_factors SET confirmed_at = $1 WHERE user_id = $2")
        .bind(core.clock.now(), ColumnType::Instant)
        .bind(user, ColumnType::Uuid);
    tx.execute(set).await?;
    Ok(())
}

pub(super) async fn replace_codes(
    tx: &mut Tx<'_>,
    core: &Core,
    user: UserId,
) -> Result<Vec<SecretString>> {
    let delete = Sql::new("DELETE FROM recovery_codes WHERE user_id = $1");
    tx.execute(delete.bind(user, ColumnType::Uuid)).await?;
    let mut codes = Vec::new();
    for _ in 0..RECOVERY_CODES {
        let text = totp::base32(&core.clock.random::<RECOVERY_BYTES>());
        let insert = Sql::new("INSERT INTO recovery_codes (user_id, hash) VALUES ($1, $2)")
            .bind(user, ColumnType::Uuid)
            .bind(opaque::hash(&text.as_str().into()), ColumnType::Bytes);
        tx.execute(insert).await?;
        codes.push(grouped(&text).into());
    }
    Ok(codes)
}

/// Letters in groups of four.
fn grouped(text: &str) -> String {
    let letters: Vec<char> = text.chars().collect();
    let groups = letters.chunks(4).map(String::from_iter);
    groups.collect::<Vec<String>>().join("-")
}

pub(super) fn none() -> Error {
    let message = "there is no second factor; set one up first";
    Error::conflict("no_second_factor", message)
}

pub(super) fn wrong_code() -> Error {
    let message = "The code is wrong, out of date or used; take the next one of your device.";
    Error::invalid("code", "wrong_code", message)
}
