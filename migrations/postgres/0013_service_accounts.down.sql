-- Without its account a key would act on its role's rights alone.
DELETE FROM api_keys WHERE user_id IS NOT NULL OR permissions IS NOT NULL;
ALTER TABLE api_keys DROP COLUMN user_id;
ALTER TABLE api_keys DROP COLUMN permissions;
ALTER TABLE users DROP COLUMN kind;
