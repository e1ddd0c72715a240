-- Whether somebody else set the password that the user has: they may know it.
ALTER TABLE users ADD COLUMN password_shared boolean NOT NULL DEFAULT false;
UPDATE users SET password_shared = true WHERE password_given_at IS NOT NULL;
