-- Rows whose vectors were taken from earlier outputs. Twin of ../postgres/0008_reuse.sql: same columns.

-- Of the winner's file; NULL where an older coordinator committed it, which leaves such jobs to others.
ALTER TABLE shard ADD COLUMN out_reused INTEGER;
-- Over committed shards.
ALTER TABLE job_count ADD COLUMN reused INTEGER NOT NULL DEFAULT 0;
