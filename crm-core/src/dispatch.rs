//! Hands committed events to subscribers: at least once, in order for each record, to one process
//! at a time, fairly among tenants, many of whom are served side by side, and on after a killed
//! process.
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
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::clock::Clock;
use crate::db::{ColumnType, Db, Row, Sql};
use crate::error::{Error, Result};
use crate::event::{Event, Principal};
use crate::id::{RecordId, TenantId};
use crate::lease::Lease;

/// Something that reacts to events.
pub trait Subscriber: Send + Sync + 'static {
    /// Its name in the log.
    fn name(&self) -> &'static str;

    /// Whether any event of this tenant up to the sequence `newest` is of interest, all of which have
    /// come about; the rest is not even read. Whoever began to listen before must be known.
    fn listens(&self, tenant: TenantId, newest: i64) -> BoxFuture<'_, Result<bool>> {
        let _ = (tenant, newest);
        Box::pin(std::future::ready(Ok(true)))
    }

    /// Takes an event; an `Err` means "call me again later".
    fn deliver(&self, event: Arc<Event>) -> BoxFuture<'_, Result<()>>;
}

/// Tenants looked at in one round, and those served at once: one that is slow delays no other.
const TENANTS: u64 = 64;
const AT_ONCE: usize = 16;
/// Events of one tenant in one turn.
const EVENTS: u64 = 256;
/// Bytes of records that those may hold: an event has its record as it was and as it is.
const EVENT_BYTES: u64 = 4 * 1024 * 1024;
/// Records of one tenant that are kept out of its turns while they wait; more take up its places.
const MOST_HELD: usize = 1_000;
/// Deliveries of one tenant under way at once.
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
    subscribers: Arc<[Arc<dyn Subscriber>]>,
    lease: Lease,
    /// The tenant served last; the next look begins behind it.
    last_tenant: TenantId,
    held: HashMap<(TenantId, RecordId), Held>,
    turns: Turns,
    /// Tenants whose last turn delivered nothing, and until when they have no further one.
    vain: HashMap<TenantId, tokio::time::Instant>,
}

/// The turns under way, one of a tenant at a time. They end with the dispatcher.
#[derive(Default)]
struct Turns {
    tasks: JoinSet<Result<Vec<(RecordId, Delivered)>>>,
    tenants: HashMap<tokio::task::Id, TenantId>,
}

/// What came of a look.
#[derive(Default)]
struct Look {
    /// Whether another process has the right to dispatch.
    elsewhere: bool,
    /// Events that nobody listens to.
    passed: usize,
}

/// A record whose next delivery waits.
struct Held {
    until: DateTime<Utc>,
    pause: TimeDelta,
}

impl Held {
    /// A clock that was put back holds nothing for longer than it was meant to be.
    fn is_held(&self, now: DateTime<Utc>) -> bool {
        now < self.until && self.until <= now + self.pause
    }
}

impl Dispatcher {
    pub(crate) fn new(db: Db, clock: Clock, subscribers: Vec<Arc<dyn Subscriber>>) -> Self {
        Self {
            lease: Lease::new("dispatcher", db.clone(), clock.clone()),
            db,
            clock,
            subscribers: subscribers.into(),
            last_tenant: TenantId(Uuid::nil()),
            held: HashMap::new(),
            turns: Turns::default(),
            vain: HashMap::new(),
        }
    }

    /// Dispatches until `stop`, then gives the lease back.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut commits = self.db.commits();
        while !stop.is_cancelled() {
            commits.borrow_and_update();
            let look = self.look(&stop).await.unwrap_or_else(|error| {
                failed(&error);
                Look::default()
            });
            let pause = tokio::time::sleep(POLL);
            let gather = tokio::select! {
                () = stop.cancelled() => break,
                () = std::future::ready(()), if look.passed > 0 => true,
                // What one tenant waits for delays nobody else: its turn goes on meanwhile.
                ended = self.turns.next(), if !self.turns.is_empty() => {
                    let tenant = ended.as_ref().map(|ended| ended.tenant);
                    let delivered = self.end(ended).await.unwrap_or_else(|error| {
                        failed(&error);
                        0
                    }) > 0;
                    if !delivered {
                        // What waits there is held back: not to be asked for again at once.
                        let until = tokio::time::Instant::now() + POLL;
                        self.vain.extend(tenant.map(|tenant| (tenant, until)));
                    }
                    delivered
                }
                // Until the other process stops, no commit here is worth a look.
                _ = commits.changed(), if !look.elsewhere => !self.turns.is_empty(),
                () = pause => false,
            };
            // Under load, a little patience makes turns larger and fewer.
            if gather {
                let _ = stop.run_until_cancelled(tokio::time::sleep(GATHER)).await;
            }
        }
        while !self.turns.is_empty() {
            let ended = self.turns.next().await;
            if let Err(error) = self.end(ended).await {
                failed(&error);
            }
        }
        if let Err(error) = self.release().await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the lease was not given back"
            );
        }
    }

    /// One turn of each of the tenants with events, to its end.
    pub(crate) async fn round(&mut self, stop: &CancellationToken) -> Result<Round> {
        let look = self.look(stop).await?;
        let mut delivered = look.passed;
        while !self.turns.is_empty() {
            let ended = self.turns.next().await;
            delivered += self.end(ended).await?;
        }
        Ok(match look.elsewhere {
            true => Round::Elsewhere,
            false => Round::Delivered(delivered),
        })
    }

    /// Begins the turns of tenants with events who have none under way, and passes over events to
    /// which nobody listens.
    async fn look(&mut self, stop: &CancellationToken) -> Result<Look> {
        let (mut look, mut unheard) = (Look::default(), Vec::new());
        // Read before anybody is asked: whoever begins to listen later hears of what comes later.
        let newest = newest(&self.db).await?;
        let now = tokio::time::Instant::now();
        self.vain.retain(|_, until| *until > now);
        for tenant in self.pending_tenants().await? {
            if stop.is_cancelled() || self.turns.tenants.len() >= AT_ONCE {
                break;
            }
            if self.turns.has(tenant) || self.vain.contains_key(&tenant) {
                continue;
            }
            self.last_tenant = tenant;
            if !self.has_listener(tenant, newest).await {
                unheard.push(tenant);
                continue;
            }
            look.elsewhere = !self.lease.take().await?;
            if look.elsewhere {
                return Ok(look);
            }
            let turn = self.turn(tenant, stop);
            self.turns.begin(tenant, turn);
        }
        if !unheard.is_empty() {
            look.elsewhere = !self.lease.take().await?;
            if !look.elsewhere {
                look.passed = self.pass(unheard, newest).await?;
            }
        }
        Ok(look)
    }

    /// One tenant's turn.
    fn turn(
        &self,
        tenant: TenantId,
        stop: &CancellationToken,
    ) -> impl Future<Output = Result<Vec<(RecordId, Delivered)>>> + Send + 'static {
        let now = self.clock.now();
        let held = self.held.iter();
        let held = held.filter(|((of, _), held)| *of == tenant && held.is_held(now));
        let held = held.map(|((_, record), _)| *record).take(MOST_HELD);
        let held: Vec<RecordId> = held.collect();
        let (db, subscribers) = (self.db.clone(), self.subscribers.clone());
        let turn = Turn {
            ends: tokio::time::Instant::now() + TURN,
            stop: stop.clone(),
        };
        async move {
            let mut by_record: Vec<(RecordId, Vec<Arc<Event>>)> = Vec::new();
            let mut places = HashMap::new();
            for event in pending_events(&db, tenant, held).await? {
                let record = event.record_id;
                let place = *places.entry(record).or_insert_with(|| {
                    by_record.push((record, Vec::new()));
                    by_record.len() - 1
                });
                by_record[place].1.push(Arc::new(event));
            }
            let (subscribers, turn) = (&*subscribers, &turn);
            let deliveries = by_record.into_iter().map(|(record, events)| async move {
                (record, deliver_in_order(subscribers, events, turn).await)
            });
            let deliveries = futures::stream::iter(deliveries).buffer_unordered(CONCURRENCY);
            Ok(deliveries.collect().await)
        }
    }

    /// Marks what was delivered in a turn, and holds back what was not; answers how many events
    /// were.
    async fn end(&mut self, ended: Option<Ended>) -> Result<usize> {
        let Some(Ended { tenant, outcomes }) = ended else {
            return Ok(0);
        };
        let now = self.clock.now();
        let mut done = Vec::new();
        match outcomes {
            Ok(outcomes) => {
                for (record, outcome) in outcomes {
                    if outcome.failed {
                        self.hold(tenant, record, now);
                    } else {
                        self.held.remove(&(tenant, record));
                    }
                    done.extend(outcome.done);
                }
            }
            // The others are not to suffer for it.
            Err(error) => tracing::error!(
                error = &error as &dyn std::error::Error,
                %tenant,
                "a tenant's events were not dispatched"
            ),
        }
        // Behind this the tenant has its next turn.
        self.mark(&done).await?;
        Ok(done.len())
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

    /// Tenants with undelivered events, in the order of their ids, beginning behind the last
    /// served.
    async fn pending_tenants(&self) -> Result<Vec<TenantId>> {
        let (last, first) = (self.last_tenant, TenantId(Uuid::nil()));
        let mut tenants = self.tenants_behind(last).await?;
        if (tenants.len() as u64) < TENANTS && last != first {
            let others = self.tenants_behind(first).await?.into_iter();
            tenants.extend(others.filter(|tenant| *tenant <= last));
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

    /// Whether some subscriber listens; when one cannot tell now, it may.
    async fn has_listener(&self, tenant: TenantId, newest: i64) -> bool {
        for subscriber in &*self.subscribers {
            if subscriber.listens(tenant, newest).await.unwrap_or(true) {
                return true;
            }
        }
        false
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
        let passed = self.db.execute(sql).await?;
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
        self.db.execute(sql).await?;
        Ok(())
    }
}

impl Turns {
    fn begin(
        &mut self,
        tenant: TenantId,
        turn: impl Future<Output = Result<Vec<(RecordId, Delivered)>>> + Send + 'static,
    ) {
        let task = self.tasks.spawn(turn);
        self.tenants.insert(task.id(), tenant);
    }

    fn has(&self, tenant: TenantId) -> bool {
        self.tenants.values().any(|busy| *busy == tenant)
    }

    fn is_empty(&self) -> bool {
        self.tenants.is_empty()
    }

    /// The turn that ends next.
    async fn next(&mut self) -> Option<Ended> {
        let (task, outcomes) = match self.tasks.join_next_with_id().await? {
            Ok((task, outcomes)) => (task, outcomes),
            Err(error) => (error.id(), Err(Error::internal(error))),
        };
        let tenant = self.tenants.remove(&task)?;
        Some(Ended { tenant, outcomes })
    }
}

/// A turn that is over.
struct Ended {
    tenant: TenantId,
    outcomes: Result<Vec<(RecordId, Delivered)>>,
}

/// The sequence of the newest event of all tenants.
pub(crate) async fn newest(db: &Db) -> Result<i64> {
    let sql = Sql::new("SELECT sequence FROM outbox ORDER BY sequence DESC LIMIT 1");
    let row = db.fetch_optional(sql.returns(&[ColumnType::Int]).point_read());
    row.await?.map_or(Ok(0), |mut row| row.int())
}

fn failed(error: &Error) {
    let error = error as &dyn std::error::Error;
    tracing::error!(error, "dispatching failed");
}

/// The tenant's oldest undelivered events, without those of records held back.
async fn pending_events(db: &Db, tenant: TenantId, held: Vec<RecordId>) -> Result<Vec<Event>> {
    let sql = select_events(|sql| {
        sql.push("tenant_id = ")
            .arg(tenant, ColumnType::Uuid)
            .push(" AND dispatched_at IS NULL");
        for record in held {
            sql.push(" AND record_id <> ").arg(record, ColumnType::Uuid);
        }
        sql.push(" ORDER BY sequence LIMIT ").number(EVENTS);
    });
    let rows = db.fetch_all(sql).await?;
    rows.into_iter().map(event_from_row).collect()
}

/// Selects events in their order by a condition with its limit: as many of the first as
/// [`EVENT_BYTES`] hold, and always one.
pub(crate) fn select_events(condition: impl FnOnce(&mut Sql)) -> Sql {
    let mut sql = Sql::new(
        "SELECT id, sequence, tenant_id, module, kind, record_id, before, after, actor, \
         request_id, root_id, depth, occurred_at, principal FROM (SELECT *, \
         sum(coalesce(octet_length(CAST(before AS text)), 0) \
         + coalesce(octet_length(CAST(after AS text)), 0)) OVER (ORDER BY sequence \
         ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS ahead \
         FROM (SELECT * FROM outbox WHERE ",
    )
    .returns(EVENT_COLUMNS);
    condition(&mut sql);
    sql.push(") AS first) AS first WHERE ahead IS NULL OR ahead < ")
        .number(EVENT_BYTES)
        .push(" ORDER BY sequence");
    sql
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
    ColumnType::Text,
];

/// Reads `id, sequence, tenant_id, module, kind, record_id, before, after, actor, request_id,
/// root_id, depth, occurred_at, principal`.
pub(crate) fn event_from_row(mut row: Row) -> Result<Event> {
    let mut event = Event {
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
        impersonator: None,
        principal: None,
    };
    let principal: Option<String> = row.opt_text()?;
    let principal = principal.map(|text| Principal::parse(&text, event.tenant_id));
    event.principal = principal.transpose()?;
    let impersonator = event.principal.and_then(Principal::impersonator);
    event.impersonator = impersonator.map(|by| by.actor().to_string());
    Ok(event)
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
struct Turn {
    ends: tokio::time::Instant,
    stop: CancellationToken,
}

impl Turn {
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
    turn: &Turn,
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
