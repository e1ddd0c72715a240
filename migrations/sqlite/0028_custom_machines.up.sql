-- The state machines of a tenant's own module, as in a module's declaration, in JSON.
ALTER TABLE custom_modules ADD COLUMN machines TEXT NOT NULL DEFAULT '[]';
-- A plugin that is disabled keeps no name from a new module: what was consented to before that was so is
-- taken back, as disabling does from now on, or it would be about the new one.
UPDATE plugin_versions SET consented_by = NULL, consented_at = NULL
WHERE EXISTS (SELECT 1 FROM plugins WHERE plugins.tenant_id = plugin_versions.tenant_id
    AND plugins.id = plugin_versions.plugin_id AND plugins.status = 'disabled'
    AND plugins.parked IS NULL);
