-- Messages that other systems send to plugins.

-- What senders sign with, sealed. One that was replaced is good until it ends.
CREATE TABLE plugin_hook_secrets (
    tenant_id  BLOB NOT NULL,
    plugin_id  BLOB NOT NULL,
    hook       TEXT NOT NULL,
    id         BLOB NOT NULL,
    sealed     BLOB NOT NULL,
    created_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    PRIMARY KEY (tenant_id, plugin_id, hook, id),
    FOREIGN KEY (tenant_id, plugin_id) REFERENCES plugins (tenant_id, id) ON DELETE CASCADE
) STRICT;

-- Due until they are handled; then kept for a while without their bodies, so that none is taken twice.
CREATE TABLE plugin_messages (
    tenant_id    BLOB NOT NULL,
    id           BLOB NOT NULL,
    plugin_id    BLOB NOT NULL,
    hook         TEXT NOT NULL,
    -- Who chose the message's id: empty for whoever holds the signing secret.
    sender       TEXT NOT NULL,
    message_id   TEXT NOT NULL,
    fingerprint  BLOB NOT NULL,
    content_type TEXT,
    body         BLOB NOT NULL,
    -- As in the outbox.
    principal    TEXT,
    request_id   TEXT NOT NULL,
    received_at  INTEGER NOT NULL,
    due_at       INTEGER,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, plugin_id, hook, sender, message_id),
    FOREIGN KEY (tenant_id, plugin_id) REFERENCES plugins (tenant_id, id) ON DELETE CASCADE
) STRICT;
CREATE INDEX plugin_messages_due ON plugin_messages (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX plugin_messages_waiting ON plugin_messages (tenant_id, due_at);
