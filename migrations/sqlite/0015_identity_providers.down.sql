-- Without the column they would be bound to no tenant.
DELETE FROM refresh_families WHERE provider_id IS NOT NULL;
DELETE FROM login_challenges WHERE provider_id IS NOT NULL;
ALTER TABLE login_challenges DROP COLUMN provider_id;
ALTER TABLE refresh_families DROP COLUMN provider_id;
DROP TABLE spent_logins;
DROP TABLE user_identities;
DROP TABLE identity_providers;
