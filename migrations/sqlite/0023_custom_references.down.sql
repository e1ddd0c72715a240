-- What the older program cannot read; the values stay behind, under numbers that no field has.
DELETE FROM custom_fields WHERE refers_to IS NOT NULL;
DROP INDEX custom_fields_by_target;
ALTER TABLE custom_fields DROP COLUMN refers_to;
