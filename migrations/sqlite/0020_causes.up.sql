-- Whose rights bound what follows from an act, where its actor does not tell, also in jobs: as in the
-- outbox, and user:<id>/api_key:<id> for the key of a service account.
ALTER TABLE jobs ADD COLUMN principal TEXT;

-- The public key that signed a version, in place of its name: it counts as long as the tenant trusts
-- this very key. What was signed before is uploaded again with its signature.
ALTER TABLE plugin_versions DROP COLUMN signed_by;
ALTER TABLE plugin_versions ADD COLUMN signed_key BLOB;
DELETE FROM plugin_keys WHERE EXISTS (SELECT 1 FROM plugin_keys older
    WHERE older.tenant_id = plugin_keys.tenant_id AND older.public_key = plugin_keys.public_key
    AND older.id < plugin_keys.id);
CREATE UNIQUE INDEX plugin_keys_public_key ON plugin_keys (tenant_id, public_key);
