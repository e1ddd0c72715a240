-- How many records a tenant has of a module, where somebody counts many of them again and again.
-- Kept with every write on SQLite, whose writes are one after the other; unused on PostgreSQL, where
-- the creates of a tenant would wait for each other.

CREATE TABLE record_counts (
    tenant_id BLOB NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    module    TEXT NOT NULL,
    count     INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, module)
) STRICT;
