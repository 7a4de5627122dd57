-- What workers know of jobs. Twin of ../sqlite/0006_fleet.sql: same columns.

-- A job of a later revision is for others; 0 where an older coordinator opened the session, until it is granted something.
ALTER TABLE session ADD COLUMN revision BIGINT NOT NULL DEFAULT 0;
