-- What is left of a tenant that was erased: no name, no data, the end of its audit chain.

CREATE TABLE erased_tenants (
    id         BLOB PRIMARY KEY,
    created_at INTEGER NOT NULL,
    -- When the erasure began, and when nothing was left.
    begun_at   INTEGER NOT NULL,
    erased_at  INTEGER,
    request_id TEXT NOT NULL,
    -- The number and hash that its audit chain ended with.
    sequence   INTEGER NOT NULL,
    hash       BLOB NOT NULL
) STRICT;
