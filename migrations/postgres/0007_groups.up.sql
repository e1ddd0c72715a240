-- Groups of users, assignments that end, and permissions with wider row scopes and conditions.

CREATE TABLE user_groups (
    tenant_id   uuid NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    id          uuid NOT NULL,
    name        text NOT NULL,
    description text NOT NULL DEFAULT '',
    created_at  timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, name)
);

CREATE TABLE user_group_members (
    tenant_id  uuid NOT NULL,
    group_id   uuid NOT NULL,
    user_id    uuid NOT NULL,
    created_at timestamptz NOT NULL,
    -- The instant from which it holds no more; null for one without an end.
    until      timestamptz,
    PRIMARY KEY (tenant_id, group_id, user_id),
    FOREIGN KEY (tenant_id, group_id) REFERENCES user_groups (tenant_id, id) ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, user_id) REFERENCES memberships (tenant_id, user_id) ON DELETE CASCADE
);
CREATE INDEX user_group_members_user ON user_group_members (tenant_id, user_id);

CREATE TABLE user_group_roles (
    tenant_id  uuid NOT NULL,
    group_id   uuid NOT NULL,
    role_id    uuid NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, group_id, role_id),
    FOREIGN KEY (tenant_id, group_id) REFERENCES user_groups (tenant_id, id) ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, role_id) REFERENCES roles (tenant_id, id)
);
CREATE INDEX user_group_roles_role ON user_group_roles (tenant_id, role_id);

-- The records that a group is in charge of, for permissions that reach over parents.
CREATE TABLE user_group_records (
    tenant_id  uuid NOT NULL,
    group_id   uuid NOT NULL,
    module     text NOT NULL,
    record_id  uuid NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, group_id, module, record_id),
    FOREIGN KEY (tenant_id, group_id) REFERENCES user_groups (tenant_id, id) ON DELETE CASCADE
);

ALTER TABLE role_assignments ADD COLUMN until timestamptz;

ALTER TABLE policy_rules ADD COLUMN condition text NOT NULL DEFAULT '';
ALTER TABLE policy_rules DROP CONSTRAINT policy_rules_row_scope_check;
ALTER TABLE policy_rules ADD CONSTRAINT policy_rules_row_scope_check
    CHECK (row_scope IN ('all', 'team', 'parent', 'own'));
ALTER TABLE policy_rules
    DROP CONSTRAINT policy_rules_tenant_id_role_id_module_action_row_scope_effe_key;
CREATE UNIQUE INDEX policy_rules_unique ON policy_rules
    (tenant_id, role_id, module, action, row_scope, effect, md5(condition));
