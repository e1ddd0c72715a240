-- Permissions limited to some fields of a record, and the rule by which an audited act was allowed.

-- Names of fields separated by commas: the only ones, or behind a '!' all but these; empty for all
-- fields.
ALTER TABLE policy_rules ADD COLUMN fields text NOT NULL DEFAULT '';
DROP INDEX policy_rules_unique;
CREATE UNIQUE INDEX policy_rules_unique ON policy_rules
    (tenant_id, role_id, module, action, row_scope, effect, md5(condition), md5(fields));

-- The role and its permission; null where no rule was asked, and in older entries.
ALTER TABLE audit_log ADD COLUMN rule text;
