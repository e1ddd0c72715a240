-- What is in the trash would be live to the older program.
-- The indexes of unique fields of such modules would go with the column.
DO $$
BEGIN
    IF EXISTS (
        SELECT 1 FROM pg_indexes
        WHERE schemaname = current_schema() AND tablename = 'custom_records'
          AND indexdef LIKE '%deleted_at%'
    ) THEN
        RAISE EXCEPTION 'a module with a trash has unique fields: end the module first';
    END IF;
END $$;
DELETE FROM custom_records WHERE deleted_at IS NOT NULL;
ALTER TABLE custom_records DROP COLUMN deleted_at;
ALTER TABLE custom_modules DROP COLUMN soft_delete;
