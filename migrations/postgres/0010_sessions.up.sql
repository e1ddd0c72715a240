-- Sessions that their owner sees and ends, keys that sign access tokens, and failed logins.

-- Numbers the changes of sessions and signing keys, so that every process learns of them.
CREATE TABLE session_epochs (
    singleton bigint PRIMARY KEY DEFAULT 1 CHECK (singleton = 1),
    value     bigint NOT NULL
);
INSERT INTO session_epochs (value) VALUES (0);

CREATE TABLE families_new (
    id           uuid PRIMARY KEY,
    user_id      uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    -- The active tenant.
    tenant_id    uuid NOT NULL,
    -- Whether requests may name another tenant of the user's.
    roaming      boolean NOT NULL DEFAULT false,
    created_at   timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL,
    last_used_at timestamptz NOT NULL,
    -- Where it was last used from.
    address      text,
    user_agent   text,
    revoked_at   timestamptz,
    -- Taken from session_epochs when it ends or its tenant changes.
    changed      bigint NOT NULL DEFAULT 0,
    FOREIGN KEY (tenant_id, user_id) REFERENCES memberships (tenant_id, user_id) ON DELETE CASCADE
);
INSERT INTO families_new (id, user_id, tenant_id, created_at, expires_at, last_used_at, revoked_at)
    SELECT f.id, f.user_id, f.tenant_id, f.created_at, f.expires_at,
        coalesce((SELECT max(t.created_at) FROM refresh_tokens t WHERE t.family_id = f.id), f.created_at),
        f.revoked_at
    FROM refresh_families f;

CREATE TABLE tokens_new (
    -- SHA-256 of the token; the token itself is never stored.
    hash       bytea PRIMARY KEY,
    family_id  uuid NOT NULL REFERENCES families_new (id) ON DELETE CASCADE,
    -- 0 for the token of the login, then one more with each rotation.
    generation bigint NOT NULL,
    created_at timestamptz NOT NULL,
    used_at    timestamptz,
    -- A token has one successor.
    UNIQUE (family_id, generation)
);
INSERT INTO tokens_new SELECT hash, family_id, generation, created_at, used_at FROM refresh_tokens;

DROP TABLE refresh_tokens;
DROP TABLE refresh_families;
ALTER TABLE families_new RENAME TO refresh_families;
ALTER TABLE tokens_new RENAME TO refresh_tokens;
CREATE INDEX refresh_families_member ON refresh_families (tenant_id, user_id);
CREATE INDEX refresh_families_user ON refresh_families (user_id);
CREATE INDEX refresh_families_changed ON refresh_families (changed);

-- Which keys sign access tokens. The keys themselves follow from the operator's secret and the id.
CREATE TABLE signing_keys (
    id         uuid PRIMARY KEY,
    algorithm  text NOT NULL CHECK (algorithm IN ('HS256', 'EdDSA', 'ES256')),
    created_at timestamptz NOT NULL,
    -- From when on it signs, until one that begins later does.
    starts_at  timestamptz NOT NULL,
    -- Until when it verifies; null before there is a successor.
    ends_at    timestamptz,
    revoked_at timestamptz
);

-- Failed logins in a row, of known and unknown addresses alike.
CREATE TABLE login_failures (
    -- SHA-256 of the address.
    email_hash     bytea PRIMARY KEY,
    failures       bigint NOT NULL,
    last_failed_at timestamptz NOT NULL,
    locked_until   timestamptz
);
CREATE INDEX login_failures_age ON login_failures (last_failed_at);
