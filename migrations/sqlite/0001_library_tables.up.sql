-- The library's own tables. Every unique and foreign key of tenant data starts with tenant_id.
-- UUIDs are 16-byte BLOBs, instants microseconds since 1970 in UTC, JSON is TEXT.

CREATE TABLE tenants (
    id           BLOB PRIMARY KEY,
    name         TEXT NOT NULL UNIQUE,
    status       TEXT NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended')),
    -- Taken from policy_epochs with every change of a role, rule or assignment of this tenant.
    policy_epoch INTEGER NOT NULL DEFAULT 0,
    created_at   INTEGER NOT NULL
) STRICT;
CREATE INDEX tenants_policy_epoch ON tenants (policy_epoch);

CREATE TABLE policy_epochs (
    singleton INTEGER PRIMARY KEY DEFAULT 1 CHECK (singleton = 1),
    value     INTEGER NOT NULL
) STRICT;
INSERT INTO policy_epochs (value) VALUES (0);

CREATE TABLE users (
    id            BLOB PRIMARY KEY,
    -- Lower-cased address; people type it in any case.
    email         TEXT NOT NULL UNIQUE,
    name          TEXT NOT NULL,
    password_hash TEXT,
    status        TEXT NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'inactive')),
    created_at    INTEGER NOT NULL,
    last_login_at INTEGER
) STRICT;

CREATE TABLE memberships (
    tenant_id  BLOB NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    user_id    BLOB NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, user_id)
) STRICT;
CREATE INDEX memberships_user ON memberships (user_id);

CREATE TABLE roles (
    tenant_id   BLOB NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    id          BLOB NOT NULL,
    name        TEXT NOT NULL,
    description TEXT NOT NULL DEFAULT '',
    -- A system role comes with the tenant and cannot be changed or deleted.
    is_system   INTEGER NOT NULL DEFAULT 0,
    -- The role whose permissions this one includes.
    parent_id   BLOB,
    created_at  INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, name),
    FOREIGN KEY (tenant_id, parent_id) REFERENCES roles (tenant_id, id)
) STRICT;

CREATE TABLE role_assignments (
    tenant_id  BLOB NOT NULL,
    user_id    BLOB NOT NULL,
    role_id    BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, user_id, role_id),
    FOREIGN KEY (tenant_id, user_id) REFERENCES memberships (tenant_id, user_id) ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, role_id) REFERENCES roles (tenant_id, id)
) STRICT;
CREATE INDEX role_assignments_role ON role_assignments (tenant_id, role_id);

CREATE TABLE policy_rules (
    tenant_id BLOB NOT NULL,
    id        BLOB NOT NULL,
    role_id   BLOB NOT NULL,
    -- A module's name or '*'.
    module    TEXT NOT NULL,
    -- An action's name or '*'.
    action    TEXT NOT NULL,
    row_scope TEXT NOT NULL DEFAULT 'all' CHECK (row_scope IN ('all', 'own')),
    effect    TEXT NOT NULL DEFAULT 'allow' CHECK (effect IN ('allow', 'deny')),
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, role_id, module, action, row_scope, effect),
    FOREIGN KEY (tenant_id, role_id) REFERENCES roles (tenant_id, id) ON DELETE CASCADE
) STRICT;

-- One family per login; reuse of a spent token revokes the whole family.
CREATE TABLE refresh_families (
    id         BLOB PRIMARY KEY,
    tenant_id  BLOB NOT NULL,
    user_id    BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    revoked_at INTEGER,
    FOREIGN KEY (tenant_id, user_id) REFERENCES memberships (tenant_id, user_id) ON DELETE CASCADE
) STRICT;
CREATE INDEX refresh_families_member ON refresh_families (tenant_id, user_id);

CREATE TABLE refresh_tokens (
    -- SHA-256 of the token; the token itself is never stored.
    hash       BLOB PRIMARY KEY,
    family_id  BLOB NOT NULL REFERENCES refresh_families (id) ON DELETE CASCADE,
    -- 0 for the token of the login, then one more with each rotation.
    generation INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    used_at    INTEGER,
    -- A token has one successor.
    UNIQUE (family_id, generation)
) STRICT;

CREATE TABLE api_keys (
    tenant_id    BLOB NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    id           BLOB NOT NULL,
    name         TEXT NOT NULL,
    -- First characters, to recognise a key in a list.
    prefix       TEXT NOT NULL,
    -- SHA-256 of the key; the key itself is never stored.
    hash         BLOB NOT NULL UNIQUE,
    role_id      BLOB NOT NULL,
    created_by   TEXT NOT NULL,
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER,
    last_used_at INTEGER,
    revoked_at   INTEGER,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, role_id) REFERENCES roles (tenant_id, id)
) STRICT;

-- The single-use secret that lets the first user in: at most one.
CREATE TABLE setup_tokens (
    place      INTEGER PRIMARY KEY CHECK (place = 1),
    -- SHA-256 of the token; the token itself is never stored.
    hash       BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    used_at    INTEGER
) STRICT;

-- The declarations whose tables exist in this database.
CREATE TABLE modules (
    name       TEXT PRIMARY KEY,
    spec       TEXT NOT NULL,
    applied_at INTEGER NOT NULL
) STRICT;

CREATE TABLE audit_log (
    tenant_id   BLOB NOT NULL,
    id          BLOB NOT NULL,
    occurred_at INTEGER NOT NULL,
    -- user:<id>, api_key:<id>, plugin:<id> or operator.
    actor       TEXT NOT NULL,
    -- module.action, such as contacts.update or auth.login.
    action      TEXT NOT NULL,
    entity      TEXT NOT NULL,
    entity_id   TEXT,
    before      TEXT,
    after       TEXT,
    request_id  TEXT NOT NULL,
    address     TEXT,
    PRIMARY KEY (tenant_id, id)
) STRICT;
CREATE INDEX audit_log_entity ON audit_log (tenant_id, entity, entity_id, id);

CREATE TABLE outbox (
    sequence      INTEGER PRIMARY KEY AUTOINCREMENT,
    id            BLOB NOT NULL,
    tenant_id     BLOB NOT NULL,
    module        TEXT NOT NULL,
    kind          TEXT NOT NULL,
    record_id     BLOB NOT NULL,
    before        TEXT,
    after         TEXT,
    actor         TEXT NOT NULL,
    request_id    TEXT NOT NULL,
    root_id       BLOB NOT NULL,
    depth         INTEGER NOT NULL,
    occurred_at   INTEGER NOT NULL,
    dispatched_at INTEGER
) STRICT;
CREATE INDEX outbox_pending ON outbox (tenant_id, sequence) WHERE dispatched_at IS NULL;

-- Work that only one process may do at a time, such as dispatching the outbox.
CREATE TABLE leases (
    name       TEXT PRIMARY KEY,
    holder     BLOB NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;

CREATE TABLE plugins (
    tenant_id    BLOB NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    id           BLOB NOT NULL,
    name         TEXT NOT NULL,
    version      TEXT NOT NULL,
    -- The manifest carried inside the component, as JSON.
    manifest     TEXT NOT NULL,
    sha256       BLOB NOT NULL,
    status       TEXT NOT NULL DEFAULT 'uploaded' CHECK (status IN ('uploaded', 'enabled', 'disabled')),
    -- The user whose rights bound the plugin's, or null when an operator installed it.
    installed_by BLOB,
    created_at   INTEGER NOT NULL,
    enabled_at   INTEGER,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, name)
) STRICT;

-- Component bytes, shared by all tenants that installed the same ones.
CREATE TABLE plugin_components (
    sha256     BLOB PRIMARY KEY,
    component  BLOB NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE plugin_runs (
    tenant_id   BLOB NOT NULL,
    id          BLOB NOT NULL,
    plugin_id   BLOB NOT NULL,
    event_id    BLOB,
    -- What started it, such as contact.created.
    trigger     TEXT NOT NULL,
    outcome     TEXT NOT NULL,
    -- A sentence on what went wrong; null when the run succeeded.
    error       TEXT,
    fuel        INTEGER NOT NULL,
    duration_us INTEGER NOT NULL,
    host_calls  INTEGER NOT NULL,
    logs        TEXT NOT NULL,
    started_at  INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, plugin_id) REFERENCES plugins (tenant_id, id) ON DELETE CASCADE
) STRICT;
CREATE UNIQUE INDEX plugin_runs_event ON plugin_runs (tenant_id, plugin_id, event_id);
