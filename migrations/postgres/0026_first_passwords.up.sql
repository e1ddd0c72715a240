-- Whether the session that waits is to open all of the user's tenants.
ALTER TABLE login_challenges ADD COLUMN roaming boolean NOT NULL DEFAULT false;
-- The hash of the password that the user gets with the session, in place of one that somebody else set.
ALTER TABLE login_challenges ADD COLUMN password_hash text;

-- When somebody else set the password; null once its owner has.
ALTER TABLE users ADD COLUMN password_given_at timestamptz;
