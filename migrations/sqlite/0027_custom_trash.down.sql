-- What is in the trash would be live to the older program.
-- SQLite refuses this while a unique field of such a module has its index: end the module first.
DELETE FROM custom_records WHERE deleted_at IS NOT NULL;
ALTER TABLE custom_records DROP COLUMN deleted_at;
ALTER TABLE custom_modules DROP COLUMN soft_delete;
