ALTER TABLE plugin_runs DROP COLUMN counts;
ALTER TABLE plugin_jobs DROP COLUMN first_due_at;
