DROP INDEX plugin_keys_public_key;
ALTER TABLE plugin_versions DROP COLUMN signed_key;
ALTER TABLE plugin_versions ADD COLUMN signed_by TEXT;
ALTER TABLE jobs DROP COLUMN principal;
