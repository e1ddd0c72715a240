-- The state machines of a tenant's own module, as in a module's declaration, in JSON.
ALTER TABLE custom_modules ADD COLUMN machines TEXT NOT NULL DEFAULT '[]';
