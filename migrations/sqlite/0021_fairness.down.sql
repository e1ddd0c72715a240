ALTER TABLE plugins DROP COLUMN kv_bytes;
ALTER TABLE plugins DROP COLUMN rests_until;
ALTER TABLE plugins DROP COLUMN crashes;
ALTER TABLE plugin_usage DROP COLUMN reserved;
