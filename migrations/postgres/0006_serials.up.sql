-- The next number of each serial field, by tenant and module.

CREATE TABLE serials (
    tenant_id uuid NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    module    text NOT NULL,
    field     text NOT NULL,
    next      bigint NOT NULL CHECK (next >= 1),
    PRIMARY KEY (tenant_id, module, field)
);
