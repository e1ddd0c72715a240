-- Work that outlives a request and a killed process, with the files it reads and the lines it refused.

CREATE TABLE jobs (
    tenant_id   uuid NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    id          uuid NOT NULL,
    kind        text NOT NULL,
    state       text NOT NULL CHECK (state IN ('receiving', 'queued', 'running', 'done', 'failed', 'cancelled')),
    input       jsonb NOT NULL,
    -- Where to go on after an interruption; what it means is the kind's business.
    checkpoint  jsonb,
    progress    jsonb NOT NULL,
    result      jsonb,
    error       jsonb,
    -- Whose rights it runs with: user:<id>, api_key:<id> or operator.
    created_by  text NOT NULL,
    request_id  text NOT NULL,
    -- Runs begun since the last checkpoint.
    attempts    bigint NOT NULL DEFAULT 0,
    cancelling  boolean NOT NULL DEFAULT false,
    holder      uuid,
    lease_until timestamptz,
    created_at  timestamptz NOT NULL,
    started_at  timestamptz,
    finished_at timestamptz,
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX jobs_open ON jobs (tenant_id, id) WHERE finished_at IS NULL;
CREATE INDEX jobs_finished ON jobs (finished_at) WHERE finished_at IS NOT NULL;

-- The file of a job, in pieces keyed by their place in bytes.
CREATE TABLE job_chunks (
    tenant_id uuid NOT NULL,
    job_id    uuid NOT NULL,
    position  bigint NOT NULL,
    bytes     bytea NOT NULL,
    PRIMARY KEY (tenant_id, job_id, position),
    FOREIGN KEY (tenant_id, job_id) REFERENCES jobs (tenant_id, id) ON DELETE CASCADE
);

CREATE TABLE job_errors (
    tenant_id uuid NOT NULL,
    job_id    uuid NOT NULL,
    number    bigint NOT NULL,
    line      bigint NOT NULL,
    code      text NOT NULL,
    -- JSON Pointer to the refused field; empty for the whole line.
    pointer   text NOT NULL,
    message   text NOT NULL,
    PRIMARY KEY (tenant_id, job_id, number),
    FOREIGN KEY (tenant_id, job_id) REFERENCES jobs (tenant_id, id) ON DELETE CASCADE
);
