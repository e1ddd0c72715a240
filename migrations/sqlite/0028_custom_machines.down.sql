-- The older program knows no machines of such modules: every state may follow every other there.
ALTER TABLE custom_modules DROP COLUMN machines;
