-- The library's own tables. Every unique and foreign key of tenant data starts with tenant_id.

CREATE TABLE tenants (
    id           uuid PRIMARY KEY,
    name         text NOT NULL UNIQUE,
    status       text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended')),
    -- Taken from policy_epochs with every change of a role, rule or assignment of this tenant.
    policy_epoch bigint NOT NULL DEFAULT 0,
    created_at   timestamptz NOT NULL
);
CREATE INDEX tenants_policy_epoch ON tenants (policy_epoch);

CREATE TABLE policy_epochs (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton = true),
    value     bigint NOT NULL
);
INSERT INTO policy_epochs (value) VALUES (0);

CREATE TABLE users (
    id            uuid PRIMARY KEY,
    -- Lower-cased address; people type it in any case.
    email         text NOT NULL UNIQUE,
    name          text NOT NULL,
    password_hash text,
    status        text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'inactive')),
    created_at    timestamptz NOT NULL,
    last_login_at timestamptz
);

CREATE TABLE memberships (
    tenant_id  uuid NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    user_id    uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, user_id)
);
CREATE INDEX memberships_user ON memberships (user_id);

CREATE TABLE roles (
    tenant_id   uuid NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    id          uuid NOT NULL,
    name        text NOT NULL,
    description text NOT NULL DEFAULT '',
    -- A system role comes with the tenant and cannot be changed or deleted.
    is_system   boolean NOT NULL DEFAULT false,
    -- The role whose permissions this one includes.
    parent_id   uuid,
    created_at  timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, name),
    FOREIGN KEY (tenant_id, parent_id) REFERENCES roles (tenant_id, id)
);

CREATE TABLE role_assignments (
    tenant_id  uuid NOT NULL,
    user_id    uuid NOT NULL,
    role_id    uuid NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, user_id, role_id),
    FOREIGN KEY (tenant_id, user_id) REFERENCES memberships (tenant_id, user_id) ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, role_id) REFERENCES roles (tenant_id, id)
);
CREATE INDEX role_assignments_role ON role_assignments (tenant_id, role_id);

CREATE TABLE policy_rules (
    tenant_id uuid NOT NULL,
    id        uuid NOT NULL,
    role_id   uuid NOT NULL,
    -- A module's name or '*'.
    module    text NOT NULL,
    -- An action's name or '*'.
    action    text NOT NULL,
    row_scope text NOT NULL DEFAULT 'all' CHECK (row_scope IN ('all', 'own')),
    effect    text NOT NULL DEFAULT 'allow' CHECK (effect IN ('allow', 'deny')),
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, role_id, module, action, row_scope, effect),
    FOREIGN KEY (tenant_id, role_id) REFERENCES roles (tenant_id, id) ON DELETE CASCADE
);

-- One family per login; reuse of a spent token revokes the whole family.
CREATE TABLE refresh_families (
    id         uuid PRIMARY KEY,
    tenant_id  uuid NOT NULL,
    user_id    uuid NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz,
    FOREIGN KEY (tenant_id, user_id) REFERENCES memberships (tenant_id, user_id) ON DELETE CASCADE
);
CREATE INDEX refresh_families_member ON refresh_families (tenant_id, user_id);

CREATE TABLE refresh_tokens (
    -- SHA-256 of the token; the token itself is never stored.
    hash       bytea PRIMARY KEY,
    family_id  uuid NOT NULL REFERENCES refresh_families (id) ON DELETE CASCADE,
    -- 0 for the token of the login, then one more with each rotation.
    generation bigint NOT NULL,
    created_at timestamptz NOT NULL,
    used_at    timestamptz,
    -- A token has one successor.
    UNIQUE (family_id, generation)
);

CREATE TABLE api_keys (
    tenant_id    uuid NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    id           uuid NOT NULL,
    name         text NOT NULL,
    -- First characters, to recognise a key in a list.
    prefix       text NOT NULL,
    -- SHA-256 of the key; the key itself is never stored.
    hash         bytea NOT NULL UNIQUE,
    role_id      uuid NOT NULL,
    created_by   text NOT NULL,
    created_at   timestamptz NOT NULL,
    expires_at   timestamptz,
    last_used_at timestamptz,
    revoked_at   timestamptz,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, role_id) REFERENCES roles (tenant_id, id)
);

-- The single-use secret that lets the first user in: at most one.
CREATE TABLE setup_tokens (
    place      bigint PRIMARY KEY CHECK (place = 1),
    -- SHA-256 of the token; the token itself is never stored.
    hash       bytea NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    used_at    timestamptz
);

-- The declarations whose tables exist in this database.
CREATE TABLE modules (
    name       text PRIMARY KEY,
    spec       text NOT NULL,
    applied_at timestamptz NOT NULL
);

CREATE TABLE audit_log (
    tenant_id   uuid NOT NULL,
    id          uuid NOT NULL,
    occurred_at timestamptz NOT NULL,
    -- user:<id>, api_key:<id>, plugin:<id> or operator.
    actor       text NOT NULL,
    -- module.action, such as contacts.update or auth.login.
    action      text NOT NULL,
    entity      text NOT NULL,
    entity_id   text,
    before      jsonb,
    after       jsonb,
    request_id  text NOT NULL,
    address     text,
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX audit_log_entity ON audit_log (tenant_id, entity, entity_id, id);

CREATE TABLE outbox (
    sequence      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id            uuid NOT NULL,
    tenant_id     uuid NOT NULL,
    module        text NOT NULL,
    kind          text NOT NULL,
    record_id     uuid NOT NULL,
    before        jsonb,
    after         jsonb,
    actor         text NOT NULL,
    request_id    text NOT NULL,
    root_id       uuid NOT NULL,
    depth         bigint NOT NULL,
    occurred_at   timestamptz NOT NULL,
    dispatched_at timestamptz
);
CREATE INDEX outbox_pending ON outbox (tenant_id, sequence) WHERE dispatched_at IS NULL;

-- Work that only one process may do at a time, such as dispatching the outbox.
CREATE TABLE leases (
    name       text PRIMARY KEY,
    holder     uuid NOT NULL,
    expires_at timestamptz NOT NULL
);

CREATE TABLE plugins (
    tenant_id    uuid NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    id           uuid NOT NULL,
    name         text NOT NULL,
    version      text NOT NULL,
    -- The manifest carried inside the component, as JSON.
    manifest     jsonb NOT NULL,
    sha256       bytea NOT NULL,
    status       text NOT NULL DEFAULT 'uploaded' CHECK (status IN ('uploaded', 'enabled', 'disabled')),
    -- The user whose rights bound the plugin's, or null when an operator installed it.
    installed_by uuid,
    created_at   timestamptz NOT NULL,
    enabled_at   timestamptz,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, name)
);

-- Component bytes, shared by all tenants that installed the same ones.
CREATE TABLE plugin_components (
    sha256     bytea PRIMARY KEY,
    component  bytea NOT NULL,
    created_at timestamptz NOT NULL
);

CREATE TABLE plugin_runs (
    tenant_id   uuid NOT NULL,
    id          uuid NOT NULL,
    plugin_id   uuid NOT NULL,
    event_id    uuid,
    -- What started it, such as contact.created.
    trigger     text NOT NULL,
    outcome     text NOT NULL,
    -- A sentence on what went wrong; null when the run succeeded.
    error       text,
    fuel        bigint NOT NULL,
    duration_us bigint NOT NULL,
    host_calls  bigint NOT NULL,
    logs        jsonb NOT NULL,
    started_at  timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, plugin_id) REFERENCES plugins (tenant_id, id) ON DELETE CASCADE
);
CREATE UNIQUE INDEX plugin_runs_event ON plugin_runs (tenant_id, plugin_id, event_id);
