-- What is left of a tenant that was erased: no name, no data, the end of its audit chain.

CREATE TABLE erased_tenants (
    id         uuid PRIMARY KEY,
    created_at timestamptz NOT NULL,
    -- When the erasure began, and when nothing was left.
    begun_at   timestamptz NOT NULL,
    erased_at  timestamptz,
    request_id text NOT NULL,
    -- The number and hash that its audit chain ended with.
    sequence   bigint NOT NULL,
    hash       bytea NOT NULL
);
