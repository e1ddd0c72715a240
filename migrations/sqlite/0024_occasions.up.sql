-- Who caused a run, who acted in their name, and the record that it is about.
ALTER TABLE plugin_runs ADD COLUMN caused_by TEXT;
ALTER TABLE plugin_runs ADD COLUMN impersonator TEXT;
ALTER TABLE plugin_runs ADD COLUMN module TEXT;
ALTER TABLE plugin_runs ADD COLUMN record_id BLOB;
CREATE INDEX plugin_runs_record ON plugin_runs (tenant_id, plugin_id, record_id, id)
    WHERE record_id IS NOT NULL;

-- Whether it waits for its plugin to run again, and is in nobody's hands.
ALTER TABLE plugin_jobs ADD COLUMN put_off INTEGER NOT NULL DEFAULT 0;
ALTER TABLE plugin_messages ADD COLUMN put_off INTEGER NOT NULL DEFAULT 0;
