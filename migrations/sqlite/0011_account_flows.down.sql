DROP TABLE mails;
DROP TABLE invitations;
DROP TABLE user_tokens;
ALTER TABLE users DROP COLUMN email_verified_at;
DROP INDEX users_username;
ALTER TABLE users DROP COLUMN username;
