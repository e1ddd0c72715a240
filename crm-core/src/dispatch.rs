//! Hands committed events to subscribers: at least once, in order for each record, to one process
//! at a time, fairly among tenants, and on after a killed process.
//!
//! A subscriber that fails, or does not answer in time, is called again with growing pauses, and
//! holds back only the later events of the same record. The lease is renewed before each tenant's
//! turn and longer than one; where a process stalls beyond it, two may deliver the same event, and
//! subscribers know it by its id.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures::StreamExt;
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::clock::Clock;
use crate::db::{ColumnType, Db, Row, Sql};
use crate::error::{Error, Result};
use crate::event::Event;
use crate::id::{RecordId, TenantId};
use crate::lease::Lease;

/// Something that reacts to events.
pub trait Subscriber: Send + Sync + 'static {
    /// Its name in the log.
    fn name(&self) -> &'static str;

    /// Whether any event of this tenant is of interest now; the rest is not even read.
    fn listens(&self, tenant: TenantId) -> BoxFuture<'_, Result<bool>> {
        let _ = tenant;
        Box::pin(std::future::ready(Ok(true)))
    }

    /// Takes an event; an `Err` means "call me again later".
    fn deliver(&self, event: Arc<Event>) -> BoxFuture<'_, Result<()>>;
}

/// Tenants served in one round.
const TENANTS: u64 = 64;
/// Events of one tenant in one round.
const EVENTS: u64 = 256;
/// Records of one tenant that are kept out of its turns while they wait; more take up its places.
const MOST_HELD: usize = 1_000;
/// Deliveries under way at once.
const CONCURRENCY: usize = 16;
/// How long one delivery may take, and how long one tenant's turn begins new ones: together less
/// than half a [`Lease`], which is what is left of it at least when a turn begins.
const DELIVERY: Duration = Duration::from_secs(10);
const TURN: Duration = Duration::from_secs(2);
/// How long to wait for further events after a round that delivered some.
const GATHER: Duration = Duration::from_millis(20);
/// Most events that one statement marks as delivered.
const MARKED: usize = 1_000;
/// How often to look for events of other processes, and for held-back ones.
const POLL: Duration = Duration::from_millis(500);
/// The first pause after a failed delivery; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: TimeDelta = TimeDelta::seconds(1);
const LONGEST_PAUSE: TimeDelta = TimeDelta::minutes(5);

/// The loop that empties the outbox.
pub(crate) struct Dispatcher {
    db: Db,
    clock: Clock,
    subscribers: Vec<Arc<dyn Subscriber>>,
    lease: Lease,
    /// The tenant served last; the next round begins behind it.
    last_tenant: TenantId,
    held: HashMap<(TenantId, RecordId), Held>,
}

/// A record whose next delivery waits.
struct Held {
    until: DateTime<Utc>,
    pause: TimeDelta,
}

impl Dispatcher {
    pub(crate) fn new(db: Db, clock: Clock, subscribers: Vec<Arc<dyn Subscriber>>) -> Self {
        Self {
            lease: Lease::new("dispatcher", db.clone(), clock.clone()),
            db,
            clock,
            subscribers,
            last_tenant: TenantId(Uuid::nil()),
            held: HashMap::new(),
        }
    }

    /// Dispatches until `stop`, then gives the lease back.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut commits = self.db.commits();
        while !stop.is_cancelled() {
            commits.borrow_and_update();
            let round = self.round(&stop).await.unwrap_or_else(|error| {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "dispatching failed"
                );
                Round::Delivered(0)
            });
            let pause = tokio::time::sleep(POLL);
            match round {
                Round::Delivered(0) => tokio::select! {
                    () = stop.cancelled() => {}
                    _ = commits.changed() => {}
                    () = pause => {}
                },
                // Under load, a little patience makes rounds larger and fewer.
                Round::Delivered(_) => {
                    let _ = stop.run_until_cancelled(tokio::time::sleep(GATHER)).await;
                }
                // Until the other process stops, no commit here is worth a look.
                Round::Elsewhere => {
                    let _ = stop.run_until_cancelled(pause).await;
                }
            }
        }
        if let Err(error) = self.release().await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the lease was not given back"
            );
        }
    }

    /// One turn over the tenants with events.
    pub(crate) async fn round(&mut self, stop: &CancellationToken) -> Result<Round> {
        let (mut done, mut unheard) = (Vec::new(), Vec::new());
        let mut leased = true;
        // Read before anybody is asked: whoever begins to listen later hears of what comes later.
        let newest = self.newest().await?;
        for tenant in self.pending_tenants().await? {
            if stop.is_cancelled() {
                break;
            }
            self.last_tenant = tenant;
            if !self.has_listener(tenant).await {
                unheard.push(tenant);
                continue;
            }
            leased = self.lease.take().await?;
            if !leased {
                break;
            }
            match self.serve(tenant, stop).await {
                Ok(sequences) => done.extend(sequences),
                // The next tenant is not to suffer for it.
                Err(error) => tracing::error!(
                    error = &error as &dyn std::error::Error,
                    %tenant,
                    "a tenant's events were not dispatched"
                ),
            }
        }
        self.mark(&done).await?;
        let mut passed = 0;
        if leased && !unheard.is_empty() {
            leased = self.lease.take().await?;
            if leased {
                passed = self.pass(unheard, newest).await?;
            }
        }
        Ok(if leased {
            Round::Delivered(done.len() + passed)
        } else {
            Round::Elsewhere
        })
    }

    /// One tenant's turn; answers which events were delivered.
    async fn serve(&mut self, tenant: TenantId, stop: &CancellationToken) -> Result<Vec<i64>> {
        let now = self.clock.now();
        let mut by_record: Vec<(RecordId, Vec<Arc<Event>>)> = Vec::new();
        let mut places = HashMap::new();
        for event in self.pending_events(tenant, now).await? {
            let record = event.record_id;
            let place = *places.entry(record).or_insert_with(|| {
                by_record.push((record, Vec::new()));
                by_record.len() - 1
            });
            by_record[place].1.push(Arc::new(event));
        }
        let subscribers = &self.subscribers;
        let turn = Turn {
            ends: tokio::time::Instant::now() + TURN,
            stop,
        };
        let turn = &turn;
        let outcomes: Vec<_> = futures::stream::iter(by_record)
            .map(|(record, events)| async move {
                (record, deliver_in_order(subscribers, events, turn).await)
            })
            .buffer_unordered(CONCURRENCY)
            .collect()
            .await;
        let mut done = Vec::new();
        for (record, outcome) in outcomes {
            if outcome.failed {
                self.hold(tenant, record, now);
            } else {
                self.held.remove(&(tenant, record));
            }
            done.extend(outcome.done);
        }
        Ok(done)
    }

    fn hold(&mut self, tenant: TenantId, record: RecordId, now: DateTime<Utc>) {
        let pause = self
            .held
            .get(&(tenant, record))
            .map_or(FIRST_PAUSE, |held| held.pause * 2);
        let pause = pause.min(LONGEST_PAUSE);
        self.held.insert(
            (tenant, record),
            Held {
                until: now + pause,
                pause,
            },
        );
    }

    pub(crate) async fn release(&mut self) -> Result<()> {
        self.lease.release().await
    }

    /// Tenants with undelivered events, in the order of their ids, beginning behind the last served.
    async fn pending_tenants(&self) -> Result<Vec<TenantId>> {
        let mut tenants = self.tenants_behind(self.last_tenant).await?;
        if tenants.is_empty() && self.last_tenant != TenantId(Uuid::nil()) {
            tenants = self.tenants_behind(TenantId(Uuid::nil())).await?;
        }
        Ok(tenants)
    }

    async fn tenants_behind(&self, tenant: TenantId) -> Result<Vec<TenantId>> {
        // A loose index scan: one probe of the partial index for each tenant found.
        let mut sql = Sql::new(
            "WITH RECURSIVE pending (tenant_id) AS ( \
             SELECT * FROM (SELECT tenant_id FROM outbox WHERE dispatched_at IS NULL \
               AND tenant_id > $1 ORDER BY tenant_id, sequence LIMIT 1) AS first \
             UNION ALL \
             SELECT (SELECT o.tenant_id FROM outbox o WHERE o.dispatched_at IS NULL \
               AND o.tenant_id > pending.tenant_id ORDER BY o.tenant_id, o.sequence LIMIT 1) \
             FROM pending WHERE pending.tenant_id IS NOT NULL) \
             SELECT tenant_id FROM pending WHERE tenant_id IS NOT NULL LIMIT ",
        )
        .bind(tenant, ColumnType::Uuid)
        .returns(&[ColumnType::Uuid]);
        sql.number(TENANTS);
        self.db
            .fetch_all(sql)
            .await?
            .into_iter()
            .map(|mut row| row.uuid())
            .collect()
    }

    /// The tenant's oldest undelivered events, without those of records held back.
    async fn pending_events(&self, tenant: TenantId, now: DateTime<Utc>) -> Result<Vec<Event>> {
        let mut sql = Sql::new(
            "SELECT id, sequence, tenant_id, module, kind, record_id, before, after, actor, \
             request_id, root_id, depth, occurred_at FROM outbox \
             WHERE tenant_id = $1 AND dispatched_at IS NULL",
        )
        .bind(tenant, ColumnType::Uuid)
        .returns(EVENT_COLUMNS);
        let held = self
            .held
            .iter()
            .filter(|((of, _), held)| *of == tenant && held.until > now);
        for ((_, record), _) in held.take(MOST_HELD) {
            sql.push(" AND record_id <> ")
                .arg(*record, ColumnType::Uuid);
        }
        sql.push(" ORDER BY sequence LIMIT ").number(EVENTS);
        self.db
            .fetch_all(sql)
            .await?
            .into_iter()
            .map(event_from_row)
            .collect()
    }

    /// Whether some subscriber listens; when one cannot tell now, it may.
    async fn has_listener(&self, tenant: TenantId) -> bool {
        for subscriber in &self.subscribers {
            if subscriber.listens(tenant).await.unwrap_or(true) {
                return true;
            }
        }
        false
    }

    async fn newest(&self) -> Result<i64> {
        let sql = Sql::new("SELECT sequence FROM outbox ORDER BY sequence DESC LIMIT 1");
        let row = self
            .db
            .fetch_optional(sql.returns(&[ColumnType::Int]).point_read());
        row.await?.map_or(Ok(0), |mut row| row.int())
    }

    /// Marks the events of tenants to whom nobody listens, up to `newest`; answers how many.
    async fn pass(&self, tenants: Vec<TenantId>, newest: i64) -> Result<usize> {
        let mut sql = Sql::new("UPDATE outbox SET dispatched_at = ");
        sql.arg(self.clock.now(), ColumnType::Instant)
            .push(" WHERE dispatched_at IS NULL AND sequence <= ")
            .arg(newest, ColumnType::Int)
            .push(" AND tenant_id IN (");
        for (count, tenant) in tenants.into_iter().enumerate() {
            if count > 0 {
                sql.push(", ");
            }
            sql.arg(tenant, ColumnType::Uuid);
        }
        sql.push(")");
        let passed = self
            .db
            .write(move |tx| Box::pin(async move { tx.execute(sql).await }))
            .await?;
        Ok(usize::try_from(passed).unwrap_or(usize::MAX))
    }

    async fn mark(&self, done: &[i64]) -> Result<()> {
        for some in done.chunks(MARKED) {
            self.mark_some(some).await?;
        }
        Ok(())
    }

    async fn mark_some(&self, done: &[i64]) -> Result<()> {
        let mut sql = Sql::new("UPDATE outbox SET dispatched_at = ");
        sql.arg(self.clock.now(), ColumnType::Instant)
            .push(" WHERE sequence IN (");
        for (count, sequence) in done.iter().enumerate() {
            if count > 0 {
                sql.push(", ");
            }
            sql.arg(*sequence, ColumnType::Int);
        }
        sql.push(")");
        self.db
            .write(move |tx| Box::pin(async move { tx.execute(sql).await }))
            .await?;
        Ok(())
    }
}

/// The types of the columns that [`event_from_row`] reads.
pub(crate) const EVENT_COLUMNS: &[ColumnType] = &[
    ColumnType::Uuid,
    ColumnType::Int,
    ColumnType::Uuid,
    ColumnType::Text,
    ColumnType::Text,
    ColumnType::Uuid,
    ColumnType::Json,
    ColumnType::Json,
    ColumnType::Text,
    ColumnType::Text,
    ColumnType::Uuid,
    ColumnType::Int,
    ColumnType::Instant,
];

/// Reads `id, sequence, tenant_id, module, kind, record_id, before, after, actor, request_id,
/// root_id, depth, occurred_at`.
pub(crate) fn event_from_row(mut row: Row) -> Result<Event> {
    Ok(Event {
        id: row.uuid()?,
        sequence: row.int()?,
        tenant_id: row.uuid()?,
        module: row.text()?,
        kind: row.text()?,
        record_id: row.uuid()?,
        before: row.opt_json()?,
        after: row.opt_json()?,
        actor: row.text()?,
        request_id: row.text()?,
        root_id: row.uuid()?,
        depth: u16::try_from(row.int::<i64>()?).unwrap_or(u16::MAX),
        occurred_at: row.instant()?,
    })
}

/// What came of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Round {
    /// So many events were delivered.
    Delivered(usize),
    /// Another process has the right to dispatch.
    Elsewhere,
}

/// When a tenant's turn begins no further delivery.
struct Turn<'a> {
    ends: tokio::time::Instant,
    stop: &'a CancellationToken,
}

impl Turn<'_> {
    fn is_over(&self) -> bool {
        self.stop.is_cancelled() || tokio::time::Instant::now() >= self.ends
    }
}

struct Delivered {
    done: Vec<i64>,
    failed: bool,
}

/// The events of one record, one after the other; the first failure stops them.
async fn deliver_in_order(
    subscribers: &[Arc<dyn Subscriber>],
    events: Vec<Arc<Event>>,
    turn: &Turn<'_>,
) -> Delivered {
    let mut done = Vec::with_capacity(events.len());
    for event in events {
        if turn.is_over() {
            break;
        }
        for subscriber in subscribers {
            let delivery = tokio::time::timeout(DELIVERY, subscriber.deliver(event.clone()));
            let answer = delivery.await.unwrap_or_else(|_| {
                Err(Error::unavailable("the subscriber did not answer in time"))
            });
            if let Err(error) = answer {
                tracing::warn!(
                    subscriber = subscriber.name(),
                    event = %event.id,
                    tenant = %event.tenant_id,
                    error = &error as &dyn std::error::Error,
                    "a delivery failed and will be repeated",
                );
                return Delivered { done, failed: true };
            }
        }
        done.push(event.sequence);
    }
    Delivered {
        done,
        failed: false,
    }
}
