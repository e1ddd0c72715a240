-- Fields and modules that tenants declare for themselves.

CREATE TABLE custom_modules (
    tenant_id   BLOB NOT NULL REFERENCES tenants (id) ON DELETE RESTRICT,
    name        TEXT NOT NULL,
    singular    TEXT NOT NULL,
    description TEXT NOT NULL,
    created_at  INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, name),
    UNIQUE (tenant_id, singular)
) STRICT;

CREATE TABLE custom_fields (
    tenant_id   BLOB NOT NULL REFERENCES tenants (id) ON DELETE RESTRICT,
    module      TEXT NOT NULL,
    name        TEXT NOT NULL,
    -- What its values are kept under in a record, never given twice.
    number      INTEGER NOT NULL,
    -- As in a module's declaration, in JSON.
    declaration TEXT NOT NULL,
    -- Whether it has an index.
    indexed     INTEGER NOT NULL,
    created_at  INTEGER NOT NULL,
    -- Since when it is out of use; its values stay until they are purged.
    removed_at  INTEGER,
    PRIMARY KEY (tenant_id, module, name),
    UNIQUE (tenant_id, number)
) STRICT;
CREATE INDEX custom_fields_by_module ON custom_fields (module, name);

-- The records of modules that tenants declared.
CREATE TABLE custom_records (
    tenant_id  BLOB NOT NULL REFERENCES tenants (id) ON DELETE RESTRICT,
    module     TEXT NOT NULL,
    id         BLOB NOT NULL,
    version    INTEGER NOT NULL CHECK (version >= 1),
    owner_id   BLOB,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    custom     TEXT,
    PRIMARY KEY (tenant_id, module, id),
    FOREIGN KEY (tenant_id, module) REFERENCES custom_modules (tenant_id, name) ON DELETE RESTRICT
) STRICT;
CREATE INDEX custom_records_owner ON custom_records (tenant_id, module, owner_id, id);
CREATE INDEX custom_records_updated ON custom_records (tenant_id, module, updated_at, id);
