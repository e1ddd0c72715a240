-- A name to log in with, beside the address; lower-cased, and never with an @ in it.
ALTER TABLE users ADD COLUMN username text;
CREATE UNIQUE INDEX users_username ON users (username);
-- When the user showed that they read what is sent to their address.
ALTER TABLE users ADD COLUMN email_verified_at timestamptz;

-- Single-use links to a user's own account; using one removes it.
CREATE TABLE user_tokens (
    -- SHA-256 of the token; the token itself is never stored.
    hash       bytea PRIMARY KEY,
    user_id    uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    purpose    text NOT NULL CHECK (purpose IN ('reset_password', 'verify_email')),
    -- The address it was sent to.
    email      text NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    UNIQUE (user_id, purpose)
);

CREATE TABLE invitations (
    tenant_id  uuid NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    id         uuid NOT NULL,
    email      text NOT NULL,
    name       text NOT NULL,
    -- The ids of the roles, as a JSON list.
    roles      jsonb NOT NULL,
    -- SHA-256 of the token; the token itself is never stored.
    hash       bytea NOT NULL UNIQUE,
    invited_by text NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, email)
);

-- Mails that wait to be sent; a sent one is removed.
CREATE TABLE mails (
    id         uuid PRIMARY KEY,
    -- Recipient and text, sealed: they carry single-use links.
    sealed     bytea NOT NULL,
    attempts   bigint NOT NULL,
    next_at    timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX mails_next ON mails (next_at);
