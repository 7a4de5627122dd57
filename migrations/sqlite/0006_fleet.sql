-- What workers know of jobs. Twin of ../postgres/0006_fleet.sql: same columns.

-- A job of a later revision is for others; 0 where an older coordinator opened the session, until it is granted something.
ALTER TABLE session ADD COLUMN revision INTEGER NOT NULL DEFAULT 0;
