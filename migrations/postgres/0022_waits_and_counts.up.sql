-- When a job was due first, while it waits for what keeps its plugin from running.
ALTER TABLE plugin_jobs ADD COLUMN first_due_at timestamptz;

-- Whether the run tells something of the plugin: none does that others asked for, or that failed for want
-- of a right of whoever caused it.
ALTER TABLE plugin_runs ADD COLUMN counts boolean NOT NULL DEFAULT true;
UPDATE plugin_runs SET counts = false
    WHERE trigger LIKE 'action %' OR trigger LIKE 'webhook %' OR trigger LIKE 'before %';
