//! What goes on with a session that is open: exchanging refresh tokens, and logging out.

use secrecy::SecretString;

use super::{Session, audit};
use crate::error::{Error, Result};
use crate::identity::Accounts;
use crate::identity::refresh::{self, Ended, Exchange};
use crate::identity::token::invalid;
use crate::scope::RequestContext;

impl Accounts {
    /// Exchanges a refresh token for a new pair; the old one is spent.
    ///
    /// A spent token that comes back within 10 seconds, while its successor is unused, gets that
    /// same successor: of any number of parallel exchanges all get the one token that lives.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`]: `token_reused` for a token that was spent otherwise, which ends
    /// the session for all who hold one of its tokens; `token_expired` when the session is too old,
    /// or was not used for too long; `token_invalid` otherwise.
    pub async fn refresh(
        &self,
        refresh_token: SecretString,
        request: RequestContext,
    ) -> Result<Session> {
        let core = self.core.clone();
        if !refresh::is_known(&core.db, &refresh_token).await? {
            return Err(invalid());
        }
        let device = self.on_device_of(&request);
        // The end of a family is no failure of the transaction: it must commit.
        let exchange = self
            .core
            .db
            .write(move |tx| {
                Box::pin(async move {
                    let refreshing = &core.identity.refreshing;
                    let exchange =
                        refresh::exchange(tx, &core.clock, refreshing, &refresh_token, &device)
                            .await?;
                    if let Exchange::Reused(family) = &exchange {
                        audit(
                            tx,
                            &core.clock,
                            family,
                            &request,
                            "auth.refresh_reuse",
                            None,
                        )
                        .await?;
                    }
                    Ok(exchange)
                })
            })
            .await?;
        match exchange {
            Exchange::Rotated(family, token) => self.session((family, token)),
            Exchange::Reused(family) => {
                self.core.identity.live.forget(family.id);
                tracing::warn!(user = %family.user, session = %family.id, "refresh token reused");
                Err(Error::unauthenticated(
                    "token_reused",
                    "this refresh token was used before, so the session has ended; log in again",
                ))
            }
            Exchange::Expired => Err(Error::unauthenticated(
                "token_expired",
                "the session has reached its end; log in again",
            )),
            Exchange::Refused => Err(invalid()),
        }
    }

    /// Ends the session that a refresh token belongs to, whether the token is spent or not; its
    /// access tokens end with it.
    ///
    /// A token that opens nothing is no error (RFC 7009 §2.2).
    ///
    /// # Errors
    /// Those of the database.
    pub async fn logout(&self, refresh_token: SecretString, request: RequestContext) -> Result<()> {
        if !refresh::is_known(&self.core.db, &refresh_token).await? {
            return Ok(());
        }
        let clock = self.core.clock.clone();
        let ended = self
            .core
            .db
            .write(move |tx| {
                Box::pin(async move {
                    let Some(family) = refresh::family_of(tx, &refresh_token).await? else {
                        return Ok(Vec::new());
                    };
                    let ended = refresh::end(tx, &clock, Ended::One(family.id)).await?;
                    if !ended.is_empty() {
                        audit(tx, &clock, &family, &request, "auth.logout", None).await?;
                    }
                    Ok(ended)
                })
            })
            .await?;
        ended
            .into_iter()
            .for_each(|id| self.core.identity.live.forget(id));
        Ok(())
    }
}
