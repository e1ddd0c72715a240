DROP INDEX tenants_folded_name;
