-- A user is a person, or a program that owns rows and has no password.
ALTER TABLE users ADD COLUMN kind text NOT NULL DEFAULT 'person' CHECK (kind IN ('person', 'service'));
-- What the key may do of what its role may: a JSON list of permissions, null for all.
ALTER TABLE api_keys ADD COLUMN permissions jsonb;
-- The service account that the key acts as.
ALTER TABLE api_keys ADD COLUMN user_id uuid REFERENCES users (id);
