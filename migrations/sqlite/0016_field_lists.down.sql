ALTER TABLE audit_log DROP COLUMN rule;
CREATE TABLE policy_rules_old (
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
-- A permission on some fields would become one on all of them.
INSERT INTO policy_rules_old
    (tenant_id, id, role_id, module, action, row_scope, effect, condition)
SELECT tenant_id, id, role_id, module, action, row_scope, effect, condition FROM policy_rules
WHERE fields = '';
DROP TABLE policy_rules;
ALTER TABLE policy_rules_old RENAME TO policy_rules;
