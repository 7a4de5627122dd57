-- Lists without specs. Twin of ../postgres/0004_lists.sql: same columns, same indexes.

-- What a list shows of a spec, which may be large. NULL where an older coordinator stored the job: then the spec is read.
ALTER TABLE job ADD COLUMN model_name TEXT;     -- name of the model
ALTER TABLE job ADD COLUMN source_total INTEGER; -- number of sources
UPDATE job SET model_name = json_extract(spec, '$.model.name'), source_total = json_array_length(spec, '$.sources');
-- Lists are paged by the order of submission, of all jobs or of one owner's.
CREATE INDEX job_listed ON job (submitted_ms, job_id);
CREATE INDEX job_owned ON job (owner, submitted_ms, job_id);
-- Jobs are counted by state, and an owner's active ones, without reading their rows.
CREATE INDEX job_counted ON job (state, owner);
