ALTER TABLE login_challenges DROP COLUMN passed;
ALTER TABLE login_challenges DROP COLUMN chosen;
DROP TABLE pending_registrations;
