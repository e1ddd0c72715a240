ALTER TABLE plugin_messages DROP COLUMN put_off;
ALTER TABLE plugin_jobs DROP COLUMN put_off;
DROP INDEX plugin_runs_record;
ALTER TABLE plugin_runs DROP COLUMN record_id;
ALTER TABLE plugin_runs DROP COLUMN module;
ALTER TABLE plugin_runs DROP COLUMN impersonator;
ALTER TABLE plugin_runs DROP COLUMN caused_by;
