DROP INDEX plugin_ticks_lost;
ALTER TABLE plugin_ticks DROP COLUMN lost_at;
ALTER TABLE plugin_ticks DROP COLUMN under_way;
ALTER TABLE plugin_usage DROP COLUMN kept_bytes;
