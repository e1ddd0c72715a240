-- Tenants are found by their names in any case, also by whoever has not logged in.
CREATE INDEX tenants_folded_name ON tenants (lower(name COLLATE "C"));
