-- Fuel set aside for runs under way; what a killed process had set aside stays so for the day.
ALTER TABLE plugin_usage ADD COLUMN reserved INTEGER NOT NULL DEFAULT 0;

-- How many runs crashed in a row, and until when the plugin rests because of that.
ALTER TABLE plugins ADD COLUMN crashes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE plugins ADD COLUMN rests_until INTEGER;

-- The bytes of all its values.
ALTER TABLE plugins ADD COLUMN kv_bytes INTEGER NOT NULL DEFAULT 0;
UPDATE plugins SET kv_bytes = coalesce((SELECT sum(length(value)) FROM plugin_kv
    WHERE plugin_kv.tenant_id = plugins.tenant_id AND plugin_kv.plugin_id = plugins.id), 0);
