-- Whether somebody else set the password that the user has: they may know it.
ALTER TABLE users ADD COLUMN password_shared INTEGER NOT NULL DEFAULT 0;
UPDATE users SET password_shared = 1 WHERE password_given_at IS NOT NULL;
