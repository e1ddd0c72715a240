-- Passkeys (Web Authentication): public keys whose private halves stay in users' devices.

-- What devices know a user by: random, so that it tells nothing.
CREATE TABLE passkey_handles (
    user_id uuid PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    handle  bytea NOT NULL UNIQUE
);

CREATE TABLE passkeys (
    id              uuid PRIMARY KEY,
    user_id         uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    -- SHA-256 of the credential's id, which has up to 1,023 bytes.
    credential_hash bytea NOT NULL UNIQUE,
    -- The credential as webauthn-rs writes it: id, public key, signature counter. Nothing in it is secret.
    credential      text NOT NULL,
    name            text NOT NULL,
    created_at      timestamptz NOT NULL,
    last_used_at    timestamptz
);
CREATE INDEX passkeys_user ON passkeys (user_id);

-- Registrations and logins whose device has not answered yet. Each is good for one answer.
CREATE TABLE passkey_ceremonies (
    -- SHA-256 of the token; the token itself is never stored.
    hash       bytea PRIMARY KEY,
    purpose    text NOT NULL CHECK (purpose IN ('register', 'login', 'second_factor')),
    -- Null for a login, which is of whoever answers.
    user_id    uuid REFERENCES users (id) ON DELETE CASCADE,
    -- The challenge, sealed under a key derived from the operator's secret.
    sealed     bytea NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX passkey_ceremonies_user ON passkey_ceremonies (user_id);
CREATE INDEX passkey_ceremonies_end ON passkey_ceremonies (expires_at);

-- Whether the session began with two factors.
ALTER TABLE refresh_families ADD COLUMN two_factors boolean NOT NULL DEFAULT false;
