//! Hands messages over that came for plugins: each to one process, by turns of the tenants, and
//! again after a killed one. A message that was handled leaves a run, and is not handled twice.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::ledger::Ended;
use super::occasion::{Occasion, WEBHOOK};
use super::standing::{Standing, Withdrawn};
use super::turns::{self, BATCH};
use super::wait::{self, MOST_WAIT};
use super::{Plugin, PluginStatus, Plugins, run, store};
use crate::db::{ColumnType, Sql};
use crate::error::Result;
use crate::event::Principal;
use crate::hook::{Input, Outcome, Report, Webhook};
use crate::id::{EventId, PluginId, TenantId};
use crate::scope::{Cause, Origin};

/// How long a message is left to the process that took it, and how often that says that it still
/// has it.
const TAKEN: TimeDelta = TimeDelta::minutes(1);
const HELD: Duration = Duration::from_secs(20);

/// A message that is due.
#[derive(Clone)]
pub(crate) struct Due {
    tenant: TenantId,
    id: EventId,
    plugin: PluginId,
    due_at: DateTime<Utc>,
}

/// A message that this process has taken.
struct Taken {
    due: Due,
    webhook: Webhook,
    principal: Option<Principal>,
    request_id: String,
    /// Empty for whoever holds the signing secret.
    sender: String,
}

/// The messages that wait for plugins.
#[derive(Clone)]
pub(crate) struct Inbox(pub(crate) Plugins);

impl turns::Source for Inbox {
    type Due = Due;
    const WHAT: &str = "a message";

    async fn waiting(&self) -> Result<Vec<Due>> {
        self.due().await
    }

    async fn handle(self, due: Due) -> Result<bool> {
        self.hand_over(due).await
    }

    async fn woken(&self) {
        self.0.0.arrived.notified().await;
    }
}

impl turns::Due for Due {
    fn tenant(&self) -> TenantId {
        self.tenant
    }

    fn due_at(&self) -> DateTime<Utc> {
        self.due_at
    }
}

impl Inbox {
    /// What is due, the first ones of each tenant before the second ones of any.
    async fn due(&self) -> Result<Vec<Due>> {
        let mut sql = Sql::new(
            "SELECT tenant_id, id, plugin_id, due_at FROM (SELECT tenant_id, id, plugin_id, due_at, \
             row_number() OVER (PARTITION BY tenant_id ORDER BY due_at, id) AS place \
             FROM plugin_messages WHERE due_at <= $1) AS due ORDER BY place, due_at LIMIT ",
        )
        .bind(self.0.0.core.clock.now(), ColumnType::Instant)
        .returns(&[
            ColumnType::Uuid,
            ColumnType::Uuid,
            ColumnType::Uuid,
            ColumnType::Instant,
        ]);
        sql.number(BATCH);
        let rows = self.0.0.core.db.fetch_all(sql).await?;
        let rows = rows.into_iter().map(|mut row| {
            Ok(Due {
                tenant: row.uuid()?,
                id: row.uuid()?,
                plugin: row.uuid()?,
                due_at: row.instant()?,
            })
        });
        rows.collect()
    }

    /// Handles a message, if nobody else does; answers whether its plugin ran.
    async fn hand_over(&self, due: Due) -> Result<bool> {
        let core = &self.0.0.core;
        let Some(taken) = self.take(due).await? else {
            return Ok(false);
        };
        let due = &taken.due;
        let Some(plugin) = store::find(&core.db, due.tenant, due.plugin).await? else {
            return Ok(false);
        };
        let mut handled = run::exists(&core.db, &plugin, due.id).await?;
        if !handled {
            let answer = self.answer(Arc::new(plugin.clone()), &taken);
            handled = tokio::select! {
                handled = answer => handled?,
                never = self.hold(due) => match never {},
            };
        }
        match handled {
            true => self.execute(due.handled()).await?,
            false => self.put_off(due, plugin).await?,
        }
        Ok(handled)
    }

    /// Says again and again that a message is taken still.
    async fn hold(&self, due: &Due) -> Infallible {
        loop {
            tokio::time::sleep(HELD).await;
            let until = self.0.0.core.clock.now() + TAKEN;
            if let Err(error) = self.execute(due.due_again(until, Waits::InHand)).await {
                let (message, error) = (due.id, &error as &dyn std::error::Error);
                tracing::warn!(%message, error, "another process may take a message that is being handled");
            }
        }
    }

    /// Takes a message for a while, if nobody else has.
    async fn take(&self, due: Due) -> Result<Option<Taken>> {
        let until = self.0.0.core.clock.now() + TAKEN;
        let take = Sql::new(
            "UPDATE plugin_messages SET due_at = $1, put_off = $5 \
             WHERE tenant_id = $2 AND id = $3 AND due_at = $4 RETURNING hook, message_id, \
             content_type, body, received_at, principal, request_id, sender",
        )
        .bind(until, ColumnType::Instant)
        .bind(due.tenant, ColumnType::Uuid)
        .bind(due.id, ColumnType::Uuid)
        .bind(due.due_at, ColumnType::Instant)
        .bind(false, ColumnType::Bool)
        .returns(&[
            ColumnType::Text,
            ColumnType::Text,
            ColumnType::Text,
            ColumnType::Bytes,
            ColumnType::Instant,
            ColumnType::Text,
            ColumnType::Text,
            ColumnType::Text,
        ]);
        let taken = self
            .0
            .0
            .core
            .db
            .write(move |tx| Box::pin(tx.fetch_optional(take)));
        let Some(mut row) = taken.await? else {
            return Ok(None);
        };
        let webhook = Webhook {
            name: row.text()?,
            id: row.text()?,
            content_type: row.opt_text()?,
            body: row.bytes::<Vec<u8>>()?.into(),
            received_at: row.instant()?,
        };
        let principal: Option<String> = row.opt_text()?;
        let principal = principal.map(|text| Principal::parse(&text, due.tenant));
        Ok(Some(Taken {
            principal: principal.transpose()?,
            request_id: row.text()?,
            sender: row.text()?,
            webhook,
            due,
        }))
    }

    /// Runs the plugin in its active version, and keeps what is left of the run; answers whether
    /// that was it. A plugin that cannot run now for a reason that may pass is asked again, for
    /// some days.
    async fn answer(&self, plugin: Arc<Plugin>, taken: &Taken) -> Result<bool> {
        let core = &self.0.0.core;
        let cause = Cause {
            root_id: taken.due.id,
            depth: 0,
        };
        let origin = Origin {
            request_id: taken.request_id.as_str().into(),
            cause: Some(cause),
            principal: taken.principal,
        };
        let name = &taken.webhook.name;
        let standing = Standing::new(core.clone(), plugin.clone(), origin);
        let woken_by = (format!("webhook {name}"), Some(taken.due.id));
        let sender = Some(&*taken.sender).filter(|sender| !sender.is_empty());
        let occasion = Occasion::after(taken.principal, sender.unwrap_or(WEBHOOK));
        let mut ended = Ended::new(core, woken_by, occasion).asked_for();
        let mut may_pass = true;
        let mut webhooks = plugin.manifest.webhooks();
        let asked = webhooks.any(|webhook| webhook.name == *name.as_str());
        if plugin.status != PluginStatus::Enabled {
            ended.report = Report::refused(wait::switched_off());
        } else if !asked {
            ended.report = Report::refused("the active version of the plugin has no such webhook");
        } else if let Err(withdrawn) = standing.begin().await? {
            may_pass = !matches!(withdrawn, Withdrawn::Principal(_));
            ended.report = Report::refused(withdrawn.to_string());
        } else {
            let input = Input::Webhook(Arc::new(taken.webhook.clone()));
            self.0.perform(standing, input, &mut ended).await?;
        }
        let waited = core.clock.now() - taken.webhook.received_at;
        if may_pass && ended.report.outcome == Outcome::Refused && waited < MOST_WAIT {
            return Ok(false);
        }
        self.0.keep(&plugin, ended).await?;
        Ok(true)
    }

    /// Puts a message off that the plugin, as it was seen, could not handle.
    async fn put_off(&self, due: &Due, seen: Plugin) -> Result<()> {
        let (now, put) = (self.0.0.core.clock.now(), due.clone());
        let job = self.0.0.core.db.write(move |tx| {
            Box::pin(async move {
                let again = wait::again(tx, &seen, now).await?;
                tx.execute(put.due_again(again, Waits::PutOff)).await
            })
        });
        job.await.map(drop)
    }

    async fn execute(&self, sql: Sql) -> Result<()> {
        self.0.0.core.db.execute(sql).await?;
        Ok(())
    }
}

/// What a message that is not handled waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Waits {
    /// The process that has it.
    InHand,
    /// Its plugin.
    PutOff,
}

impl Due {
    /// Has it be due at another time, unless it is handled.
    fn due_again(&self, at: DateTime<Utc>, waits: Waits) -> Sql {
        let put = Sql::new(
            "UPDATE plugin_messages SET due_at = $1, put_off = $2 WHERE tenant_id = $3 AND id = $4 \
             AND due_at IS NOT NULL",
        );
        put.bind(at, ColumnType::Instant)
            .bind(waits == Waits::PutOff, ColumnType::Bool)
            .bind(self.tenant, ColumnType::Uuid)
            .bind(self.id, ColumnType::Uuid)
    }

    /// Marks it as handled: its body goes, its id stays known.
    fn handled(&self) -> Sql {
        let put = Sql::new(
            "UPDATE plugin_messages SET due_at = NULL, body = $1 WHERE tenant_id = $2 AND id = $3",
        );
        put.bind(Vec::<u8>::new(), ColumnType::Bytes)
            .bind(self.tenant, ColumnType::Uuid)
            .bind(self.id, ColumnType::Uuid)
    }
}
