-- Jobs that may succeed without their dead shards. Twin of ../sqlite/0002_holes.sql: same columns, same indexes.

-- Dead shards are holes of the manifest, where some shard is committed; told by the spec, never changed.
ALTER TABLE job ADD COLUMN allow_partial BOOLEAN NOT NULL DEFAULT FALSE;
-- Dead shards are few; a manifest lists them in the order of rows.
CREATE INDEX shard_dead ON shard (job_id, first_row) WHERE state = 'dead';
