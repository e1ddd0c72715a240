-- The hash chain of each tenant's audit log: entries wait until they are sealed, some at a time.

CREATE TABLE audit_unsealed (
    sequence  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id uuid NOT NULL,
    entry_id  uuid NOT NULL
);
INSERT INTO audit_unsealed (tenant_id, entry_id) SELECT tenant_id, id FROM audit_log ORDER BY id;

CREATE TABLE audit_seals (
    tenant_id uuid NOT NULL,
    -- The number of its last entry, counted from 1 in each tenant.
    sequence  bigint NOT NULL,
    entries   bigint NOT NULL CHECK (entries >= 1),
    -- The ids and digests of its entries; null in a checkpoint, whose entries are pruned.
    members   bytea,
    -- The latest time of its entries.
    newest_at timestamptz NOT NULL,
    sealed_at timestamptz NOT NULL,
    -- SHA-256 over the hash of the seal before and all of the above.
    hash      bytea NOT NULL,
    PRIMARY KEY (tenant_id, sequence)
);

-- Since when an entry's before and after are erased; their digest stays in the seal.
ALTER TABLE audit_log ADD COLUMN erased_at timestamptz;
