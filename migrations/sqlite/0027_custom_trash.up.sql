-- Whether deleted records of a tenant's own module go to its trash, and since when one is there.
ALTER TABLE custom_modules ADD COLUMN soft_delete INTEGER NOT NULL DEFAULT 0;
ALTER TABLE custom_records ADD COLUMN deleted_at INTEGER;
