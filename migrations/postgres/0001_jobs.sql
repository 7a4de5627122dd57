-- Jobs, sources, shards, attempts, sessions. Twin of ../sqlite/0001_jobs.sql: same tables, same columns, same checks.
-- Released files never change; the next change is the next number, in both folders.
-- Times are milliseconds since the Unix epoch. Identifiers are UUIDs. Sizes and counts are BIGINT.

-- now_ms is the one clock of all coordinators; a test imposes its own.
CREATE FUNCTION encaje_now_ms(imposed BIGINT) RETURNS BIGINT LANGUAGE sql VOLATILE AS
$$ SELECT coalesce(imposed, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint) $$;

-- slot spreads the counters of a job over the connections of the coordinators: one connection runs one statement at a
-- time, so that two commits seldom want the same row.
CREATE FUNCTION encaje_slot() RETURNS BIGINT LANGUAGE sql STABLE AS $$ SELECT (pg_backend_pid() % 16)::bigint $$;

CREATE TABLE job (
    job_id          UUID PRIMARY KEY,           -- made by the client: submitting twice is submitting once
    spec_digest     TEXT NOT NULL,              -- BLAKE3 of the canonical spec: same id with another digest is refused
    spec            TEXT NOT NULL,              -- the whole JobSpec, JSON
    task            TEXT NOT NULL,              -- the part of it that every grant carries, JSON
    state           TEXT NOT NULL CHECK (state IN
                        ('planning', 'running', 'finalizing', 'succeeded', 'failed', 'cancelling', 'cancelled')),
    paused          BOOLEAN NOT NULL DEFAULT FALSE, -- no new leases while set
    pause_reason    TEXT,                       -- why the coordinator itself paused it
    copies          BIGINT NOT NULL DEFAULT 0, -- second attempts that were begun beside slow ones
    judged_from     BIGINT NOT NULL DEFAULT 0, -- attempts that had ended when it was last resumed: the breaker forgets them
    planned         BOOLEAN NOT NULL DEFAULT FALSE, -- all shards are cut
    reason          TEXT,                       -- why it failed
    submitted_ms    BIGINT NOT NULL,            -- order of service
    source_count    BIGINT,                     -- number of sources, once they are inspected
    shard_count     BIGINT NOT NULL DEFAULT 0,  -- shards cut so far; the index of the next one
    rows_planned    BIGINT NOT NULL DEFAULT 0,  -- records in them
    cursor_source   BIGINT NOT NULL DEFAULT 0,  -- where cutting goes on: index of the source,
    cursor_position BIGINT NOT NULL DEFAULT 0,  -- byte or row in it,
    cursor_row      BIGINT NOT NULL DEFAULT 0,  -- row number over the whole corpus
    manifest_key    TEXT,                       -- key of the manifest in storage
    manifest_digest TEXT,                       -- BLAKE3 of the manifest
    generation      BIGINT NOT NULL DEFAULT 1 CHECK (generation > 0), -- of the manifest; grows with every repair
    owner           TEXT,                       -- who submitted it, where callers are known
    CHECK ((state = 'failed') = (reason IS NOT NULL)),
    CHECK (pause_reason IS NULL OR paused),
    CHECK ((state = 'succeeded') = (manifest_key IS NOT NULL)),
    CHECK ((manifest_key IS NULL) = (manifest_digest IS NULL)),
    CHECK (state <> 'planning' OR NOT planned),
    CHECK (state NOT IN ('running', 'finalizing', 'succeeded') OR planned)
);
-- Leases ask for the active jobs, in order, many times a second; finished jobs are many.
CREATE UNIQUE INDEX job_active ON job (submitted_ms, job_id) WHERE state IN ('planning', 'running');

CREATE TABLE source (
    job_id       UUID NOT NULL REFERENCES job,
    source_index BIGINT NOT NULL,               -- position in the corpus
    uri          TEXT NOT NULL,                 -- for people; the truth is in planned
    planned      TEXT NOT NULL,                 -- PlannedSource with its fingerprint, JSON
    PRIMARY KEY (job_id, source_index)
);

-- Shards and attempts have no foreign keys: rows are only ever inserted by statements that hold their parent, and a
-- check per inserted shard would double the cost of planning.
CREATE TABLE shard (
    job_id        UUID NOT NULL,
    shard_index   BIGINT NOT NULL,              -- position in input order, from 0
    source_index  BIGINT NOT NULL,              -- the source that the slice belongs to
    recut_key     TEXT,                         -- key of a re-cut piece, where the source itself is not read
    range_unit    TEXT NOT NULL CHECK (range_unit IN ('bytes', 'rows')),
    range_start   BIGINT NOT NULL,              -- first byte or record
    range_end     BIGINT NOT NULL,              -- one past the last
    first_row     BIGINT NOT NULL,              -- row number of the first record, over the whole corpus
    row_count     BIGINT NOT NULL,              -- records in it
    slice_first_row BIGINT,                        -- of a half: first record of the slice, which is read as a whole,
    slice_row_count BIGINT,                        -- and records in it
    part_of       BIGINT,                          -- of a half: the shard that was split
    convicted     BOOLEAN NOT NULL DEFAULT FALSE, -- its only row is rejected, not embedded
    state         TEXT NOT NULL DEFAULT 'pending' CHECK (state IN
                      ('pending', 'running', 'committed', 'dead', 'cancelled', 'split')),
    epoch         BIGINT NOT NULL DEFAULT 0,    -- fencing number of the latest lease; only ever grows
    live          BIGINT NOT NULL DEFAULT 0,    -- live attempts: one, or two where a copy runs
    failures      BIGINT NOT NULL DEFAULT 0,    -- counted failures since the last retry
    workers_lost  BIGINT NOT NULL DEFAULT 0,    -- workers lost since the last retry
    not_before_ms BIGINT NOT NULL DEFAULT 0,    -- no lease of a pending shard before
    last_error    TEXT,                         -- what went wrong last
    winner_epoch  BIGINT,                       -- epoch of the attempt that won
    out_key       TEXT,                         -- its file: key in storage,
    out_bytes     BIGINT,                       -- size,
    out_blake3    TEXT,                         -- digest,
    in_blake3     TEXT,                         -- digest of the input that was read; outlives a repair,
    out_rejects   TEXT,                         -- rejects by reason, JSON,
    out_truncated BIGINT,                       -- rows cut to the maximum length,
    out_tokens    BIGINT,                       -- tokens fed to the model
    PRIMARY KEY (job_id, shard_index),
    CHECK (range_start <= range_end AND row_count >= 0 AND epoch >= 0 AND failures >= 0 AND workers_lost >= 0),
    CHECK ((state = 'running') = (live > 0) AND live BETWEEN 0 AND 2 AND live <= epoch),
    CHECK ((slice_first_row IS NULL) = (part_of IS NULL) AND (slice_row_count IS NULL) = (part_of IS NULL)),
    CHECK (NOT convicted OR row_count = 1),
    CHECK ((state = 'committed') = (winner_epoch IS NOT NULL)),
    CHECK (winner_epoch IS NULL OR winner_epoch <= epoch),
    CHECK ((winner_epoch IS NULL) = (out_key IS NULL)),
    CHECK (winner_epoch IS NULL OR
           num_nulls(out_bytes, out_blake3, in_blake3, out_rejects, out_truncated, out_tokens) = 0)
);
-- Finished shards stay out of what leases walk over.
CREATE INDEX shard_pending ON shard (job_id, shard_index) WHERE state = 'pending';
-- Halves come after all others by index, and belong among them by row.
CREATE INDEX shard_halves ON shard (job_id, first_row, shard_index) WHERE part_of IS NOT NULL;
-- What workers may have died of is leased alone; it is rare.
CREATE INDEX shard_suspect ON shard (job_id, shard_index)
    WHERE state = 'pending' AND (workers_lost > 0 OR part_of IS NOT NULL OR convicted);

CREATE TABLE attempt (
    job_id      UUID NOT NULL,
    shard_index BIGINT NOT NULL,
    epoch       BIGINT NOT NULL CHECK (epoch > 0),
    attempt_id  UUID NOT NULL,                  -- random part of the output key
    session_id  UUID NOT NULL,                  -- who holds or held the lease
    request_id  UUID NOT NULL,                  -- the request that it answered
    state       TEXT NOT NULL CHECK (state IN
                    ('live', 'committed', 'failed', 'released', 'expired', 'revoked', 'lost_race',
                    'garbage')),
    granted_ms  BIGINT NOT NULL,
    is_copy     BOOLEAN NOT NULL DEFAULT FALSE,   -- begun beside a slow one
    ended_ms    BIGINT,
    end_reason  TEXT,                           -- why it ended, in words, unless it won
    class       TEXT,                           -- of a failure or loss
    ended_before BIGINT,                          -- and how many attempts of the job had ended then
    rows_done   BIGINT NOT NULL DEFAULT 0,      -- progress as of the last heartbeat
    tokens_done BIGINT NOT NULL DEFAULT 0,
    deleted_ms  BIGINT,                         -- when the object of a garbage attempt was deleted
    PRIMARY KEY (job_id, shard_index, epoch),
    CHECK ((state = 'live') = (ended_ms IS NULL)),
    CHECK (deleted_ms IS NULL OR state = 'garbage')
) WITH (fillfactor = 80);
-- The guard that does not depend on any statement being right.
CREATE UNIQUE INDEX attempt_one_winner ON attempt (job_id, shard_index) WHERE state = 'committed';
-- Live attempts are few (a handful per worker), so that one index serves the questions of sessions and those of jobs.
CREATE INDEX attempt_live ON attempt (session_id, job_id) WHERE state = 'live';
CREATE INDEX attempt_losers ON attempt (ended_ms) WHERE state IN ('failed', 'released', 'expired', 'revoked', 'lost_race');
-- What goes wrong, by job for the breaker and by session for quarantine; it is little, or the job pauses.
CREATE INDEX attempt_wrong ON attempt (job_id, ended_before) WHERE class IS NOT NULL;
CREATE INDEX attempt_wrong_session ON attempt (session_id) WHERE class IS NOT NULL;
CREATE INDEX attempt_garbage ON attempt (ended_ms) WHERE state = 'garbage' AND deleted_ms IS NULL;

CREATE TABLE session (
    session_id   UUID PRIMARY KEY,
    name         TEXT NOT NULL,                 -- host and process, for people
    devices      TEXT NOT NULL,                 -- JSON list
    version      TEXT NOT NULL,                 -- of the worker program
    leases_max   BIGINT NOT NULL CHECK (leases_max > 0),
    state        TEXT NOT NULL CHECK (state IN ('live', 'dead')),
    opened_ms    BIGINT NOT NULL,
    expires_ms   BIGINT NOT NULL,               -- moved on by every heartbeat; not indexed, so that updates are HOT
    progress_ms  BIGINT NOT NULL,               -- last heartbeat that brought rows, or last lease
    last_request UUID,                          -- last lease request that was granted something
    quarantined  BOOLEAN NOT NULL DEFAULT FALSE,  -- gets nothing any more: it failed at what others could do
    ended_ms     BIGINT,
    end_reason   TEXT,
    CHECK ((state = 'live') = (ended_ms IS NULL)),
    CHECK ((state = 'live') = (end_reason IS NULL))
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
CREATE INDEX session_live ON session (session_id) WHERE state = 'live';
CREATE INDEX session_ended ON session (ended_ms) WHERE state = 'dead';

-- Counters of a job, in several rows (slots) so that concurrent commits do not queue for one: the sum counts. A single
-- slot may be negative. Changed by the statement that changes the shards, so that the sum is always their aggregate.
CREATE TABLE job_count (
    job_id    UUID NOT NULL,
    slot      BIGINT NOT NULL,
    pending   BIGINT NOT NULL DEFAULT 0,        -- shards by state
    running   BIGINT NOT NULL DEFAULT 0,
    committed BIGINT NOT NULL DEFAULT 0,
    dead      BIGINT NOT NULL DEFAULT 0,
    cancelled BIGINT NOT NULL DEFAULT 0,
    split     BIGINT NOT NULL DEFAULT 0,
    ended     BIGINT NOT NULL DEFAULT 0,        -- attempts that were committed, failed or lost
    row_count BIGINT NOT NULL DEFAULT 0,        -- over committed shards: rows,
    truncated BIGINT NOT NULL DEFAULT 0,        -- rows cut to the maximum length,
    tokens    BIGINT NOT NULL DEFAULT 0,        -- tokens fed to the model,
    busy_ms   BIGINT NOT NULL DEFAULT 0,        -- time from grant to commit
    PRIMARY KEY (job_id, slot)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

-- Rejected rows of committed shards by reason, in slots too.
CREATE TABLE job_reject (
    job_id    UUID NOT NULL,
    slot      BIGINT NOT NULL,
    reason    TEXT NOT NULL,
    row_count BIGINT NOT NULL,
    PRIMARY KEY (job_id, slot, reason)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

-- Which coordinator does the upkeep. Only a saving: every statement of the upkeep is a compare-and-set all the same.
CREATE TABLE leader (
    role     TEXT PRIMARY KEY,
    holder   UUID NOT NULL,                     -- a coordinator process
    term     BIGINT NOT NULL,                   -- grows with every change of holder
    until_ms BIGINT NOT NULL                    -- anybody may take it from then on
);
