-- Answers to requests that carry an Idempotency-Key, kept for a day.

CREATE TABLE idempotency_keys (
    tenant_id       uuid NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    actor           text NOT NULL,
    idempotency_key text NOT NULL,
    -- SHA-256 of what was asked.
    fingerprint     bytea NOT NULL,
    created_at      timestamptz NOT NULL,
    -- The answer; absent only inside the transaction that makes it.
    status          bigint,
    record_id       uuid,
    version         bigint,
    body            text,
    PRIMARY KEY (tenant_id, actor, idempotency_key)
);
CREATE INDEX idempotency_keys_age ON idempotency_keys (tenant_id, created_at);
