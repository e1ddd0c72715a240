//! The SQL of jobs. Every statement on a job carries its tenant; every statement of a runner also
//! its holder, so that whoever lost the lease changes nothing.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value as Json;

use super::{Job, JobState, Lease, LineError, Progress};
use crate::db::{ColumnType, Row, Sql};
use crate::error::{Error, FieldError, Result};
use crate::id::{JobId, TenantId};
use crate::scope::Scope;

/// How long a job stays with a process that was killed.
pub(super) const LEASE: TimeDelta = TimeDelta::seconds(10);
/// How long finished jobs are kept.
const KEPT: TimeDelta = TimeDelta::days(30);
/// How long a file may take to arrive.
const ARRIVAL: TimeDelta = TimeDelta::days(1);
/// Jobs removed by one statement.
const SWEPT: u64 = 20;

const SELECT: &str = "SELECT id, kind, state, input, progress, result, error, created_by, \
                      created_at, started_at, finished_at FROM jobs WHERE tenant_id = ";
const COLUMNS: &[ColumnType] = &[
    ColumnType::Uuid,
    ColumnType::Text,
    ColumnType::Text,
    ColumnType::Json,
    ColumnType::Json,
    ColumnType::Json,
    ColumnType::Json,
    ColumnType::Text,
    ColumnType::Instant,
    ColumnType::Instant,
    ColumnType::Instant,
];

fn broken(column: &'static str) -> Error {
    Error::Inconsistent {
        table: "jobs".into(),
        column: column.into(),
    }
}

pub(super) fn job(mut row: Row) -> Result<Job> {
    let parsed = |column, json: Json| serde_json::from_value(json).map_err(|_| broken(column));
    Ok(Job {
        id: row.uuid()?,
        kind: row.text()?,
        state: state(&row.text::<String>()?)?,
        input: row.json()?,
        progress: progress(row.json()?)?,
        result: row.opt_json()?,
        error: match row.opt_json::<Json>()? {
            Some(json) => parsed("error", json)?,
            None => None,
        },
        created_by: row.text()?,
        created_at: row.instant()?,
        started_at: row.opt_instant()?,
        finished_at: row.opt_instant()?,
    })
}

fn state(text: &str) -> Result<JobState> {
    let mut all = JobState::ALL.into_iter();
    all.find(|state| state.as_str() == text)
        .ok_or_else(|| broken("state"))
}

fn progress(json: Json) -> Result<Progress> {
    serde_json::from_value(json).map_err(|_| broken("progress"))
}

fn json(progress: Progress) -> Json {
    // Four numbers: serialising cannot fail.
    serde_json::to_value(progress).unwrap_or_default()
}

pub(super) fn insert(scope: &Scope, id: JobId, kind: &str, input: Json, state: JobState) -> Sql {
    Sql::new(
        "INSERT INTO jobs (tenant_id, id, kind, state, input, progress, created_by, request_id, \
         created_at, principal) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(scope.tenant(), ColumnType::Uuid)
    .bind(id, ColumnType::Uuid)
    .bind(kind, ColumnType::Text)
    .bind(state.as_str(), ColumnType::Text)
    .bind(input, ColumnType::Json)
    .bind(json(Progress::default()), ColumnType::Json)
    .bind(scope.actor().to_string(), ColumnType::Text)
    .bind(&*scope.request().id, ColumnType::Text)
    .bind(scope.clock().now(), ColumnType::Instant)
    .bind(scope.told_principal(), ColumnType::Text)
}

pub(super) fn count_open(tenant: TenantId) -> Sql {
    Sql::new("SELECT count(*) FROM jobs WHERE tenant_id = $1 AND finished_at IS NULL")
        .bind(tenant, ColumnType::Uuid)
        .returns(&[ColumnType::Int])
}

pub(super) fn select(tenant: TenantId, id: JobId, only: Option<String>) -> Sql {
    let mut sql = Sql::new(SELECT).returns(COLUMNS);
    sql.arg(tenant, ColumnType::Uuid)
        .push(" AND id = ")
        .arg(id, ColumnType::Uuid);
    created_by(&mut sql, only);
    sql
}

pub(super) fn list(
    tenant: TenantId,
    only: Option<String>,
    before: Option<JobId>,
    limit: u32,
) -> Sql {
    let mut sql = Sql::new(SELECT).returns(COLUMNS);
    sql.arg(tenant, ColumnType::Uuid);
    created_by(&mut sql, only);
    if let Some(before) = before {
        sql.push(" AND id < ").arg(before, ColumnType::Uuid);
    }
    sql.push(" ORDER BY id DESC LIMIT ")
        .number(u64::from(limit));
    sql
}

fn created_by(sql: &mut Sql, only: Option<String>) {
    if let Some(actor) = only {
        sql.push(" AND created_by = ").arg(actor, ColumnType::Text);
    }
}

/// Ends a job that nobody runs, and asks whoever runs it to stop.
pub(super) fn cancel(tenant: TenantId, id: JobId, now: DateTime<Utc>) -> [Sql; 2] {
    let ended = Sql::new(
        "UPDATE jobs SET state = 'cancelled', finished_at = $1, holder = NULL, \
         lease_until = NULL WHERE tenant_id = $2 AND id = $3 AND (state IN ('receiving', \
         'queued') OR (state = 'running' AND lease_until < $1))",
    );
    let asked = Sql::new(
        "UPDATE jobs SET cancelling = (1 = 1) WHERE lease_until >= $1 AND tenant_id = $2 \
         AND id = $3 AND state = 'running'",
    );
    [ended, asked].map(|sql| {
        sql.bind(now, ColumnType::Instant)
            .bind(tenant, ColumnType::Uuid)
            .bind(id, ColumnType::Uuid)
    })
}

/// Jobs that nobody runs: those of tenants with the fewest running first, then of those whose last
/// turn is longest ago, then the oldest.
pub(super) fn waiting<'k>(kinds: impl Iterator<Item = &'k str>, now: DateTime<Utc>) -> Sql {
    let mut sql = Sql::new(
        "SELECT j.tenant_id, j.id FROM jobs j WHERE j.finished_at IS NULL AND (j.state = 'queued' \
         OR (j.state = 'running' AND j.lease_until < $1)) AND EXISTS (SELECT 1 FROM tenants t \
         WHERE t.id = j.tenant_id AND t.status = 'active') AND j.kind IN (",
    )
    .bind(now, ColumnType::Instant)
    .returns(&[ColumnType::Uuid, ColumnType::Uuid]);
    for (count, kind) in kinds.enumerate() {
        if count > 0 {
            sql.push(", ");
        }
        sql.arg(kind, ColumnType::Text);
    }
    sql.push(
        ") ORDER BY (SELECT count(*) FROM jobs r WHERE r.tenant_id = j.tenant_id \
         AND r.finished_at IS NULL AND r.state = 'running' AND r.lease_until >= $1), \
         COALESCE((SELECT max(s.started_at) FROM jobs s WHERE s.tenant_id = j.tenant_id), ",
    )
    .arg(DateTime::UNIX_EPOCH, ColumnType::Instant)
    .push("), j.id LIMIT 8");
    sql
}

/// What a runner learns of the job it took.
pub(super) struct Taken {
    pub(super) kind: String,
    pub(super) input: Json,
    pub(super) checkpoint: Option<Json>,
    pub(super) progress: Progress,
    pub(super) created_by: String,
    pub(super) principal: Option<String>,
    pub(super) request_id: String,
    pub(super) attempts: i64,
    pub(super) cancelling: bool,
}

pub(super) fn take(lease: Lease, now: DateTime<Utc>) -> Sql {
    Sql::new(
        "UPDATE jobs SET state = 'running', holder = $1, lease_until = $2, started_at = $3, \
         attempts = attempts + 1 WHERE tenant_id = $4 AND id = $5 AND (state = 'queued' OR \
         (state = 'running' AND lease_until < $3)) RETURNING kind, input, checkpoint, progress, \
         created_by, principal, request_id, attempts, cancelling",
    )
    .bind(lease.holder, ColumnType::Uuid)
    .bind(now + LEASE, ColumnType::Instant)
    .bind(now, ColumnType::Instant)
    .bind(lease.tenant, ColumnType::Uuid)
    .bind(lease.id, ColumnType::Uuid)
    .returns(&[
        ColumnType::Text,
        ColumnType::Json,
        ColumnType::Json,
        ColumnType::Json,
        ColumnType::Text,
        ColumnType::Text,
        ColumnType::Text,
        ColumnType::Int,
        ColumnType::Bool,
    ])
}

pub(super) fn taken(mut row: Row) -> Result<Taken> {
    Ok(Taken {
        kind: row.text()?,
        input: row.json()?,
        checkpoint: row.opt_json()?,
        progress: progress(row.json()?)?,
        created_by: row.text()?,
        principal: row.opt_text()?,
        request_id: row.text()?,
        attempts: row.int()?,
        cancelling: row.bool()?,
    })
}

/// Holds on to the lease; no row when it is lost, else whether the job is to stop.
pub(super) fn renew(lease: Lease, now: DateTime<Utc>) -> Sql {
    let mut sql = Sql::new("UPDATE jobs SET lease_until = ");
    sql.arg(now + LEASE, ColumnType::Instant);
    held(sql, lease)
}

/// Keeps where to go on, and holds on to the lease as [`renew`] does.
pub(super) fn save(lease: Lease, now: DateTime<Utc>, to: Json, progress: Progress) -> Sql {
    let mut sql = Sql::new("UPDATE jobs SET attempts = 0, lease_until = ");
    sql.arg(now + LEASE, ColumnType::Instant)
        .push(", checkpoint = ")
        .arg(to, ColumnType::Json)
        .push(", progress = ")
        .arg(json(progress), ColumnType::Json);
    held(sql, lease)
}

fn held(mut sql: Sql, lease: Lease) -> Sql {
    holder(&mut sql, lease);
    sql.push(" RETURNING cancelling");
    sql.returns(&[ColumnType::Bool])
}

fn holder(sql: &mut Sql, lease: Lease) {
    sql.push(" WHERE state = 'running' AND tenant_id = ")
        .arg(lease.tenant, ColumnType::Uuid)
        .push(" AND id = ")
        .arg(lease.id, ColumnType::Uuid)
        .push(" AND holder = ")
        .arg(lease.holder, ColumnType::Uuid);
}

/// Ends a job, if the lease is still held.
pub(super) fn finish(
    lease: Lease,
    now: DateTime<Utc>,
    state: JobState,
    result: Option<Json>,
    error: Option<Json>,
) -> Sql {
    let mut sql = Sql::new("UPDATE jobs SET holder = NULL, lease_until = NULL, finished_at = ");
    sql.arg(now, ColumnType::Instant)
        .push(", state = ")
        .arg(state.as_str(), ColumnType::Text)
        .push(", result = ")
        .arg(result, ColumnType::Json)
        .push(", error = ")
        .arg(error, ColumnType::Json);
    holder(&mut sql, lease);
    sql
}

/// Lets somebody take the job: at once, or when `at` has come.
pub(super) fn give_back(lease: Lease, at: Option<DateTime<Utc>>) -> Sql {
    let mut sql = Sql::new("UPDATE jobs SET holder = NULL, attempts = CASE WHEN attempts > 0 ");
    match at {
        // Waiting for another try: this one counts.
        Some(at) => sql
            .push("THEN attempts ELSE 1 END, lease_until = ")
            .arg(at, ColumnType::Instant),
        None => sql.push("THEN attempts - 1 ELSE 0 END, lease_until = NULL, state = 'queued'"),
    };
    holder(&mut sql, lease);
    sql
}

/// Removes jobs that ended long ago, and those whose file never came.
pub(super) fn sweep(now: DateTime<Utc>) -> [Sql; 2] {
    let mut finished = Sql::new(
        "DELETE FROM jobs WHERE (tenant_id, id) IN (SELECT tenant_id, id FROM jobs \
         WHERE finished_at < $1 LIMIT ",
    )
    .bind(now - KEPT, ColumnType::Instant);
    finished.number(SWEPT).push(")");
    let mut unreceived = Sql::new(
        "DELETE FROM jobs WHERE (tenant_id, id) IN (SELECT tenant_id, id FROM jobs \
         WHERE finished_at IS NULL AND state = 'receiving' AND created_at < $1 LIMIT ",
    )
    .bind(now - ARRIVAL, ColumnType::Instant);
    unreceived.number(SWEPT).push(")");
    [finished, unreceived]
}

/// Keeps a refused entry under the next number.
pub(crate) fn insert_error(lease: Lease, number: u64, line: u64, refused: &FieldError) -> Sql {
    Sql::new(
        "INSERT INTO job_errors (tenant_id, job_id, number, line, code, pointer, message) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(lease.tenant, ColumnType::Uuid)
    .bind(lease.id, ColumnType::Uuid)
    .bind(signed(number), ColumnType::Int)
    .bind(signed(line), ColumnType::Int)
    .bind(refused.code, ColumnType::Text)
    .bind(refused.pointer.as_str(), ColumnType::Text)
    .bind(refused.message.as_str(), ColumnType::Text)
}

pub(super) fn errors(tenant: TenantId, id: JobId, from: u64, limit: u32) -> Sql {
    let mut sql = Sql::new(
        "SELECT line, code, pointer, message FROM job_errors WHERE tenant_id = $1 \
         AND job_id = $2 AND number >= $3 ORDER BY number LIMIT ",
    )
    .bind(tenant, ColumnType::Uuid)
    .bind(id, ColumnType::Uuid)
    .bind(signed(from), ColumnType::Int)
    .returns(&[
        ColumnType::Int,
        ColumnType::Text,
        ColumnType::Text,
        ColumnType::Text,
    ]);
    sql.number(u64::from(limit));
    sql
}

pub(super) fn line_error(mut row: Row) -> Result<LineError> {
    Ok(LineError {
        line: row.int::<i64>()?.unsigned_abs(),
        code: row.text()?,
        pointer: row.text()?,
        message: row.text()?,
    })
}

/// Counts as the databases keep them.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
