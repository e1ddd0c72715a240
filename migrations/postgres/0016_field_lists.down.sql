ALTER TABLE audit_log DROP COLUMN rule;
-- A permission on some fields would become one on all of them.
DELETE FROM policy_rules WHERE fields <> '';
DROP INDEX policy_rules_unique;
CREATE UNIQUE INDEX policy_rules_unique ON policy_rules
    (tenant_id, role_id, module, action, row_scope, effect, md5(condition));
ALTER TABLE policy_rules DROP COLUMN fields;
