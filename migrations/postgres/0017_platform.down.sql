DROP TABLE tenant_settings;
DROP INDEX mails_tenant;
ALTER TABLE mails DROP COLUMN tenant_id;
ALTER TABLE audit_log DROP COLUMN impersonator;
-- Without its impersonator a session would be its user's own.
DELETE FROM refresh_families WHERE impersonator_id IS NOT NULL;
DROP INDEX refresh_families_impersonator;
DROP INDEX refresh_families_parent;
ALTER TABLE refresh_families DROP COLUMN reason;
ALTER TABLE refresh_families DROP COLUMN parent_id;
ALTER TABLE refresh_families DROP COLUMN home_id;
ALTER TABLE refresh_families DROP COLUMN impersonator_id;
DROP TABLE operators;
DELETE FROM tenants WHERE id = '00000000-0000-0000-0000-000000000000';
