ALTER TABLE refresh_families DROP COLUMN two_factors;
DROP TABLE passkey_ceremonies;
DROP TABLE passkeys;
DROP TABLE passkey_handles;
