-- The hash chain of each tenant's audit log: entries wait until they are sealed, some at a time.

CREATE TABLE audit_unsealed (
    sequence  INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_id BLOB NOT NULL,
    entry_id  BLOB NOT NULL
) STRICT;
INSERT INTO audit_unsealed (tenant_id, entry_id) SELECT tenant_id, id FROM audit_log ORDER BY id;

CREATE TABLE audit_seals (
    tenant_id BLOB NOT NULL,
    -- The number of its last entry, counted from 1 in each tenant.
    sequence  INTEGER NOT NULL,
    entries   INTEGER NOT NULL CHECK (entries >= 1),
    -- The ids and digests of its entries; null in a checkpoint, whose entries are pruned.
    members   BLOB,
    -- The latest time of its entries.
    newest_at INTEGER NOT NULL,
    sealed_at INTEGER NOT NULL,
    -- SHA-256 over the hash of the seal before and all of the above.
    hash      BLOB NOT NULL,
    PRIMARY KEY (tenant_id, sequence)
) STRICT;

-- Since when an entry's before and after are erased; their digest stays in the seal.
ALTER TABLE audit_log ADD COLUMN erased_at INTEGER;
