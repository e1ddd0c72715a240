-- A name to log in with, beside the address; lower-cased, and never with an @ in it.
ALTER TABLE users ADD COLUMN username TEXT;
CREATE UNIQUE INDEX users_username ON users (username);
-- When the user showed that they read what is sent to their address.
ALTER TABLE users ADD COLUMN email_verified_at INTEGER;

-- Single-use links to a user's own account; using one removes it.
CREATE TABLE user_tokens (
    -- SHA-256 of the token; the token itself is never stored.
    hash       BLOB PRIMARY KEY,
    user_id    BLOB NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    purpose    TEXT NOT NULL CHECK (purpose IN ('reset_password', 'verify_email')),
    -- The address it was sent to.
    email      TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    UNIQUE (user_id, purpose)
) STRICT;

CREATE TABLE invitations (
    tenant_id  BLOB NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    id         BLOB NOT NULL,
    email      TEXT NOT NULL,
    name       TEXT NOT NULL,
    -- The ids of the roles, as a JSON list.
    roles      TEXT NOT NULL,
    -- SHA-256 of the token; the token itself is never stored.
    hash       BLOB NOT NULL UNIQUE,
    invited_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, email)
) STRICT;

-- Mails that wait to be sent; a sent one is removed.
CREATE TABLE mails (
    id         BLOB PRIMARY KEY,
    -- Recipient and text, sealed: they carry single-use links.
    sealed     BLOB NOT NULL,
    attempts   INTEGER NOT NULL,
    next_at    INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;
CREATE INDEX mails_next ON mails (next_at);
