CREATE TABLE policy_rules_old (
    tenant_id BLOB NOT NULL,
    id        BLOB NOT NULL,
    role_id   BLOB NOT NULL,
    -- A module's name or '*'.
    module    TEXT NOT NULL,
    -- An action's name or '*'.
    action    TEXT NOT NULL,
    row_scope TEXT NOT NULL DEFAULT 'all' CHECK (row_scope IN ('all', 'own')),
    effect    TEXT NOT NULL DEFAULT 'allow' CHECK (effect IN ('allow', 'deny')),
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, role_id, module, action, row_scope, effect),
    FOREIGN KEY (tenant_id, role_id) REFERENCES roles (tenant_id, id) ON DELETE CASCADE
) STRICT;
INSERT INTO policy_rules_old (tenant_id, id, role_id, module, action, row_scope, effect)
SELECT tenant_id, id, role_id, module, action, row_scope, effect FROM policy_rules
WHERE row_scope IN ('all', 'own') AND condition = '';
DROP TABLE policy_rules;
ALTER TABLE policy_rules_old RENAME TO policy_rules;
DELETE FROM role_assignments WHERE until IS NOT NULL;
ALTER TABLE role_assignments DROP COLUMN until;
DROP TABLE user_group_records;
DROP TABLE user_group_roles;
DROP TABLE user_group_members;
DROP TABLE user_groups;
