-- Tenant automation: whose rights bound it, its versions, and what its runs did.

-- Whose act caused an event, where its actor does not tell: user:<id>, and behind a slash who acted in
-- their name.
ALTER TABLE outbox ADD COLUMN principal TEXT;

-- The version that ran before, the one that some of the events go to, and how many of 100.
ALTER TABLE plugins ADD COLUMN previous_sha256 BLOB;
ALTER TABLE plugins ADD COLUMN canary_sha256 BLOB;
ALTER TABLE plugins ADD COLUMN canary_percent INTEGER;
-- Why it was switched off by the library.
ALTER TABLE plugins ADD COLUMN parked TEXT;

CREATE TABLE plugin_versions (
    tenant_id    BLOB NOT NULL,
    plugin_id    BLOB NOT NULL,
    sha256       BLOB NOT NULL,
    manifest     TEXT NOT NULL,
    -- The name of the trusted key that signed it.
    signed_by    TEXT,
    uploaded_by  TEXT NOT NULL,
    created_at   INTEGER NOT NULL,
    consented_by BLOB,
    consented_at INTEGER,
    PRIMARY KEY (tenant_id, plugin_id, sha256),
    FOREIGN KEY (tenant_id, plugin_id) REFERENCES plugins (tenant_id, id) ON DELETE CASCADE
) STRICT;
CREATE INDEX plugin_versions_sha256 ON plugin_versions (sha256);
INSERT INTO plugin_versions (tenant_id, plugin_id, sha256, manifest, uploaded_by, created_at,
    consented_by, consented_at)
SELECT tenant_id, id, sha256, manifest, 'operator', created_at, installed_by, enabled_at FROM plugins;

CREATE TABLE plugin_keys (
    tenant_id  BLOB NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    id         BLOB NOT NULL,
    name       TEXT NOT NULL,
    -- Ed25519, 32 bytes.
    public_key BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, name)
) STRICT;

CREATE TABLE plugin_settings (
    tenant_id         BLOB PRIMARY KEY REFERENCES tenants (id) ON DELETE CASCADE,
    require_signature INTEGER NOT NULL,
    daily_fuel        INTEGER
) STRICT;

-- What a run used beside fuel and time, and which component ran.
ALTER TABLE plugin_runs ADD COLUMN memory INTEGER NOT NULL DEFAULT 0;
ALTER TABLE plugin_runs ADD COLUMN rows_read INTEGER NOT NULL DEFAULT 0;
ALTER TABLE plugin_runs ADD COLUMN rows_written INTEGER NOT NULL DEFAULT 0;
ALTER TABLE plugin_runs ADD COLUMN requests INTEGER NOT NULL DEFAULT 0;
ALTER TABLE plugin_runs ADD COLUMN request_bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE plugin_runs ADD COLUMN sha256 BLOB;

-- What a replay of a run needs: JSON as bytes, since guests may write what no JSON column holds.
CREATE TABLE plugin_run_details (
    tenant_id  BLOB NOT NULL,
    run_id     BLOB NOT NULL,
    seed       BLOB NOT NULL,
    input      BLOB NOT NULL,
    transcript BLOB NOT NULL,
    PRIMARY KEY (tenant_id, run_id),
    FOREIGN KEY (tenant_id, run_id) REFERENCES plugin_runs (tenant_id, id) ON DELETE CASCADE
) STRICT;

CREATE TABLE plugin_usage (
    tenant_id     BLOB NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    -- In UTC.
    day           TEXT NOT NULL,
    runs          INTEGER NOT NULL,
    failed        INTEGER NOT NULL,
    fuel          INTEGER NOT NULL,
    duration_us   INTEGER NOT NULL,
    rows_read     INTEGER NOT NULL,
    rows_written  INTEGER NOT NULL,
    requests      INTEGER NOT NULL,
    request_bytes INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, day)
) STRICT;

CREATE TABLE plugin_kv (
    tenant_id BLOB NOT NULL,
    plugin_id BLOB NOT NULL,
    key       TEXT NOT NULL,
    value     BLOB NOT NULL,
    PRIMARY KEY (tenant_id, plugin_id, key),
    FOREIGN KEY (tenant_id, plugin_id) REFERENCES plugins (tenant_id, id) ON DELETE CASCADE
) STRICT;

CREATE TABLE plugin_secrets (
    tenant_id BLOB NOT NULL,
    plugin_id BLOB NOT NULL,
    name      TEXT NOT NULL,
    sealed    BLOB NOT NULL,
    set_by    TEXT NOT NULL,
    set_at    INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, plugin_id, name),
    FOREIGN KEY (tenant_id, plugin_id) REFERENCES plugins (tenant_id, id) ON DELETE CASCADE
) STRICT;

-- When the cron triggers of enabled plugins are due next.
CREATE TABLE plugin_ticks (
    tenant_id BLOB NOT NULL,
    plugin_id BLOB NOT NULL,
    name      TEXT NOT NULL,
    due_at    INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, plugin_id, name),
    FOREIGN KEY (tenant_id, plugin_id) REFERENCES plugins (tenant_id, id) ON DELETE CASCADE
) STRICT;
CREATE INDEX plugin_ticks_due ON plugin_ticks (due_at);

-- What plugins scheduled for themselves.
CREATE TABLE plugin_jobs (
    tenant_id BLOB NOT NULL,
    plugin_id BLOB NOT NULL,
    name      TEXT NOT NULL,
    payload   TEXT,
    due_at    INTEGER NOT NULL,
    -- As in the outbox.
    principal TEXT,
    root_id   BLOB NOT NULL,
    depth     INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, plugin_id, name),
    FOREIGN KEY (tenant_id, plugin_id) REFERENCES plugins (tenant_id, id) ON DELETE CASCADE
) STRICT;
CREATE INDEX plugin_jobs_due ON plugin_jobs (due_at);
