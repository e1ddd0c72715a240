DELETE FROM policy_rules WHERE row_scope NOT IN ('all', 'own') OR condition <> '';
DROP INDEX policy_rules_unique;
ALTER TABLE policy_rules
    ADD CONSTRAINT policy_rules_tenant_id_role_id_module_action_row_scope_effe_key
    UNIQUE (tenant_id, role_id, module, action, row_scope, effect);
ALTER TABLE policy_rules DROP CONSTRAINT policy_rules_row_scope_check;
ALTER TABLE policy_rules ADD CONSTRAINT policy_rules_row_scope_check
    CHECK (row_scope IN ('all', 'own'));
ALTER TABLE policy_rules DROP COLUMN condition;
DELETE FROM role_assignments WHERE until IS NOT NULL;
ALTER TABLE role_assignments DROP COLUMN until;
DROP TABLE user_group_records;
DROP TABLE user_group_roles;
DROP TABLE user_group_members;
DROP TABLE user_groups;
