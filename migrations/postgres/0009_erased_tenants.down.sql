DROP TABLE erased_tenants;
