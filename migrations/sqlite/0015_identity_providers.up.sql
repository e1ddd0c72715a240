-- OpenID Connect providers by which members of one tenant log in to it.
CREATE TABLE identity_providers (
    tenant_id             BLOB NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    id                    BLOB NOT NULL,
    name                  TEXT NOT NULL,
    -- What its tokens name as their issuer, to the letter. It never changes: subjects are the issuer's.
    issuer                TEXT NOT NULL,
    client_id             TEXT NOT NULL,
    -- Sealed under a key derived from the operator's; null for a public client.
    client_secret         BLOB,
    -- Where logins may return to, as a JSON list.
    redirect_uris         TEXT NOT NULL,
    -- The domains whose addresses the tenant believes the provider, as a JSON list.
    domains               TEXT NOT NULL,
    -- The role of whoever becomes a member by logging in; null when nobody does.
    join_role_id          BLOB,
    -- Whether a second factor asked for by the provider counts as one asked for by the tenant.
    trusts_second_factor  INTEGER NOT NULL DEFAULT 0,
    enabled               INTEGER NOT NULL DEFAULT 1,
    created_at            INTEGER NOT NULL,
    last_used_at          INTEGER,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, name),
    FOREIGN KEY (tenant_id, join_role_id) REFERENCES roles (tenant_id, id)
) STRICT;
CREATE INDEX identity_providers_id ON identity_providers (id);
CREATE INDEX identity_providers_role ON identity_providers (tenant_id, join_role_id)
    WHERE join_role_id IS NOT NULL;

-- Which member a provider's subject is. It goes with the membership.
CREATE TABLE user_identities (
    tenant_id    BLOB NOT NULL,
    id           BLOB NOT NULL,
    provider_id  BLOB NOT NULL,
    subject      TEXT NOT NULL,
    user_id      BLOB NOT NULL,
    -- The address that the provider named when the two were linked.
    email        TEXT,
    created_at   INTEGER NOT NULL,
    last_used_at INTEGER,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, provider_id, subject),
    UNIQUE (tenant_id, provider_id, user_id),
    FOREIGN KEY (tenant_id, provider_id) REFERENCES identity_providers (tenant_id, id) ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, user_id) REFERENCES memberships (tenant_id, user_id) ON DELETE CASCADE
) STRICT;
CREATE INDEX user_identities_member ON user_identities (tenant_id, user_id);

-- Logins at providers that were used up, until they would have been out of date anyway.
CREATE TABLE spent_logins (
    tenant_id  BLOB NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    -- SHA-256 of the login's secret or nonce.
    hash       BLOB NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, hash)
) STRICT;

-- The provider that vouched for a session, which is then bound to the provider's tenant. The row stays
-- bound when the provider is gone.
ALTER TABLE refresh_families ADD COLUMN provider_id BLOB;
ALTER TABLE login_challenges ADD COLUMN provider_id BLOB;
