-- Work that outlives a request and a killed process, with the files it reads and the lines it refused.

CREATE TABLE jobs (
    tenant_id   BLOB NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    id          BLOB NOT NULL,
    kind        TEXT NOT NULL,
    state       TEXT NOT NULL CHECK (state IN ('receiving', 'queued', 'running', 'done', 'failed', 'cancelled')),
    input       TEXT NOT NULL,
    -- Where to go on after an interruption; what it means is the kind's business.
    checkpoint  TEXT,
    progress    TEXT NOT NULL,
    result      TEXT,
    error       TEXT,
    -- Whose rights it runs with: user:<id>, api_key:<id> or operator.
    created_by  TEXT NOT NULL,
    request_id  TEXT NOT NULL,
    -- Runs begun since the last checkpoint.
    attempts    INTEGER NOT NULL DEFAULT 0,
    cancelling  INTEGER NOT NULL DEFAULT 0,
    holder      BLOB,
    lease_until INTEGER,
    created_at  INTEGER NOT NULL,
    started_at  INTEGER,
    finished_at INTEGER,
    PRIMARY KEY (tenant_id, id)
) STRICT;
CREATE INDEX jobs_open ON jobs (tenant_id, id) WHERE finished_at IS NULL;
CREATE INDEX jobs_finished ON jobs (finished_at) WHERE finished_at IS NOT NULL;

-- The file of a job, in pieces keyed by their place in bytes.
CREATE TABLE job_chunks (
    tenant_id BLOB NOT NULL,
    job_id    BLOB NOT NULL,
    position  INTEGER NOT NULL,
    bytes     BLOB NOT NULL,
    PRIMARY KEY (tenant_id, job_id, position),
    FOREIGN KEY (tenant_id, job_id) REFERENCES jobs (tenant_id, id) ON DELETE CASCADE
) STRICT;

CREATE TABLE job_errors (
    tenant_id BLOB NOT NULL,
    job_id    BLOB NOT NULL,
    number    INTEGER NOT NULL,
    line      INTEGER NOT NULL,
    code      TEXT NOT NULL,
    -- JSON Pointer to the refused field; empty for the whole line.
    pointer   TEXT NOT NULL,
    message   TEXT NOT NULL,
    PRIMARY KEY (tenant_id, job_id, number),
    FOREIGN KEY (tenant_id, job_id) REFERENCES jobs (tenant_id, id) ON DELETE CASCADE
) STRICT;
