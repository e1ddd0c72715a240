//! The mails that say that a plugin was parked, or its canary ended: to whoever enabled it, and to
//! those who may enable it again, some of them.

use super::{OBJECT, Plugin, Plugins};
use crate::crm::Core;
use crate::db::{ColumnType, Sql, Tx};
use crate::error::{Error, Result};
use crate::id::UserId;
use crate::mail::{self, Letter, MailKind};
use crate::policy::Subject;
use crate::scope::{Action as _, Update};
use crate::tenant::name_of;

/// Most people who are told.
const MOST: usize = 10;
/// Most members who are asked for whether they may.
const MOST_ASKED: u64 = 1_000;
/// How long the mail makes sense.
const HOLDS: chrono::TimeDelta = chrono::TimeDelta::days(7);

/// Somebody who is told.
pub(super) struct Reader {
    email: String,
    name: String,
}

impl Plugins {
    /// Whoever enabled the plugin, and the first members who may enable plugins, with an address
    /// that is known to be theirs.
    pub(super) async fn readers(&self, plugin: &Plugin) -> Result<Vec<Reader>> {
        let core = &self.0.core;
        let mut members = Sql::new(
            "SELECT u.id, u.email, u.name FROM memberships m JOIN users u ON u.id = m.user_id \
             WHERE m.tenant_id = $1 AND u.status = 'active' AND u.kind = 'person' \
             AND u.email_verified_at IS NOT NULL ORDER BY m.user_id = $2 DESC, m.user_id LIMIT ",
        )
        .bind(plugin.tenant_id, ColumnType::Uuid)
        .bind(
            plugin.installed_by.unwrap_or(UserId(uuid::Uuid::nil())),
            ColumnType::Uuid,
        )
        .returns(&[ColumnType::Uuid, ColumnType::Text, ColumnType::Text]);
        members.number(MOST_ASKED);
        let mut readers = Vec::new();
        for mut row in core.db.fetch_all(members).await? {
            let user: UserId = row.uuid()?;
            if Some(user) == plugin.installed_by || self.may_enable(plugin, user).await? {
                readers.push(Reader {
                    email: row.text()?,
                    name: row.text()?,
                });
            }
            if readers.len() >= MOST {
                break;
            }
        }
        Ok(readers)
    }

    async fn may_enable(&self, plugin: &Plugin, user: UserId) -> Result<bool> {
        let policy = &self.0.core.policy;
        let subject = Subject::User(user);
        let Some(rights) = policy.rights_for(plugin.tenant_id, subject).await? else {
            return Ok(false);
        };
        let catalogue = rights.modules.catalogue();
        let enable = catalogue.operation(OBJECT, Update::NAME);
        Ok(enable.is_some_and(|enable| rights.grants.decide(enable).is_some()))
    }
}

/// Puts the mails into the transaction that changes the plugin, which never fails for them.
pub(super) async fn tell(
    tx: &mut Tx<'_>,
    core: &Core,
    plugin: &Plugin,
    (kind, readers): (MailKind, Vec<Reader>),
) -> Result<()> {
    let tenant = plugin.tenant_id;
    let Some(name) = name_of(tx, tenant).await? else {
        return Ok(());
    };
    for reader in readers {
        let letter = Letter {
            kind,
            to: &reader.email,
            name: &reader.name,
            tenant: Some(&name),
            by: Some(plugin.manifest.name.as_str()),
            link: None,
        };
        let until = core.clock.now() + HOLDS;
        match mail::enqueue_of(tx, core, tenant, letter, until).await {
            Err(Error::Unavailable { .. }) => {
                tracing::warn!(%tenant, plugin = %plugin.id, "nobody is told what became of a plugin");
                return Ok(());
            }
            queued => queued?,
        }
    }
    Ok(())
}
