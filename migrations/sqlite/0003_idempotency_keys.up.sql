-- Answers to requests that carry an Idempotency-Key, kept for a day.

CREATE TABLE idempotency_keys (
    tenant_id       BLOB NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    actor           TEXT NOT NULL,
    idempotency_key TEXT NOT NULL,
    -- SHA-256 of what was asked.
    fingerprint     BLOB NOT NULL,
    created_at      INTEGER NOT NULL,
    -- The answer; absent only inside the transaction that makes it.
    status          INTEGER,
    record_id       BLOB,
    version         INTEGER,
    body            TEXT,
    PRIMARY KEY (tenant_id, actor, idempotency_key)
) STRICT;
CREATE INDEX idempotency_keys_age ON idempotency_keys (tenant_id, created_at);
