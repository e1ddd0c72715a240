ALTER TABLE users DROP COLUMN password_given_at;
-- Their owners log in again.
DELETE FROM login_challenges WHERE roaming OR password_hash IS NOT NULL;
ALTER TABLE login_challenges DROP COLUMN password_hash;
ALTER TABLE login_challenges DROP COLUMN roaming;
