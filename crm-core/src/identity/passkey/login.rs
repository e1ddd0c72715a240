//! Logging in with a passkey: alone, without a user name, or as the second step behind a password.
//!
//! Alone, the challenge is the same for everybody and no answer tells whether a passkey, its user
//! or a tenant of theirs exists.

use secrecy::SecretString;
use serde_json::json;
use uuid::Uuid;
use webauthn_rs::prelude::{DiscoverableAuthentication, PublicKeyCredential};

use super::ceremony::{self, PasskeyCeremony, Purpose, judge};
use super::register::{credential_ids, refused, unknown_ceremony};
use crate::db::{ColumnType, Sql};
use crate::error::{Error, Result};
use crate::id::UserId;
use crate::identity::account::Accounts;
use crate::identity::own;
use crate::identity::second_factor::{self, Step};
use crate::identity::session::{self, Session};
use crate::scope::{RequestContext, Scope};

/// What a device answered, and where its owner wants in.
#[derive(Debug, Clone)]
pub struct PasskeyLogin {
    /// The token of the ceremony.
    pub token: SecretString,
    /// What `navigator.credentials.get` gave, as its `toJSON()` writes it.
    pub credential: serde_json::Value,
    /// The tenant's name; needed only by members of several.
    pub tenant: Option<String>,
}

impl Accounts {
    /// Asks any device for a passkey that it has for this application.
    ///
    /// # Errors
    /// [`Error::Conflict`] `passkeys_unavailable`.
    pub async fn begin_passkey_login(&self) -> Result<PasskeyCeremony> {
        let party = self.party()?;
        let started = party.0.start_discoverable_authentication();
        let (asked, state) = started.map_err(Error::internal)?;
        let options = serde_json::to_value(asked.public_key).map_err(Error::internal)?;
        let core = self.core.clone();
        let write = self.core.db.write(move |tx| {
            Box::pin(async move { ceremony::open(tx, &core, (Purpose::Login, None), &state).await })
        });
        let token = write.await?;
        Ok(PasskeyCeremony { token, options })
    }

    /// Opens a session for whoever holds the passkey. It counts as two factors.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] `passkey_refused`, whatever the reason; [`Error::Invalid`] on
    /// `credential` for what is no answer of a browser; on `tenant`, as [`login`](Self::login) does,
    /// which leaves the answer good for another try; [`Error::Conflict`] `passkeys_unavailable`;
    /// [`Error::TooMany`].
    pub async fn passkey_login(
        &self,
        login: PasskeyLogin,
        request: RequestContext,
    ) -> Result<Session> {
        self.party()?;
        let answer: PublicKeyCredential = ceremony::read(login.credential)?;
        let handle = answer.get_user_unique_id();
        let handle = handle.and_then(|bytes| Uuid::from_slice(bytes).ok());
        let handle = handle.unwrap_or_default();
        self.limit("passkey", &handle.to_string(), &request)?;
        let user = self.user_of(handle).await?;
        let choices = match user {
            Some(user) => self.choices(user).await?,
            None => Vec::new(),
        };
        let (accounts, token, named) = (self.clone(), login.token, login.tenant);
        let (device, lifetime) = self.opening(&request);
        // A wrong answer is no failure of the transaction: it must use the challenge up.
        let write = self.core.db.write(move |tx| {
            Box::pin(async move {
                let core = &accounts.core;
                let state: Option<DiscoverableAuthentication> =
                    ceremony::take(tx, core, (Purpose::Login, None), &token).await?;
                let judged = match (state, user) {
                    (Some(state), Some(user)) => {
                        let by = (accounts.party()?, &request);
                        let passkey = judge(tx, core, by, user, (state, &answer)).await?;
                        passkey.map(|passkey| (user, passkey))
                    }
                    _ => None,
                };
                let Some((user, passkey)) = judged.filter(|_| !choices.is_empty()) else {
                    let action = "auth.login_failed";
                    own::audit_failure(tx, &core.clock, user, &request, action).await?;
                    return Ok(None);
                };
                let tenant = accounts.place(choices, named)?;
                let opened =
                    session::open(tx, &core.clock, (tenant, user), lifetime, &device).await?;
                session::note_two_factors(tx, opened.0.id).await?;
                let after = Some(json!({ "passkey": passkey }));
                let action = "auth.login";
                session::audit(tx, &core.clock, &opened.0, &request, action, after).await?;
                Ok(Some(opened))
            })
        });
        let opened = write.await?;
        self.session(opened.ok_or_else(refused_login)?)
    }

    /// Has the caller show one of their passkeys again: the answer to a challenge of
    /// [`begin_passkey_login`](Self::begin_passkey_login). Their session has passed both factors
    /// then.
    ///
    /// # Errors
    /// [`Error::Invalid`] on `passkey_token` for a challenge that is unknown, used or out of date, on
    /// `credential` for what does not answer it; [`Error::Conflict`] `passkeys_unavailable`;
    /// [`Error::TooMany`].
    pub(in crate::identity) async fn confirm_passkey(
        &self,
        scope: &Scope,
        user: UserId,
        (token, credential): (SecretString, serde_json::Value),
    ) -> Result<()> {
        self.party()?;
        let answer: PublicKeyCredential = ceremony::read(credential)?;
        self.limit("passkey", &user.to_string(), scope.request())?;
        let (accounts, scope) = (self.clone(), scope.clone());
        // A wrong answer is no failure of the transaction: it must use the challenge up.
        let write = self.core.db.write(move |tx| {
            Box::pin(async move {
                let core = &accounts.core;
                let state: Option<DiscoverableAuthentication> =
                    ceremony::take(tx, core, (Purpose::Login, None), &token).await?;
                let by = (accounts.party()?, scope.request());
                let refusal = match state {
                    None => Some(unknown_ceremony()),
                    Some(state) => {
                        let shown = judge(tx, core, by, user, (state, &answer)).await?;
                        shown.is_none().then(refused)
                    }
                };
                if let Some(refusal) = refusal {
                    let action = "auth.confirmation_failed";
                    own::audit(tx, &core.clock, user, scope.request(), action).await?;
                    return Ok(Err(refusal));
                }
                if let Some(session) = scope.session() {
                    session::note_two_factors(tx, session).await?;
                }
                Ok(Ok(()))
            })
        });
        write.await?
    }

    /// Asks for one of the user's passkeys in the middle of a login whose password was right.
    ///
    /// # Errors
    /// [`Error::Invalid`] on `mfa_token`; [`Error::Conflict`] `no_passkey` for a user who has none,
    /// `passkeys_unavailable`; [`Error::TooMany`].
    pub async fn begin_passkey_step(
        &self,
        challenge: &SecretString,
        request: &RequestContext,
    ) -> Result<PasskeyCeremony> {
        let party = self.party()?;
        self.limit("mfa", "", request)?;
        let user = self.waiting_user(challenge).await?;
        let started = party.0.start_discoverable_authentication();
        let (asked, state) = started.map_err(Error::internal)?;
        let mut options = serde_json::to_value(asked.public_key).map_err(Error::internal)?;
        let core = self.core.clone();
        let write = self.core.db.write(move |tx| {
            Box::pin(async move {
                let ids = credential_ids(tx, user).await?;
                if ids.is_empty() {
                    let message = "there is no passkey; give a code instead";
                    return Err(Error::conflict("no_passkey", message));
                }
                let whose = (Purpose::SecondFactor, Some(user));
                let token = ceremony::open(tx, &core, whose, &state).await?;
                Ok((token, ids))
            })
        });
        let (token, ids) = write.await?;
        let allowed = ids.iter().map(|id| json!({"type": "public-key", "id": id}));
        options["allowCredentials"] = allowed.collect();
        Ok(PasskeyCeremony { token, options })
    }

    /// Opens the session of a login whose password was right, with one of the user's passkeys.
    ///
    /// # Errors
    /// [`Error::Invalid`] on `mfa_token` for one that is unknown, used, older than five minutes or was
    /// tried five times; on `credential`, whatever was wrong with the answer or its challenge;
    /// on `tenant`, as [`finish_login`](Self::finish_login), which goes on from there without the passkey;
    /// [`Error::Conflict`] `passkeys_unavailable`; [`Error::TooMany`].
    pub async fn finish_login_by_passkey(
        &self,
        challenge: SecretString,
        login: PasskeyLogin,
        request: RequestContext,
    ) -> Result<Session> {
        self.party()?;
        self.limit("mfa", "", &request)?;
        let answer: PublicKeyCredential = ceremony::read(login.credential)?;
        let (accounts, token) = (self.clone(), login.token);
        let opening = self.opening(&request);
        // A failed try is no failure of the transaction: its count must commit.
        let write = self.core.db.write(move |tx| {
            Box::pin(async move {
                let core = &accounts.core;
                let Some(waiting) = second_factor::try_step(tx, core, &challenge).await? else {
                    return Ok(Step::Unknown);
                };
                let whose = (Purpose::SecondFactor, Some(waiting.user));
                let state: Option<DiscoverableAuthentication> =
                    ceremony::take(tx, core, whose, &token).await?;
                let passkey = match state {
                    Some(state) => {
                        let by = (accounts.party()?, &request);
                        judge(tx, core, by, waiting.user, (state, &answer)).await?
                    }
                    None => None,
                };
                match passkey {
                    Some(_) => {
                        let how = ("passkey", login.tenant.as_deref());
                        waiting.pass(tx, core, how, opening, &request).await
                    }
                    None => waiting.fail(tx, core, &request).await,
                }
            })
        });
        match write.await? {
            Step::Opened(opened, ended) => self.finished(opened, ended),
            Step::Wrong => Err(refused()),
            Step::Asked(more) => Err(more),
            Step::Unknown => Err(second_factor::unknown_challenge()),
        }
    }

    /// The active user whom devices know by this.
    async fn user_of(&self, handle: Uuid) -> Result<Option<UserId>> {
        let find = Sql::new(
            "SELECT u.id FROM passkey_handles h JOIN users u ON u.id = h.user_id \
             WHERE h.handle = $1 AND u.status = 'active' AND u.kind = 'person'",
        )
        .bind(handle.as_bytes().to_vec(), ColumnType::Bytes)
        .returns(&[ColumnType::Uuid]);
        let row = self.core.db.fetch_optional(find).await?;
        row.map(|mut row| row.uuid()).transpose()
    }
}

fn refused_login() -> Error {
    Error::unauthenticated(
        "passkey_refused",
        "this passkey opens nothing here; ask for a new challenge, or log in another way",
    )
}
