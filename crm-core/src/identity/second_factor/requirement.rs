//! A tenant's demand that its members log in with a second factor.

use serde_json::json;

use super::codes::has_codes;
use crate::crm::Core;
use crate::db::{ColumnType, Sql, Tx};
use crate::error::{Error, Result};
use crate::identity::account::Accounts;
use crate::identity::refresh::{self, Ended};
use crate::identity::{own, passkey, session};
use crate::journal::{self, Author};
use crate::platform::PLATFORM;
use crate::scope::{Actor, Permit, Read, RequestContext, Scope, Update};

impl Accounts {
    /// Whether the tenant lets members in only with a second factor, by itself or because
    /// [all do](crate::Builder::strict_authentication).
    ///
    /// # Errors
    /// [`Error::Forbidden`] for a permit of another object than `members`.
    pub async fn requires_second_factor(&self, permit: &Permit<Read>) -> Result<bool> {
        let scope = permit.on("members")?;
        let read = Sql::new("SELECT requires_second_factor FROM tenants WHERE id = $1")
            .bind(scope.tenant(), ColumnType::Uuid)
            .returns(&[ColumnType::Bool]);
        let row = self.core.db.fetch_optional(read).await?;
        let own = row.ok_or(Error::NotFound)?.bool()?;
        Ok(own || self.core.identity.strict)
    }

    /// Lets members in only with a second factor, or without one again. Sessions in the tenant that
    /// began without one end; API keys go on, and so do roaming sessions elsewhere, which enter
    /// this tenant again with a [code](crate::identity::Sessions::switch). Who has no factor sets
    /// one up at the next login.
    ///
    /// # Errors
    /// [`Error::Forbidden`] for a permit of another object than `members`; [`Error::Conflict`]
    /// `second_factor_missing`, `second_factor_required` for a caller whose own session would end,
    /// `strict_authentication` where nobody is let in without one.
    pub async fn require_second_factor(
        &self,
        permit: &Permit<Update>,
        required: bool,
    ) -> Result<()> {
        let scope = permit.on("members")?.clone();
        if self.core.identity.strict && !required {
            return Err(Error::conflict(
                "strict_authentication",
                "this server asks everybody for a second factor, whatever a tenant settles",
            ));
        }
        let by = scope.clone();
        let write = by.write_policy(move |tx| {
            Box::pin(async move {
                let set = Sql::new(
                    "UPDATE tenants SET requires_second_factor = $1 \
                         WHERE id = $2 AND requires_second_factor <> $1",
                )
                .bind(required, ColumnType::Bool)
                .bind(scope.tenant(), ColumnType::Uuid);
                if tx.execute(set).await? == 0 {
                    return Ok(Vec::new());
                }
                let ended = match required {
                    true => {
                        check_own_session(tx, &scope).await?;
                        let unproven = Ended::Unproven(scope.tenant());
                        refresh::end(tx, scope.clock(), unproven).await?
                    }
                    false => Vec::new(),
                };
                let entity = ("tenants", Some(scope.tenant().to_string()));
                let after = json!({
                    "requires_second_factor": required, "sessions_ended": ended.len(),
                });
                let action = "tenants.update";
                journal::audit(tx, &scope, action, entity, None, Some(after)).await?;
                Ok(ended)
            })
        });
        self.forget(write.await?);
        Ok(())
    }
}

/// Where the application authenticates strictly, ends the sessions that began without a second
/// factor: those of before it did, and what a process that does not has opened since. The platform
/// is told of how many.
pub(crate) async fn end_unproven(core: &Core) -> Result<()> {
    let any = Sql::new(
        "SELECT id FROM refresh_families \
         WHERE revoked_at IS NULL AND impersonator_id IS NULL AND NOT two_factors LIMIT 1",
    )
    .returns(&[ColumnType::Uuid]);
    if !core.identity.strict || core.db.fetch_optional(any).await?.is_none() {
        return Ok(());
    }
    let clock = core.clock.clone();
    let request = RequestContext {
        id: format!("upkeep-{}", clock.new_id().simple()).into(),
        address: None,
    };
    let write = core.db.write(move |tx| {
        Box::pin(async move {
            let ended = refresh::end(tx, &clock, Ended::EveryUnproven).await?;
            // Another process may have been first.
            if !ended.is_empty() {
                let author = Author {
                    clock: &clock,
                    tenant: PLATFORM,
                    actor: Actor::Operator,
                    request: &request,
                };
                let after = Some(json!({ "second_factor": false, "sessions_ended": ended.len() }));
                let entity = ("sessions", None);
                journal::audit_by(tx, author, "auth.session_end", entity, None, after).await?;
            }
            Ok(ended)
        })
    });
    for id in write.await? {
        core.identity.live.forget(id);
    }
    Ok(())
}

/// Refuses to ask for what the caller's own session began without: it would end, and perhaps nobody
/// be left who could take that back.
async fn check_own_session(tx: &mut Tx<'_>, scope: &Scope) -> Result<()> {
    let (Some(_), Some(user)) = (scope.session(), scope.actor().user()) else {
        return Ok(());
    };
    if session::passed_two_factors(tx, scope).await? {
        return Ok(());
    }
    if has_codes(tx, user).await? || passkey::exists_in(tx, user).await? {
        return Err(own::second_factor_required());
    }
    Err(Error::conflict(
        "second_factor_missing",
        "set up a second factor of your own first: sessions that began without one end, yours too",
    ))
}
