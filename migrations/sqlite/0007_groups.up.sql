-- Groups of users, assignments that end, and permissions with wider row scopes and conditions.

CREATE TABLE user_groups (
    tenant_id   BLOB NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    id          BLOB NOT NULL,
    name        TEXT NOT NULL,
    description TEXT NOT NULL DEFAULT '',
    created_at  INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, name)
) STRICT;

CREATE TABLE user_group_members (
    tenant_id  BLOB NOT NULL,
    group_id   BLOB NOT NULL,
    user_id    BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    -- The instant from which it holds no more; null for one without an end.
    until      INTEGER,
    PRIMARY KEY (tenant_id, group_id, user_id),
    FOREIGN KEY (tenant_id, group_id) REFERENCES user_groups (tenant_id, id) ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, user_id) REFERENCES memberships (tenant_id, user_id) ON DELETE CASCADE
) STRICT;
CREATE INDEX user_group_members_user ON user_group_members (tenant_id, user_id);

CREATE TABLE user_group_roles (
    tenant_id  BLOB NOT NULL,
    group_id   BLOB NOT NULL,
    role_id    BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, group_id, role_id),
    FOREIGN KEY (tenant_id, group_id) REFERENCES user_groups (tenant_id, id) ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, role_id) REFERENCES roles (tenant_id, id)
) STRICT;
CREATE INDEX user_group_roles_role ON user_group_roles (tenant_id, role_id);

-- The records that a group is in charge of, for permissions that reach over parents.
CREATE TABLE user_group_records (
    tenant_id  BLOB NOT NULL,
    group_id   BLOB NOT NULL,
    module     TEXT NOT NULL,
    record_id  BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, group_id, module, record_id),
    FOREIGN KEY (tenant_id, group_id) REFERENCES user_groups (tenant_id, id) ON DELETE CASCADE
) STRICT;

ALTER TABLE role_assignments ADD COLUMN until INTEGER;

CREATE TABLE policy_rules_new (
    tenant_id BLOB NOT NULL,
    id        BLOB NOT NULL,
    role_id   BLOB NOT NULL,
    -- A module's name, 'records' or '*'.
    module    TEXT NOT NULL,
    -- An action's name or '*'.
    action    TEXT NOT NULL,
    row_scope TEXT NOT NULL DEFAULT 'all' CHECK (row_scope IN ('all', 'team', 'parent', 'own')),
    effect    TEXT NOT NULL DEFAULT 'allow' CHECK (effect IN ('allow', 'deny')),
    -- A filter as JSON that rows must match; empty for none.
    condition TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, role_id, module, action, row_scope, effect, condition),
    FOREIGN KEY (tenant_id, role_id) REFERENCES roles (tenant_id, id) ON DELETE CASCADE
) STRICT;
INSERT INTO policy_rules_new (tenant_id, id, role_id, module, action, row_scope, effect)
SELECT tenant_id, id, role_id, module, action, row_scope, effect FROM policy_rules;
DROP TABLE policy_rules;
ALTER TABLE policy_rules_new RENAME TO policy_rules;
