-- Which storage the files of the jobs are in. Twin of ../postgres/0007_storage.sql: same columns, same checks.

-- One row, written once. Without it, the next coordinator that starts adopts the storage that it is given.
CREATE TABLE storage (
    row_number INTEGER PRIMARY KEY CHECK (row_number = 1),
    storage_id TEXT NOT NULL                  -- content of the object `storage-id` there
) STRICT;
