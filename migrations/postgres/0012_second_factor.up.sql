-- Time-based codes (RFC 6238) as the second factor of a login.
CREATE TABLE totp_factors (
    user_id      uuid PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    -- The secret, sealed under a key derived from the operator's.
    sealed       bytea NOT NULL,
    -- Null until a first code has shown that the user's device has the secret.
    confirmed_at timestamptz,
    -- The latest time step whose code was used: it and those before are refused.
    last_step    bigint NOT NULL DEFAULT 0,
    created_at   timestamptz NOT NULL
);

CREATE TABLE recovery_codes (
    user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    -- SHA-256 of the code; the code itself is never stored. A used one is removed.
    hash    bytea NOT NULL,
    PRIMARY KEY (user_id, hash)
);

-- Logins whose password was right and whose second factor is awaited.
CREATE TABLE login_challenges (
    -- SHA-256 of the token; the token itself is never stored.
    hash       bytea PRIMARY KEY,
    tenant_id  uuid NOT NULL,
    user_id    uuid NOT NULL,
    attempts   bigint NOT NULL DEFAULT 0,
    expires_at timestamptz NOT NULL,
    FOREIGN KEY (tenant_id, user_id) REFERENCES memberships (tenant_id, user_id) ON DELETE CASCADE
);
CREATE INDEX login_challenges_member ON login_challenges (tenant_id, user_id);

-- Whether the tenant lets members in only with a second factor.
ALTER TABLE tenants ADD COLUMN requires_second_factor boolean NOT NULL DEFAULT false;
