-- The platform: its operators, acting in another's name, and what a tenant settles for itself.

-- Stands for no tenant: operators are its members, and its audit log is the installation's. A space
-- begins its name, as no tenant's does. Operators log in with a second factor unless set otherwise.
INSERT INTO tenants (id, name, created_at, requires_second_factor)
VALUES ('00000000-0000-0000-0000-000000000000', ' platform', '1970-01-01 00:00:00+00', true);

CREATE TABLE operators (
    -- The platform.
    tenant_id   uuid NOT NULL,
    user_id     uuid NOT NULL,
    -- What they may do on the platform, as a JSON list.
    permissions jsonb NOT NULL,
    created_by  text NOT NULL,
    created_at  timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, user_id),
    FOREIGN KEY (tenant_id, user_id) REFERENCES memberships (tenant_id, user_id) ON DELETE CASCADE
);

-- A session in which another user acts in its user's name: who does, ...
ALTER TABLE refresh_families ADD COLUMN impersonator_id uuid REFERENCES users (id) ON DELETE CASCADE;
-- ... as a member of which tenant, or of the platform, ...
ALTER TABLE refresh_families ADD COLUMN home_id uuid;
-- ... the session of theirs in which it began, ...
ALTER TABLE refresh_families ADD COLUMN parent_id uuid REFERENCES refresh_families (id) ON DELETE CASCADE;
-- ... and why.
ALTER TABLE refresh_families ADD COLUMN reason text;
CREATE INDEX refresh_families_parent ON refresh_families (parent_id) WHERE parent_id IS NOT NULL;
CREATE INDEX refresh_families_impersonator ON refresh_families (impersonator_id)
    WHERE impersonator_id IS NOT NULL;

-- Who acted in the actor's name.
ALTER TABLE audit_log ADD COLUMN impersonator text;

-- Whose queue a mail waits in; null for those about a person's own account.
ALTER TABLE mails ADD COLUMN tenant_id uuid REFERENCES tenants (id) ON DELETE CASCADE;
CREATE INDEX mails_tenant ON mails (tenant_id);

CREATE TABLE tenant_settings (
    tenant_id              uuid PRIMARY KEY REFERENCES tenants (id) ON DELETE CASCADE,
    -- Whether operators may act in a member's name.
    operator_impersonation boolean NOT NULL,
    -- What new passwords of members must be beyond the installation's rules, as JSON.
    password_policy        jsonb
);
