ALTER TABLE audit_log DROP COLUMN erased_at;
DROP TABLE audit_seals;
DROP TABLE audit_unsealed;
