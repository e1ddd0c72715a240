-- Registrations that wait for the link of their mail; using it removes the row.
CREATE TABLE pending_registrations (
    -- SHA-256 of the token; the token itself is never stored.
    hash       bytea PRIMARY KEY,
    -- Whose it is, unreadable: one of each address.
    address    bytea NOT NULL UNIQUE,
    -- Tenant, address, name and the hash of the password, sealed.
    sealed     bytea NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX pending_registrations_end ON pending_registrations (expires_at);

-- Whether the login is for the tenant; others choose one after the second factor, and until then it is
-- any of the user's.
ALTER TABLE login_challenges ADD COLUMN chosen boolean NOT NULL DEFAULT true;
-- How the second factor was passed, while the tenant is to be chosen.
ALTER TABLE login_challenges ADD COLUMN passed text;
