-- Permissions limited to some fields of a record, and the rule by which an audited act was allowed.

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
    -- Names of fields separated by commas: the only ones, or behind a '!' all but these; empty for
    -- all fields.
    fields    TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, role_id, module, action, row_scope, effect, condition, fields),
    FOREIGN KEY (tenant_id, role_id) REFERENCES roles (tenant_id, id) ON DELETE CASCADE
) STRICT;
INSERT INTO policy_rules_new
    (tenant_id, id, role_id, module, action, row_scope, effect, condition)
SELECT tenant_id, id, role_id, module, action, row_scope, effect, condition FROM policy_rules;
DROP TABLE policy_rules;
ALTER TABLE policy_rules_new RENAME TO policy_rules;

-- The role and its permission; null where no rule was asked, and in older entries.
ALTER TABLE audit_log ADD COLUMN rule TEXT;
