//! Registering a passkey: by whoever has shown again who they are.

use secrecy::SecretString;
use uuid::Uuid;
use webauthn_rs::prelude::{
    CredentialID, Passkey as Credential, PasskeyRegistration, RegisterPublicKeyCredential,
};

use super::Passkey;
use super::ceremony::{self, PasskeyCeremony, Purpose, credential_hash, unreadable};
use crate::crm::Core;
use crate::db::{ColumnType, Sql, Tx};
use crate::error::{Error, Refusal, Result};
use crate::id::{PasskeyId, UserId};
use crate::identity::account::Accounts;
use crate::identity::name::check_name;
use crate::identity::step_up::{StepUp, pass_second_factor};
use crate::identity::{own, session};
use crate::mail::MailKind;
use crate::scope::Scope;

/// Most passkeys of one user.
const MOST: i64 = 20;

/// What a device made.
#[derive(Debug, Clone)]
pub struct NewPasskey {
    /// The token of the ceremony.
    pub token: SecretString,
    /// What the owner calls it, 1 to 100 characters.
    pub name: String,
    /// What `navigator.credentials.create` gave, as its `toJSON()` writes it.
    pub credential: serde_json::Value,
}

impl Accounts {
    /// Asks a device of the caller's for a new passkey.
    ///
    /// # Errors
    /// [`Error::Invalid`] on `password` or `code`; [`Error::Conflict`] `passkeys_unavailable`,
    /// `too_many_passkeys`, `no_password`, `not_a_user`, `bound_session`, `second_factor_required` for
    /// a session without the second factor of a user who has passkeys alone; [`Error::Refused`]
    /// `password_change_required` while the password is one that somebody else set;
    /// [`Error::TooMany`].
    pub async fn begin_passkey(&self, scope: &Scope, proof: StepUp) -> Result<PasskeyCeremony> {
        self.party()?;
        let owner = self.step_up(scope, &proof).await?;
        let (accounts, scope) = (self.clone(), scope.clone());
        let write = self.core.db.write(move |tx| {
            Box::pin(async move {
                let core = &accounts.core;
                let code = proof.code.as_deref();
                if let Err(wrong) = pass_second_factor(tx, core, &scope, owner.id, code).await? {
                    return Ok(Err(wrong));
                }
                check_own_password(tx, owner.id).await?;
                check_room(tx, owner.id).await?;
                let handle = handle(tx, core, owner.id).await?;
                let known = credential_ids(tx, owner.id).await?;
                let (asked, state) = accounts
                    .party()?
                    .0
                    .start_passkey_registration(handle, &owner.email, &owner.name, Some(known))
                    .map_err(Error::internal)?;
                let whose = (Purpose::Register, Some(owner.id));
                let token = ceremony::open(tx, core, whose, &state).await?;
                let mut options =
                    serde_json::to_value(asked.public_key).map_err(Error::internal)?;
                // A passkey is found by its device, without a user name; webauthn-rs asks for less.
                let selection = &mut options["authenticatorSelection"];
                selection["residentKey"] = "required".into();
                selection["requireResidentKey"] = true.into();
                Ok(Ok(PasskeyCeremony { token, options }))
            })
        });
        write.await?
    }

    /// Registers what the device made. A session that registers the first factor has passed it.
    ///
    /// # Errors
    /// [`Error::Invalid`] on `name`; on `passkey_token` for one that is unknown, used or older than
    /// five minutes; on `credential` for one that does not answer it; [`Error::Conflict`]
    /// `passkey_exists`, `too_many_passkeys`, `passkeys_unavailable`, `not_a_user`, `bound_session`,
    /// `second_factor_required`.
    pub async fn finish_passkey(&self, scope: &Scope, new: NewPasskey) -> Result<Passkey> {
        self.party()?;
        let owner = self.owner(scope).await?;
        let name = check_name("name", &new.name)?;
        let answer: RegisterPublicKeyCredential = ceremony::read(new.credential)?;
        let (accounts, scope, token) = (self.clone(), scope.clone(), new.token);
        // A wrong answer is no failure of the transaction: it must use the challenge up.
        let write = self.core.db.write(move |tx| {
            Box::pin(async move {
                let core = &accounts.core;
                own::check_passed(tx, &scope, owner.id).await?;
                let whose = (Purpose::Register, Some(owner.id));
                let state: Option<PasskeyRegistration> =
                    ceremony::take(tx, core, whose, &token).await?;
                let Some(state) = state else {
                    return Ok(Err(unknown_ceremony()));
                };
                let party = accounts.party()?;
                let Ok(credential) = party.0.finish_passkey_registration(&answer, &state) else {
                    return Ok(Err(refused()));
                };
                check_own_password(tx, owner.id).await?;
                check_room(tx, owner.id).await?;
                let made = insert(tx, core, (owner.id, name), &credential).await?;
                if let Some(session) = scope.session() {
                    session::note_two_factors(tx, session).await?;
                }
                let told = (MailKind::PasskeysChanged, "auth.passkey_registered");
                own::tell(tx, core, &owner, scope.request(), told).await?;
                Ok(Ok(made))
            })
        });
        let made = write.await??;
        self.core.post.wake();
        Ok(made)
    }
}

/// Refuses a passkey as long as the password is one that somebody else set: whoever did so could
/// register one, and have a way into the account that outlives the password.
///
/// # Errors
/// [`Error::Refused`] `password_change_required`.
async fn check_own_password(tx: &mut Tx<'_>, user: UserId) -> Result<()> {
    let shared = Sql::new("SELECT 1 FROM users WHERE id = $1 AND password_shared = $2")
        .bind(user, ColumnType::Uuid)
        .bind(true, ColumnType::Bool);
    match tx.fetch_optional(shared).await? {
        None => Ok(()),
        Some(_) => Err(Refusal::forbidden(
            "password_change_required",
            "somebody else set this password and may know it: change it, and do this then",
        )
        .into()),
    }
}

/// Refuses one passkey more than a user may have. Of two registrations at once the second waits
/// here for the first.
async fn check_room(tx: &mut Tx<'_>, user: UserId) -> Result<()> {
    let hold = Sql::new("UPDATE users SET name = name WHERE id = $1 AND status = 'active'");
    if tx.execute(hold.bind(user, ColumnType::Uuid)).await? == 0 {
        return Err(Error::NotFound);
    }
    let count = Sql::new("SELECT count(*) FROM passkeys WHERE user_id = $1")
        .bind(user, ColumnType::Uuid)
        .returns(&[ColumnType::Int]);
    let mut row = tx.fetch_optional(count).await?.ok_or(Error::NotFound)?;
    match row.int::<i64>()? {
        MOST.. => Err(too_many()),
        _ => Ok(()),
    }
}

async fn insert(
    tx: &mut Tx<'_>,
    core: &Core,
    (user, name): (UserId, String),
    credential: &Credential,
) -> Result<Passkey> {
    let (id, now) = core.clock.new_id_and_time();
    let text = serde_json::to_string(credential).map_err(Error::internal)?;
    let insert = Sql::new(
        "INSERT INTO passkeys (id, user_id, credential_hash, credential, name, created_at) \
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (credential_hash) DO NOTHING",
    )
    .bind(id, ColumnType::Uuid)
    .bind(user, ColumnType::Uuid)
    .bind(credential_hash(credential.cred_id()), ColumnType::Bytes)
    .bind(text, ColumnType::Text)
    .bind(name.as_str(), ColumnType::Text)
    .bind(now, ColumnType::Instant);
    if tx.execute(insert).await? == 0 {
        return Err(Error::conflict(
            "passkey_exists",
            "this passkey is registered already; use another device",
        ));
    }
    // Codes that were begun and never confirmed: perhaps by somebody who only knew the password.
    let begun = Sql::new("DELETE FROM totp_factors WHERE user_id = $1 AND confirmed_at IS NULL");
    tx.execute(begun.bind(user, ColumnType::Uuid)).await?;
    Ok(Passkey {
        id: PasskeyId(id),
        name,
        created_at: now,
        last_used_at: None,
    })
}

/// What the user's devices know them by, made when it is first needed.
async fn handle(tx: &mut Tx<'_>, core: &Core, user: UserId) -> Result<Uuid> {
    let random = uuid::Builder::from_random_bytes(core.clock.random()).into_uuid();
    let make = Sql::new(
        "INSERT INTO passkey_handles (user_id, handle) VALUES ($1, $2) \
         ON CONFLICT (user_id) DO NOTHING",
    )
    .bind(user, ColumnType::Uuid)
    .bind(random.as_bytes().to_vec(), ColumnType::Bytes);
    tx.execute(make).await?;
    let find = Sql::new("SELECT handle FROM passkey_handles WHERE user_id = $1")
        .bind(user, ColumnType::Uuid)
        .returns(&[ColumnType::Bytes]);
    let mut row = tx.fetch_optional(find).await?.ok_or(Error::NotFound)?;
    let handle: Vec<u8> = row.bytes()?;
    Uuid::from_slice(&handle).map_err(|_| Error::Inconsistent {
        table: "passkey_handles".into(),
        column: "handle".into(),
    })
}

/// The credentials of the user's passkeys.
pub(super) async fn credential_ids(tx: &mut Tx<'_>, user: UserId) -> Result<Vec<CredentialID>> {
    let own = Sql::new("SELECT credential FROM passkeys WHERE user_id = $1 ORDER BY id")
        .bind(user, ColumnType::Uuid)
        .returns(&[ColumnType::Text]);
    let mut ids = Vec::new();
    for mut row in tx.fetch_all(own).await? {
        let text: String = row.text()?;
        let credential: Credential = serde_json::from_str(&text).map_err(|_| unreadable())?;
        ids.push(credential.cred_id().clone());
    }
    Ok(ids)
}

fn too_many() -> Error {
    let message = format!("a user has at most {MOST} passkeys; remove one first");
    Error::conflict("too_many_passkeys", message)
}

pub(super) fn unknown_ceremony() -> Error {
    let message = "This challenge is unknown, used or out of date; ask for a new one.";
    Error::invalid("passkey_token", "invalid_token", message)
}

pub(super) fn refused() -> Error {
    let message = "This does not answer the challenge; ask for a new one.";
    Error::invalid("credential", "passkey_refused", message)
}
