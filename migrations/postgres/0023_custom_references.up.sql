-- The module that a tenant's own field refers to; null for a field that is no reference.
ALTER TABLE custom_fields ADD COLUMN refers_to text;
CREATE INDEX custom_fields_by_target ON custom_fields (tenant_id, refers_to)
    WHERE refers_to IS NOT NULL;
