-- Tenant automation: whose rights bound it, its versions, and what its runs did.

-- Whose act caused an event, where its actor does not tell: user:<id>, and behind a slash who acted in
-- their name.
ALTER TABLE outbox ADD COLUMN principal TEXT;

-- The version that ran before, the one that some of the events go to, and how many of 100.
ALTER TABLE plugins ADD COLUMN previous_sha256 bytea;
ALTER TABLE plugins ADD COLUMN canary_sha256 bytea;
ALTER TABLE plugins ADD COLUMN canary_percent bigint;
-- Why it was switched off by the library.
ALTER TABLE plugins ADD COLUMN parked TEXT;

CREATE TABLE plugin_versions (
    tenant_id    uuid NOT NULL,
    plugin_id    uuid NOT NULL,
    sha256       bytea NOT NULL,
    manifest     jsonb NOT NULL,
    -- The name of the trusted key that signed it.
    signed_by    TEXT,
    uploaded_by  TEXT NOT NULL,
    created_at   timestamptz NOT NULL,
    consented_by uuid,
    consented_at timestamptz,
    PRIMARY KEY (tenant_id, plugin_id, sha256),
    FOREIGN KEY (tenant_id, plugin_id) REFERENCES plugins (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX plugin_versions_sha256 ON plugin_versions (sha256);
INSERT INTO plugin_versions (tenant_id, plugin_id, sha256, manifest, uploaded_by, created_at,
    consented_by, consented_at)
SELECT tenant_id, id, sha256, manifest, 'operator', created_at, installed_by, enabled_at FROM plugins;

CREATE TABLE plugin_keys (
    tenant_id  uuid NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    id         uuid NOT NULL,
    name       TEXT NOT NULL,
    -- Ed25519, 32 bytes.
    public_key bytea NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, name)
);

CREATE TABLE plugin_settings (
    tenant_id         uuid PRIMARY KEY REFERENCES tenants (id) ON DELETE CASCADE,
    require_signature boolean NOT NULL,
    daily_fuel        bigint
);

-- What a run used beside fuel and time, and which component ran.
ALTER TABLE plugin_runs ADD COLUMN memory bigint NOT NULL DEFAULT 0;
ALTER TABLE plugin_runs ADD COLUMN rows_read bigint NOT NULL DEFAULT 0;
ALTER TABLE plugin_runs ADD COLUMN rows_written bigint NOT NULL DEFAULT 0;
ALTER TABLE plugin_runs ADD COLUMN requests bigint NOT NULL DEFAULT 0;
ALTER TABLE plugin_runs ADD COLUMN request_bytes bigint NOT NULL DEFAULT 0;
ALTER TABLE plugin_runs ADD COLUMN sha256 bytea;

-- What a replay of a run needs: JSON as bytes, since guests may write what no JSON column holds.
CREATE TABLE plugin_run_details (
    tenant_id  uuid NOT NULL,
    run_id     uuid NOT NULL,
    seed       bytea NOT NULL,
    input      bytea NOT NULL,
    transcript bytea NOT NULL,
    PRIMARY KEY (tenant_id, run_id),
    FOREIGN KEY (tenant_id, run_id) REFERENCES plugin_runs (tenant_id, id) ON DELETE CASCADE
);

CREATE TABLE plugin_usage (
    tenant_id     uuid NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    -- In UTC.
    day           date NOT NULL,
    runs          bigint NOT NULL,
    failed        bigint NOT NULL,
    fuel          bigint NOT NULL,
    duration_us   bigint NOT NULL,
    rows_read     bigint NOT NULL,
    rows_written  bigint NOT NULL,
    requests      bigint NOT NULL,
    request_bytes bigint NOT NULL,
    PRIMARY KEY (tenant_id, day)
);

CREATE TABLE plugin_kv (
    tenant_id uuid NOT NULL,
    plugin_id uuid NOT NULL,
    key       TEXT COLLATE "C" NOT NULL,
    value     bytea NOT NULL,
    PRIMARY KEY (tenant_id, plugin_id, key),
    FOREIGN KEY (tenant_id, plugin_id) REFERENCES plugins (tenant_id, id) ON DELETE CASCADE
);

CREATE TABLE plugin_secrets (
    tenant_id uuid NOT NULL,
    plugin_id uuid NOT NULL,
    name      TEXT NOT NULL,
    sealed    bytea NOT NULL,
    set_by    TEXT NOT NULL,
    set_at    timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, plugin_id, name),
    FOREIGN KEY (tenant_id, plugin_id) REFERENCES plugins (tenant_id, id) ON DELETE CASCADE
);

-- When the cron triggers of enabled plugins are due next.
CREATE TABLE plugin_ticks (
    tenant_id uuid NOT NULL,
    plugin_id uuid NOT NULL,
    name      TEXT NOT NULL,
    due_at    timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, plugin_id, name),
    FOREIGN KEY (tenant_id, plugin_id) REFERENCES plugins (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX plugin_ticks_due ON plugin_ticks (due_at);

-- What plugins scheduled for themselves.
CREATE TABLE plugin_jobs (
    tenant_id uuid NOT NULL,
    plugin_id uuid NOT NULL,
    name      TEXT NOT NULL,
    payload   TEXT,
    due_at    timestamptz NOT NULL,
    -- As in the outbox.
    principal TEXT,
    root_id   uuid NOT NULL,
    depth     bigint NOT NULL,
    PRIMARY KEY (tenant_id, plugin_id, name),
    FOREIGN KEY (tenant_id, plugin_id) REFERENCES plugins (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX plugin_jobs_due ON plugin_jobs (due_at);
