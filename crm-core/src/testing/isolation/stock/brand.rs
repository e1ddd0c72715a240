//! What no door changes: rows that are old, and those of the twin, which are other ones wherever
//! both have one.

use chrono::{DateTime, TimeDelta};
use serde_json::json;
use uuid::Uuid;

use super::ONCE;
use crate::audit::PRUNE;
use crate::crm::Crm;
use crate::db::{ColumnType, Sql};
use crate::error::{Error, Result};
use crate::id::{JobId, TenantId, UserId};
use crate::journal;
use crate::module::Ident;
use crate::scope::{Actor, Scope};
use crate::testing::isolation::cast::Cast;

/// An invitation by a member who leaves, and a request so old that it is forgotten with the next.
pub(super) async fn age(crm: &Crm, tenant: TenantId, user: UserId) -> Result<()> {
    let invited = Sql::new("UPDATE invitations SET invited_by = $1 WHERE tenant_id = $2")
        .bind(Actor::User(user).to_string(), ColumnType::Text)
        .bind(tenant, ColumnType::Uuid);
    let forgotten = Sql::new(
        "INSERT INTO idempotency_keys (tenant_id, actor, idempotency_key, fingerprint, created_at, \
         status, body) SELECT tenant_id, actor, 'isolation-old', fingerprint, $1, status, body \
         FROM idempotency_keys WHERE tenant_id = $2 AND idempotency_key = $3",
    )
    .bind(DateTime::UNIX_EPOCH, ColumnType::Instant)
    .bind(tenant, ColumnType::Uuid)
    .bind(ONCE[0], ColumnType::Text);
    let write = crm.core.db.write(move |tx| {
        Box::pin(async move {
            tx.execute(invited).await?;
            tx.execute(forgotten).await
        })
    });
    write.await.map(drop)
}

/// Lets another process run the job, for years.
pub(super) async fn run_elsewhere(crm: &Crm, tenant: TenantId, job: JobId) -> Result<()> {
    let running = Sql::new(
        "UPDATE jobs SET state = 'running', holder = $1, lease_until = $2, started_at = created_at \
         WHERE tenant_id = $3 AND id = $4",
    )
    .bind(crm.clock().new_id(), ColumnType::Uuid)
    .bind(
        crm.clock().now() + TimeDelta::days(3_650),
        ColumnType::Instant,
    )
    .bind(tenant, ColumnType::Uuid)
    .bind(job, ColumnType::Uuid);
    crm.core.db.execute(running).await.map(drop)
}

/// How many entries the audit log has.
pub(super) async fn count_entries(crm: &Crm, tenant: TenantId) -> Result<i64> {
    let sql = Sql::new("SELECT count(*) FROM audit_log WHERE tenant_id = $1")
        .bind(tenant, ColumnType::Uuid)
        .returns(&[ColumnType::Int]);
    let row = crm.core.db.fetch_optional(sql).await?;
    row.ok_or(Error::NotFound)?.int()
}

/// A seal of the number that the tenant's first one has, over an entry of days to come; and word of
/// a pruning far beyond it.
pub(super) async fn seal(crm: &Crm, scope: &Scope, entries: i64, entry: Uuid) -> Result<()> {
    let later = crm.clock().now() + TimeDelta::days(10);
    // A version, then the entry and two digests; at most 256 entries are sealed at once.
    let members = [[1_u8].as_slice(), entry.as_bytes(), &[0; 64]].concat();
    let seal = Sql::new(
        "INSERT INTO audit_seals (tenant_id, sequence, entries, members, newest_at, sealed_at, hash) \
         VALUES ($1, $2, 1, $3, $4, $4, $5)",
    )
    .bind(scope.tenant(), ColumnType::Uuid)
    .bind(entries.min(256), ColumnType::Int)
    .bind(members, ColumnType::Bytes)
    .bind(later, ColumnType::Instant)
    .bind(vec![0; 32], ColumnType::Bytes);
    let told = json!({"sequence": 1_000_000_000, "hash": ""});
    let scope = scope.clone();
    let write = crm.core.db.write(move |tx| {
        Box::pin(async move {
            tx.execute(seal).await?;
            journal::audit(tx, &scope, PRUNE, ("audit", None), None, Some(told)).await
        })
    });
    write.await
}

/// What no door changes: the twin's rows are other ones wherever both have one.
pub(super) async fn brand(crm: &Crm, tenant: TenantId, cast: &Cast) -> Result<()> {
    let later = crm.clock().now() - TimeDelta::days(1);
    let mut statements: Vec<Sql> = [
        "UPDATE idempotency_keys SET body = 'other' WHERE tenant_id = ",
        "UPDATE audit_log SET request_id = 'other' WHERE tenant_id = ",
        "UPDATE outbox SET request_id = 'other' WHERE tenant_id = ",
        "UPDATE jobs SET request_id = 'other', kind = 'other' WHERE tenant_id = ",
        "UPDATE job_errors SET message = 'other' WHERE tenant_id = ",
        "UPDATE api_keys SET name = 'other' WHERE tenant_id = ",
        "UPDATE invitations SET name = 'other' WHERE tenant_id = ",
        "UPDATE plugins SET status = 'disabled' WHERE name <> 'isolation_other' AND tenant_id = ",
        "INSERT INTO plugin_runs (tenant_id, id, plugin_id, trigger, outcome, fuel, duration_us, \
         host_calls, logs, started_at) SELECT tenant_id, id, id, 'other', 'succeeded', 0, 0, 0, '[]', \
         created_at FROM plugins WHERE tenant_id = ",
        "UPDATE plugin_versions SET uploaded_by = 'other' WHERE tenant_id = ",
        "UPDATE plugin_secrets SET set_by = 'other' WHERE tenant_id = ",
        "UPDATE plugins SET kv_bytes = 16777216 WHERE tenant_id = ",
        "INSERT INTO plugin_settings (tenant_id, require_signature, daily_fuel) \
         SELECT id, (1 = 0), 7 FROM tenants WHERE id = ",
        "UPDATE custom_modules SET description = 'other' WHERE tenant_id = ",
        "UPDATE serials SET next = next + 1000 WHERE tenant_id = ",
        "UPDATE record_counts SET count = count + 1000 WHERE tenant_id = ",
        "UPDATE refresh_families SET user_agent = 'other' WHERE tenant_id = ",
        "UPDATE invitations SET expires_at = created_at \
         WHERE email = 'isolation.second@example.com' AND tenant_id = ",
        "UPDATE identity_providers SET client_id = 'other', domains = '[]' WHERE tenant_id = ",
        "UPDATE user_identities SET subject = 'other' || subject WHERE tenant_id = ",
        "UPDATE tenants SET requires_second_factor = (1 = 1) WHERE id = ",
        "UPDATE api_keys SET role_id = (SELECT r.id FROM roles r \
         WHERE r.tenant_id = api_keys.tenant_id AND r.name = 'admin') WHERE tenant_id = ",
        "INSERT INTO login_challenges (hash, tenant_id, user_id, expires_at, provider_id) \
         SELECT k.hash, k.tenant_id, m.user_id, COALESCE((SELECT max(f.expires_at) \
         FROM refresh_families f WHERE f.tenant_id = k.tenant_id), k.created_at), (SELECT p.id \
         FROM identity_providers p WHERE p.tenant_id = k.tenant_id AND p.name = 'isolation') \
         FROM api_keys k \
         JOIN memberships m ON m.tenant_id = k.tenant_id WHERE m.user_id = \
         (SELECT o.user_id FROM memberships o WHERE o.tenant_id = k.tenant_id \
         ORDER BY o.user_id LIMIT 1) \
         AND k.name = 'other' AND k.tenant_id = ",
        "INSERT INTO audit_seals (tenant_id, sequence, entries, newest_at, sealed_at, hash) \
         SELECT k.tenant_id, 1, 1, k.created_at, k.created_at, k.hash FROM api_keys k \
         WHERE k.id = (SELECT o.id FROM api_keys o WHERE o.tenant_id = k.tenant_id \
         ORDER BY o.id LIMIT 1) AND k.tenant_id = ",
        // A module that is gone: the name is still taken here.
        "UPDATE api_keys SET permissions = '[\"isolation_more.read\"]' \
         WHERE user_id IS NULL AND tenant_id = ",
    ]
    .into_iter()
    .map(Sql::new)
    .collect();
    // What a member owns in the tenant is another one's here, who may see it.
    let owned = |table: &Ident| {
        let mut sql = Sql::new("UPDATE ");
        sql.ident(table).push(" SET owner_id = ");
        sql.arg(cast.bob, ColumnType::Uuid)
            .push(" WHERE owner_id = ");
        sql.arg(cast.ann, ColumnType::Uuid)
            .push(" AND tenant_id = ");
        sql
    };
    let mut tables: Vec<_> = crm
        .registry()
        .iter()
        .map(|module| module.table().clone())
        .collect();
    tables.extend("custom_records".parse::<Ident>());
    for table in tables {
        let mut sql = Sql::new("UPDATE ");
        sql.ident(&table)
            .push(" SET version = version + 1000 WHERE tenant_id = ");
        statements.extend([sql, owned(&table)]);
    }
    for sql in &mut statements {
        sql.arg(tenant, ColumnType::Uuid);
    }
    let mut old = Sql::new("UPDATE memberships SET created_at = ");
    old.arg(later, ColumnType::Instant)
        .push(" WHERE tenant_id = ");
    old.arg(tenant, ColumnType::Uuid);
    let mut forgotten = Sql::new("UPDATE idempotency_keys SET created_at = ");
    forgotten
        .arg(DateTime::UNIX_EPOCH, ColumnType::Instant)
        .push(" WHERE tenant_id = ");
    forgotten.arg(tenant, ColumnType::Uuid);
    let mut short = Sql::new("UPDATE plugin_kv SET value = ");
    short
        .arg(vec![2_u8], ColumnType::Bytes)
        .push(" WHERE tenant_id = ");
    short.arg(tenant, ColumnType::Uuid);
    let mut used = Sql::new(
        "INSERT INTO plugin_usage (tenant_id, day, runs, failed, fuel, duration_us, rows_read, \
         rows_written, requests, request_bytes) SELECT id, ",
    );
    used.arg(crm.clock().now().date_naive(), ColumnType::Date)
        .push(", 7, 7, 7, 7, 7, 7, 7, 7 FROM tenants WHERE id = ");
    used.arg(tenant, ColumnType::Uuid);
    // A version that asks for a module that is gone: the name is still taken here.
    let mut asking = Sql::new(
        "INSERT INTO plugin_versions (tenant_id, plugin_id, sha256, manifest, uploaded_by, created_at) \
         SELECT tenant_id, id, ",
    );
    asking
        .arg(vec![7_u8; 32], ColumnType::Bytes)
        .push(", ")
        .arg(
            json!({
                "name": "isolation_probe", "version": "7.0.0", "triggers": [],
                "grants": [{"module": "isolation_more", "actions": ["read"]}],
            }),
            ColumnType::Json,
        )
        .push(", 'other', created_at FROM plugins WHERE name = 'isolation_probe' AND tenant_id = ");
    asking.arg(tenant, ColumnType::Uuid);
    // It opens every tenant of its user's.
    let mut roaming = Sql::new("UPDATE refresh_families SET roaming = (1 = 1) WHERE user_id = ");
    roaming.arg(cast.carl, ColumnType::Uuid);
    statements.extend([old, forgotten, short, used, asking, roaming]);
    let write = crm.core.db.write(move |tx| {
        Box::pin(async move {
            for sql in statements {
                tx.execute(sql).await?;
            }
            Ok(())
        })
    });
    write.await
}
