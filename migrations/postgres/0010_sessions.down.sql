DROP TABLE login_failures;
DROP TABLE signing_keys;

ALTER TABLE refresh_tokens RENAME TO tokens_new;
ALTER TABLE refresh_families RENAME TO families_new;
DROP INDEX refresh_families_changed;
DROP INDEX refresh_families_user;
DROP INDEX refresh_families_member;
CREATE TABLE refresh_families (
    id         uuid PRIMARY KEY,
    tenant_id  uuid NOT NULL,
    user_id    uuid NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz,
    FOREIGN KEY (tenant_id, user_id) REFERENCES memberships (tenant_id, user_id) ON DELETE CASCADE
);
INSERT INTO refresh_families
    SELECT id, tenant_id, user_id, created_at, expires_at, revoked_at
    FROM families_new;
CREATE INDEX refresh_families_member ON refresh_families (tenant_id, user_id);
CREATE TABLE refresh_tokens (
    hash       bytea PRIMARY KEY,
    family_id  uuid NOT NULL REFERENCES refresh_families (id) ON DELETE CASCADE,
    generation bigint NOT NULL,
    created_at timestamptz NOT NULL,
    used_at    timestamptz,
    UNIQUE (family_id, generation)
);
INSERT INTO refresh_tokens
    SELECT hash, family_id, generation, created_at, used_at FROM tokens_new;
DROP TABLE tokens_new;
DROP TABLE families_new;

DROP TABLE session_epochs;
