-- What is in the trash would be live to the older program.
-- The indexes of unique fields of such modules go with the column: end the modules first.
DELETE FROM custom_records WHERE deleted_at IS NOT NULL;
ALTER TABLE custom_records DROP COLUMN deleted_at;
ALTER TABLE custom_modules DROP COLUMN soft_delete;
