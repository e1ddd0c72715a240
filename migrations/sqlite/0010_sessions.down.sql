DROP TABLE login_failures;
DROP TABLE signing_keys;

ALTER TABLE refresh_tokens RENAME TO tokens_new;
ALTER TABLE refresh_families RENAME TO families_new;
DROP INDEX refresh_families_changed;
DROP INDEX refresh_families_user;
DROP INDEX refresh_families_member;
CREATE TABLE refresh_families (
    id         BLOB PRIMARY KEY,
    tenant_id  BLOB NOT NULL,
    user_id    BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    revoked_at INTEGER,
    FOREIGN KEY (tenant_id, user_id) REFERENCES memberships (tenant_id, user_id) ON DELETE CASCADE
) STRICT;
INSERT INTO refresh_families
    SELECT id, tenant_id, user_id, created_at, expires_at, revoked_at
    FROM families_new;
CREATE INDEX refresh_families_member ON refresh_families (tenant_id, user_id);
CREATE TABLE refresh_tokens (
    hash       BLOB PRIMARY KEY,
    family_id  BLOB NOT NULL REFERENCES refresh_families (id) ON DELETE CASCADE,
    generation INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    used_at    INTEGER,
    UNIQUE (family_id, generation)
) STRICT;
INSERT INTO refresh_tokens
    SELECT hash, family_id, generation, created_at, used_at FROM tokens_new;
DROP TABLE tokens_new;
DROP TABLE families_new;

DROP TABLE session_epochs;
