-- The platform: its operators, acting in another's name, and what a tenant settles for itself.

-- Stands for no tenant: operators are its members, and its audit log is the installation's. A space
-- begins its name, as no tenant's does. Operators log in with a second factor unless set otherwise.
INSERT INTO tenants (id, name, created_at, requires_second_factor)
VALUES (zeroblob(16), ' platform', 0, 1);

CREATE TABLE operators (
    -- The platform.
    tenant_id   BLOB NOT NULL,
    user_id     BLOB NOT NULL,
    -- What they may do on the platform, as a JSON list.
    permissions TEXT NOT NULL,
    created_by  TEXT NOT NULL,
    created_at  INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, user_id),
    FOREIGN KEY (tenant_id, user_id) REFERENCES memberships (tenant_id, user_id) ON DELETE CASCADE
) STRICT;

-- A session in which another user acts in its user's name: who does, ...
ALTER TABLE refresh_families ADD COLUMN impersonator_id BLOB REFERENCES users (id) ON DELETE CASCADE;
-- ... as a member of which tenant, or of the platform, ...
ALTER TABLE refresh_families ADD COLUMN home_id BLOB;
-- ... the session of theirs in which it began, ...
ALTER TABLE refresh_families ADD COLUMN parent_id BLOB REFERENCES refresh_families (id) ON DELETE CASCADE;
-- ... and why.
ALTER TABLE refresh_families ADD COLUMN reason TEXT;
CREATE INDEX refresh_families_parent ON refresh_families (parent_id) WHERE parent_id IS NOT NULL;
CREATE INDEX refresh_families_impersonator ON refresh_families (impersonator_id)
    WHERE impersonator_id IS NOT NULL;

-- Who acted in the actor's name.
ALTER TABLE audit_log ADD COLUMN impersonator TEXT;

-- Whose queue a mail waits in; null for those about a person's own account.
ALTER TABLE mails ADD COLUMN tenant_id BLOB REFERENCES tenants (id) ON DELETE CASCADE;
CREATE INDEX mails_tenant ON mails (tenant_id);

CREATE TABLE tenant_settings (
    tenant_id              BLOB PRIMARY KEY REFERENCES tenants (id) ON DELETE CASCADE,
    -- Whether operators may act in a member's name.
    operator_impersonation INTEGER NOT NULL,
    -- What new passwords of members must be beyond the installation's rules, as JSON.
    password_policy        TEXT
) STRICT;
