DROP TABLE custom_records;
DROP TABLE custom_fields;
DROP TABLE custom_modules;
