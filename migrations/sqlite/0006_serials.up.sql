-- The next number of each serial field, by tenant and module.

CREATE TABLE serials (
    tenant_id BLOB NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    module    TEXT NOT NULL,
    field     TEXT NOT NULL,
    next      INTEGER NOT NULL CHECK (next >= 1),
    PRIMARY KEY (tenant_id, module, field)
) STRICT;
