-- Bytes of what plugins logged, told and put off on that day.
ALTER TABLE plugin_usage ADD COLUMN kept_bytes INTEGER NOT NULL DEFAULT 0;

-- The tick that somebody runs, by its due time, and when its process must be gone.
ALTER TABLE plugin_ticks ADD COLUMN under_way INTEGER;
ALTER TABLE plugin_ticks ADD COLUMN lost_at INTEGER;
CREATE INDEX plugin_ticks_lost ON plugin_ticks (lost_at) WHERE lost_at IS NOT NULL;
