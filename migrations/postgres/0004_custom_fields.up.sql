-- Fields and modules that tenants declare for themselves.

CREATE TABLE custom_modules (
    tenant_id   uuid NOT NULL REFERENCES tenants (id) ON DELETE RESTRICT,
    name        text NOT NULL,
    singular    text NOT NULL,
    description text NOT NULL,
    created_at  timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, name),
    UNIQUE (tenant_id, singular)
);

CREATE TABLE custom_fields (
    tenant_id   uuid NOT NULL REFERENCES tenants (id) ON DELETE RESTRICT,
    module      text NOT NULL,
    name        text NOT NULL,
    -- What its values are kept under in a record, never given twice.
    number      bigint NOT NULL,
    -- As in a module's declaration, in JSON.
    declaration text NOT NULL,
    -- Whether it has an index.
    indexed     boolean NOT NULL,
    created_at  timestamptz NOT NULL,
    -- Since when it is out of use; its values stay until they are purged.
    removed_at  timestamptz,
    PRIMARY KEY (tenant_id, module, name),
    UNIQUE (tenant_id, number)
);
CREATE INDEX custom_fields_by_module ON custom_fields (module, name);

-- The records of modules that tenants declared.
CREATE TABLE custom_records (
    tenant_id  uuid NOT NULL REFERENCES tenants (id) ON DELETE RESTRICT,
    module     text NOT NULL,
    id         uuid NOT NULL,
    version    bigint NOT NULL CHECK (version >= 1),
    owner_id   uuid,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    custom     jsonb,
    PRIMARY KEY (tenant_id, module, id),
    FOREIGN KEY (tenant_id, module) REFERENCES custom_modules (tenant_id, name) ON DELETE RESTRICT
);
CREATE INDEX custom_records_owner ON custom_records (tenant_id, module, owner_id, id);
CREATE INDEX custom_records_updated ON custom_records (tenant_id, module, updated_at, id);
