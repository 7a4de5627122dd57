-- Jobs, sources, shards, attempts, sessions. Twin of ../postgres/0001_jobs.sql: same tables, same columns, same checks.
-- Released files never change; the next change is the next number, in both folders.
-- Times are milliseconds since the Unix epoch. Identifiers are UUIDs, 16 bytes each.

CREATE TABLE job (
    job_id          BLOB PRIMARY KEY,           -- made by the client: submitting twice is submitting once
    spec_digest     TEXT NOT NULL,              -- BLAKE3 of the canonical spec: same id with another digest is refused
    spec            TEXT NOT NULL,              -- the whole JobSpec, JSON
    task            TEXT NOT NULL,              -- the part of it that every grant carries, JSON
    state           TEXT NOT NULL CHECK (state IN
                        ('planning', 'running', 'finalizing', 'succeeded', 'failed', 'cancelling', 'cancelled')),
    paused          INTEGER NOT NULL DEFAULT 0, -- no new leases while set
    pause_reason    TEXT,                       -- why the coordinator itself paused it
    copies          INTEGER NOT NULL DEFAULT 0, -- second attempts that were begun beside slow ones
    judged_from     INTEGER NOT NULL DEFAULT 0, -- attempts that had ended when it was last resumed: the breaker forgets them
    planned         INTEGER NOT NULL DEFAULT 0, -- all shards are cut
    reason          TEXT,                       -- why it failed
    submitted_ms    INTEGER NOT NULL,           -- order of service
    source_count    INTEGER,                    -- number of sources, once they are inspected
    shard_count     INTEGER NOT NULL DEFAULT 0, -- shards cut so far; the index of the next one
    rows_planned    INTEGER NOT NULL DEFAULT 0, -- records in them
    cursor_source   INTEGER NOT NULL DEFAULT 0, -- where cutting goes on: index of the source,
    cursor_position INTEGER NOT NULL DEFAULT 0, -- byte or row in it,
    cursor_row      INTEGER NOT NULL DEFAULT 0, -- row number over the whole corpus
    manifest_key    TEXT,                       -- key of the manifest in storage
    manifest_digest TEXT,                       -- BLAKE3 of the manifest
    generation      INTEGER NOT NULL DEFAULT 1 CHECK (generation > 0), -- of the manifest; grows with every repair
    owner           TEXT,                       -- who submitted it, where callers are known
    CHECK ((state = 'failed') = (reason IS NOT NULL)),
    CHECK (pause_reason IS NULL OR paused),
    CHECK ((state = 'succeeded') = (manifest_key IS NOT NULL)),
    CHECK ((manifest_key IS NULL) = (manifest_digest IS NULL)),
    CHECK (state <> 'planning' OR NOT planned),
    CHECK (state NOT IN ('running', 'finalizing', 'succeeded') OR planned)
) STRICT;
-- Leases ask for the active jobs, in order, many times a second; finished jobs are many.
CREATE UNIQUE INDEX job_active ON job (submitted_ms, job_id) WHERE state IN ('planning', 'running');

CREATE TABLE source (
    job_id       BLOB NOT NULL REFERENCES job,
    source_index INTEGER NOT NULL,              -- position in the corpus
    uri          TEXT NOT NULL,                 -- for people; the truth is in planned
    planned      TEXT NOT NULL,                 -- PlannedSource with its fingerprint, JSON
    PRIMARY KEY (job_id, source_index)
) STRICT;

-- Shards and attempts have no foreign keys: rows are only ever inserted by statements that hold their parent, and a
-- check per inserted shard would double the cost of planning.
CREATE TABLE shard (
    job_id        BLOB NOT NULL,
    shard_index   INTEGER NOT NULL,             -- position in input order, from 0
    source_index  INTEGER NOT NULL,             -- the source that the slice belongs to
    recut_key     TEXT,                         -- key of a re-cut piece, where the source itself is not read
    range_unit    TEXT NOT NULL CHECK (range_unit IN ('bytes', 'rows')),
    range_start   INTEGER NOT NULL,             -- first byte or record
    range_end     INTEGER NOT NULL,             -- one past the last
    first_row     INTEGER NOT NULL,             -- row number of the first record, over the whole corpus
    row_count     INTEGER NOT NULL,             -- records in it
    slice_first_row INTEGER,                        -- of a half: first record of the slice, which is read as a whole,
    slice_row_count INTEGER,                        -- and records in it
    part_of       INTEGER,                          -- of a half: the shard that was split
    convicted     INTEGER NOT NULL DEFAULT 0, -- its only row is rejected, not embedded
    state         TEXT NOT NULL DEFAULT 'pending' CHECK (state IN
                      ('pending', 'running', 'committed', 'dead', 'cancelled', 'split')),
    epoch         INTEGER NOT NULL DEFAULT 0,   -- fencing number of the latest lease; only ever grows
    live          INTEGER NOT NULL DEFAULT 0,    -- live attempts: one, or two where a copy runs
    failures      INTEGER NOT NULL DEFAULT 0,   -- counted failures since the last retry
    workers_lost  INTEGER NOT NULL DEFAULT 0,   -- workers lost since the last retry
    not_before_ms INTEGER NOT NULL DEFAULT 0,   -- no lease of a pending shard before
    last_error    TEXT,                         -- what went wrong last
    winner_epoch  INTEGER,                      -- epoch of the attempt that won
    out_key       TEXT,                         -- its file: key in storage,
    out_bytes     INTEGER,                      -- size,
    out_blake3    TEXT,                         -- digest,
    in_blake3     TEXT,                         -- digest of the input that was read; outlives a repair,
    out_rejects   TEXT,                         -- rejects by reason, JSON,
    out_truncated INTEGER,                      -- rows cut to the maximum length,
    out_tokens    INTEGER,                      -- tokens fed to the model
    PRIMARY KEY (job_id, shard_index),
    CHECK (range_start <= range_end AND row_count >= 0 AND epoch >= 0 AND failures >= 0 AND workers_lost >= 0),
    CHECK ((state = 'running') = (live > 0) AND live BETWEEN 0 AND 2 AND live <= epoch),
    CHECK ((slice_first_row IS NULL) = (part_of IS NULL) AND (slice_row_count IS NULL) = (part_of IS NULL)),
    CHECK (NOT convicted OR row_count = 1),
    CHECK ((state = 'committed') = (winner_epoch IS NOT NULL)),
    CHECK (winner_epoch IS NULL OR winner_epoch <= epoch),
    CHECK ((winner_epoch IS NULL) = (out_key IS NULL)),
    CHECK (winner_epoch IS NULL OR
           (out_bytes IS NOT NULL AND out_blake3 IS NOT NULL AND in_blake3 IS NOT NULL
            AND out_rejects IS NOT NULL AND out_truncated IS NOT NULL AND out_tokens IS NOT NULL))
) STRICT;
-- Finished shards stay out of what leases walk over.
CREATE INDEX shard_pending ON shard (job_id, shard_index) WHERE state = 'pending';
-- Halves come after all others by index, and belong among them by row.
CREATE INDEX shard_halves ON shard (job_id, first_row, shard_index) WHERE part_of IS NOT NULL;
-- What workers may have died of is leased alone; it is rare.
CREATE INDEX shard_suspect ON shard (job_id, shard_index)
    WHERE state = 'pending' AND (workers_lost > 0 OR part_of IS NOT NULL OR convicted);

CREATE TABLE attempt (
    job_id      BLOB NOT NULL,
    shard_index INTEGER NOT NULL,
    epoch       INTEGER NOT NULL CHECK (epoch > 0),
    attempt_id  BLOB NOT NULL,                  -- random part of the output key
    session_id  BLOB NOT NULL,                  -- who holds or held the lease
    request_id  BLOB NOT NULL,                  -- the request that it answered
    state       TEXT NOT NULL CHECK (state IN
                    ('live', 'committed', 'failed', 'released', 'expired', 'revoked', 'lost_race',
                    'garbage')),
    granted_ms  INTEGER NOT NULL,
    is_copy     INTEGER NOT NULL DEFAULT 0,   -- begun beside a slow one
    ended_ms    INTEGER,
    end_reason  TEXT,                           -- why it ended, in words, unless it won
    class       TEXT,                           -- of a failure or loss
    ended_before INTEGER,                          -- and how many attempts of the job had ended then
    rows_done   INTEGER NOT NULL DEFAULT 0,     -- progress as of the last heartbeat
    tokens_done INTEGER NOT NULL DEFAULT 0,
    deleted_ms  INTEGER,                        -- when the object of a garbage attempt was deleted
    PRIMARY KEY (job_id, shard_index, epoch),
    CHECK ((state = 'live') = (ended_ms IS NULL)),
    CHECK (deleted_ms IS NULL OR state = 'garbage')
) STRICT;
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
    session_id   BLOB PRIMARY KEY,
    name         TEXT NOT NULL,                 -- host and process, for people
    devices      TEXT NOT NULL,                 -- JSON list
    version      TEXT NOT NULL,                 -- of the worker program
    leases_max   INTEGER NOT NULL CHECK (leases_max > 0),
    state        TEXT NOT NULL CHECK (state IN ('live', 'dead')),
    opened_ms    INTEGER NOT NULL,
    expires_ms   INTEGER NOT NULL,              -- moved on by every heartbeat; written more often than anything else
    progress_ms  INTEGER NOT NULL,              -- last heartbeat that brought rows, or last lease
    last_request BLOB,                          -- last lease request that was granted something
    quarantined  INTEGER NOT NULL DEFAULT 0,  -- gets nothing any more: it failed at what others could do
    ended_ms     INTEGER,
    end_reason   TEXT,
    CHECK ((state = 'live') = (ended_ms IS NULL)),
    CHECK ((state = 'live') = (end_reason IS NULL))
) STRICT;
CREATE INDEX session_live ON session (session_id) WHERE state = 'live';
CREATE INDEX session_ended ON session (ended_ms) WHERE state = 'dead';

-- Counters of a job. PostgreSQL spreads them over several rows (slots), of which the sum counts; one slot is enough
-- here. Changed in the transaction that changes the shards, so that the sum is always their aggregate.
CREATE TABLE job_count (
    job_id    BLOB NOT NULL,
    slot      INTEGER NOT NULL,
    pending   INTEGER NOT NULL DEFAULT 0,       -- shards by state
    running   INTEGER NOT NULL DEFAULT 0,
    committed INTEGER NOT NULL DEFAULT 0,
    dead      INTEGER NOT NULL DEFAULT 0,
    cancelled INTEGER NOT NULL DEFAULT 0,
    split     INTEGER NOT NULL DEFAULT 0,
    ended     INTEGER NOT NULL DEFAULT 0,       -- attempts that were committed, failed or lost
    row_count INTEGER NOT NULL DEFAULT 0,       -- over committed shards: rows,
    truncated INTEGER NOT NULL DEFAULT 0,       -- rows cut to the maximum length,
    tokens    INTEGER NOT NULL DEFAULT 0,       -- tokens fed to the model,
    busy_ms   INTEGER NOT NULL DEFAULT 0,       -- time from grant to commit
    PRIMARY KEY (job_id, slot)
) STRICT;

-- Rejected rows of committed shards by reason, in slots as above.
CREATE TABLE job_reject (
    job_id    BLOB NOT NULL,
    slot      INTEGER NOT NULL,
    reason    TEXT NOT NULL,
    row_count INTEGER NOT NULL,
    PRIMARY KEY (job_id, slot, reason)
) STRICT;

-- Which coordinator does the upkeep. Only a saving: every statement of the upkeep is a compare-and-set all the same.
CREATE TABLE leader (
    role     TEXT PRIMARY KEY,
    holder   BLOB NOT NULL,                     -- a coordinator process
    term     INTEGER NOT NULL,                   -- grows with every change of holder
    until_ms INTEGER NOT NULL                    -- anybody may take it from then on
) STRICT;
