-- Programs of two neighbouring releases over one database. Twin of ../sqlite/0005_neighbours.sql: same tables, same columns.

-- Which programs may use this database: those that know the migration of this number. A migration that takes away what
-- older programs need raises it, and names the first release that does without.
CREATE TABLE schema_compat (
    row_number     BIGINT PRIMARY KEY DEFAULT 1 CHECK (row_number = 1), -- there is one row
    oldest_schema  BIGINT NOT NULL,             -- number of the last migration that the oldest of them knows
    oldest_release TEXT NOT NULL                -- its release, for people
);
INSERT INTO schema_compat (oldest_schema, oldest_release) VALUES (5, '0.1.0');

-- What a program must know to plan, lease and finalize a job: one of a lower revision leaves it to others.
ALTER TABLE job ADD COLUMN revision BIGINT NOT NULL DEFAULT 0;
-- Of the holder: a program of a higher revision takes the role over at once, since it knows what to do with every job.
ALTER TABLE leader ADD COLUMN revision BIGINT NOT NULL DEFAULT 0;
