//! Statements of jobs: submission, planning, status, the end.

/// What a list shows of a spec. NULL where an older coordinator stored the job: then the spec is read after all.
macro_rules! of_spec {
    (sqlite) => {
        "coalesce(j.model_name, json_extract(j.spec, '$.model.name')) AS model_name,
    coalesce(j.source_total, json_array_length(j.spec, '$.sources')) AS source_total"
    };
    (postgres) => {
        "coalesce(j.model_name, j.spec::json #>> '{model,name}') AS model_name,
    coalesce(j.source_total, json_array_length(j.spec::json -> 'sources')) AS source_total"
    };
}

/// The counters of a job: one slot on SQLite, the sum of several on PostgreSQL.
macro_rules! counters {
    (sqlite) => {
        "LEFT JOIN job_count c ON c.job_id = j.job_id AND c.slot = 0"
    };
    (postgres) => {
        "LEFT JOIN LATERAL (SELECT CAST(sum(k.pending) AS BIGINT) AS pending, CAST(sum(k.running) AS BIGINT) AS running,
        CAST(sum(k.committed) AS BIGINT) AS committed, CAST(sum(k.dead) AS BIGINT) AS dead,
        CAST(sum(k.cancelled) AS BIGINT) AS cancelled, CAST(sum(k.split) AS BIGINT) AS split,
        CAST(sum(k.row_count) AS BIGINT) AS row_count, CAST(sum(k.truncated) AS BIGINT) AS truncated,
        CAST(sum(k.tokens) AS BIGINT) AS tokens, CAST(sum(k.reused) AS BIGINT) AS reused
    FROM job_count k WHERE k.job_id = j.job_id) c ON TRUE"
    };
}

/// Which jobs: $1 job; $1 $2 $3 time of submission and id that come after, most; the same and $4 owner; $1 most.
macro_rules! page {
    (one) => {
        "SELECT job_id FROM job WHERE job_id = $1"
    };
    (newest) => {
        "SELECT job_id FROM job WHERE (submitted_ms, job_id) < ($1, $2)
    ORDER BY submitted_ms DESC, job_id DESC LIMIT $3"
    };
    (owned) => {
        "SELECT job_id FROM job WHERE owner = $4 AND (submitted_ms, job_id) < ($1, $2)
    ORDER BY submitted_ms DESC, job_id DESC LIMIT $3"
    };
    (active) => {
        "SELECT job_id FROM job WHERE state IN ('planning', 'running', 'finalizing', 'cancelling')
    ORDER BY submitted_ms DESC, job_id DESC LIMIT $1"
    };
}

/// The status of jobs, newest first, without their specs. The page comes first, so that nothing is read of other jobs.
macro_rules! briefs {
    ($page:ident, $database:ident) => {
        concat!(
            "-- briefs_",
            stringify!($page),
            "
WITH page AS MATERIALIZED (",
            page!($page),
            "),
fleet AS MATERIALIZED (
    SELECT revision, count(*) AS workers FROM session WHERE state = 'live' AND NOT quarantined GROUP BY revision)
SELECT j.job_id, j.state, j.paused, j.reason, j.submitted_ms, j.rows_planned, j.manifest_key,
    j.generation, j.pause_reason, j.copies, j.owner, ",
            of_spec!($database),
            ",
    (SELECT count(*) FROM session WHERE state = 'live') AS workers,
    (SELECT count(*) FROM session WHERE state = 'live' AND quarantined) AS workers_quarantined,
    CAST(coalesce((SELECT sum(v.workers) FROM fleet v WHERE v.revision < j.revision), 0) AS BIGINT) AS workers_outdated,
    (SELECT max(ended_ms) FROM session WHERE state = 'dead') AS last_session_ms,
    coalesce(c.pending, 0) AS pending, coalesce(c.running, 0) AS running, coalesce(c.committed, 0) AS committed,
    coalesce(c.dead, 0) AS dead, coalesce(c.cancelled, 0) AS cancelled, coalesce(c.split, 0) AS split,
    coalesce(c.row_count, 0) AS row_count, coalesce(c.truncated, 0) AS truncated, coalesce(c.tokens, 0) AS tokens,
    coalesce(c.reused, 0) AS reused,
    coalesce(f.rows_in_flight, 0) AS rows_in_flight, coalesce(f.tokens_in_flight, 0) AS tokens_in_flight
FROM page p CROSS JOIN job j
",
            counters!($database),
            "
LEFT JOIN (SELECT job_id, CAST(sum(rows_done) AS BIGINT) AS rows_in_flight,
        CAST(sum(tokens_done) AS BIGINT) AS tokens_in_flight
    FROM attempt WHERE state = 'live' GROUP BY job_id) f ON f.job_id = j.job_id
WHERE j.job_id = p.job_id
ORDER BY j.submitted_ms DESC, j.job_id DESC"
        )
    };
}

/// Rejected rows of the same jobs, by reason.
macro_rules! rejects {
    ($page:ident) => {
        concat!(
            "-- rejects_",
            stringify!($page),
            "
WITH page AS MATERIALIZED (",
            page!($page),
            ")
SELECT r.job_id, r.reason, CAST(sum(r.row_count) AS BIGINT) AS row_count
FROM page p CROSS JOIN job_reject r WHERE r.job_id = p.job_id
GROUP BY r.job_id, r.reason HAVING sum(r.row_count) > 0"
        )
    };
}

/// The statements that read a page of jobs: their status, and their rejected rows.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) struct PageStatements {
    pub(in crate::store) briefs: &'static str,
    pub(in crate::store) rejects: &'static str,
}

/// For each kind of page, see `page!`.
#[derive(Debug)]
pub(in crate::store) struct Pages {
    pub(in crate::store) one: PageStatements,
    pub(in crate::store) newest: PageStatements,
    pub(in crate::store) owned: PageStatements,
    pub(in crate::store) active: PageStatements,
}

macro_rules! pages {
    ($database:ident) => {
        Pages {
            one: PageStatements { briefs: briefs!(one, $database), rejects: rejects!(one) },
            newest: PageStatements { briefs: briefs!(newest, $database), rejects: rejects!(newest) },
            owned: PageStatements { briefs: briefs!(owned, $database), rejects: rejects!(owned) },
            active: PageStatements { briefs: briefs!(active, $database), rejects: rejects!(active) },
        }
    };
}
pub(in crate::store) const PAGES: Pages = pages!(sqlite);
pub(in crate::store) const PG_PAGES: Pages = pages!(postgres);

/// $1 job: its place in lists.
pub(in crate::store) const JOB_PLACE: &str = "-- job_place
SELECT submitted_ms FROM job WHERE job_id = $1";

/// $1 job, $2 revision.
pub(in crate::store) const JOB_SPEC: &str = "-- job_spec
SELECT spec FROM job WHERE job_id = $1 AND revision <= $2";

/// No parameters.
pub(in crate::store) const JOBS_BY_STATE: &str = "-- jobs_by_state
SELECT state, count(*) AS jobs FROM job GROUP BY state";
/// No parameters.
pub(in crate::store) const TALLY: &str = "-- tally
SELECT CAST(coalesce(sum(row_count), 0) AS BIGINT) AS row_count, CAST(coalesce(sum(tokens), 0) AS BIGINT) AS tokens,
    (SELECT CAST(coalesce(sum(r.row_count), 0) AS BIGINT) FROM job_reject r) AS rejected,
    (SELECT count(*) FROM session WHERE state = 'live') AS workers,
    (SELECT count(*) FROM session WHERE state = 'live' AND quarantined) AS workers_quarantined
FROM job_count";
/// No parameters.
pub(in crate::store) const PING: &str = "-- ping
SELECT CAST(1 AS BIGINT)";

/// $1 job.
pub(in crate::store) const JOB_STATE: &str = "-- job_state
SELECT state FROM job WHERE job_id = $1";

/// $1 job.
pub(in crate::store) const JOB_DIGEST: &str = "-- job_digest
SELECT spec_digest FROM job WHERE job_id = $1";

/// $1 imposed time.
pub(in crate::store) const PG_NOW: &str = "-- now
SELECT encaje_now_ms($1)";

/// $1 job, $2 digest, $3 spec, $4 task, $5 now, $6 owner, $7 holes are allowed, $8 name of the model, $9 sources,
/// $10 revision.
pub(in crate::store) const SUBMIT_JOB: &str = "-- submit_job
INSERT INTO job (job_id, spec_digest, spec, task, state, submitted_ms, owner, allow_partial, model_name, source_total,
    revision)
VALUES ($1, $2, $3, $4, 'planning', $5, $6, $7, $8, $9, $10) ON CONFLICT (job_id) DO NOTHING";
/// As above, with $5 imposed time.
pub(in crate::store) const PG_SUBMIT_JOB: &str = "-- submit_job
INSERT INTO job (job_id, spec_digest, spec, task, state, submitted_ms, owner, allow_partial, model_name, source_total,
    revision)
VALUES ($1, $2, $3, $4, 'planning', encaje_now_ms($5), $6, $7, $8, $9, $10) ON CONFLICT (job_id) DO NOTHING";
/// $1 job, $2 spec, $3 task, $4 revision. The digest stays: earlier outputs are no part of it.
pub(in crate::store) const TAKE_REUSE: &str = "-- take_reuse
UPDATE job SET spec = $2, task = $3, revision = CASE WHEN revision < $4 THEN $4 ELSE revision END
WHERE job_id = $1 AND state IN ('planning', 'running', 'failed')";
/// $1 owner or NULL for all.
pub(in crate::store) const ACTIVE_JOBS: &str = "-- active_jobs
SELECT count(*) AS jobs FROM job
WHERE state IN ('planning', 'running', 'finalizing', 'cancelling') AND (CAST($1 AS TEXT) IS NULL OR owner = $1)";

/// $1 revision.
pub(in crate::store) const JOBS_TO_PLAN: &str = "-- jobs_to_plan
SELECT job_id FROM job WHERE state = 'planning' AND revision <= $1 ORDER BY submitted_ms, job_id";
/// $1 job.
pub(in crate::store) const JOB_TO_PLAN: &str = "-- job_to_plan
SELECT job_id, spec, source_count, cursor_source, cursor_position, cursor_row
FROM job WHERE job_id = $1 AND state = 'planning'";
/// $1 job, $2 index of the source.
pub(in crate::store) const SOURCE_TASK: &str = "-- source_task
SELECT j.task, o.planned, j.revision FROM job j JOIN source o ON o.job_id = j.job_id
WHERE j.job_id = $1 AND o.source_index = $2";

/// $1 job.
pub(in crate::store) const SOURCES: &str = "-- sources
SELECT planned FROM source WHERE job_id = $1 ORDER BY source_index";

/// $1 job, $2 number of sources.
pub(in crate::store) const CLAIM_SOURCES: &str = "-- claim_sources
UPDATE job SET source_count = $2 WHERE job_id = $1 AND state = 'planning' AND source_count IS NULL";
/// $1 job, $2 position, $3 URI, $4 planned source.
pub(in crate::store) const INSERT_SOURCE: &str = "-- insert_source
INSERT INTO source (job_id, source_index, uri, planned) VALUES ($1, $2, $3, $4)";
/// $1 job, $2 number of sources, $3 URIs, $4 planned sources.
pub(in crate::store) const PG_SET_SOURCES: &str = "-- set_sources
WITH claimed AS (
    UPDATE job SET source_count = $2 WHERE job_id = $1 AND state = 'planning' AND source_count IS NULL
    RETURNING job_id),
stored AS (
    INSERT INTO source (job_id, source_index, uri, planned)
    SELECT c.job_id, u.ordinal - 1, u.uri, u.planned
    FROM claimed c, unnest($3::text[], $4::text[]) WITH ORDINALITY AS u (uri, planned, ordinal))
SELECT count(*) FROM claimed";

/// $1 job, $2 $3 $4 expected cursor, $5 $6 $7 next cursor, $8 shards, $9 rows, $10 done.
pub(in crate::store) const ADVANCE_CURSOR: &str = "-- advance_cursor
UPDATE job SET cursor_source = $5, cursor_position = $6, cursor_row = $7, shard_count = shard_count + $8,
    rows_planned = rows_planned + $9, planned = $10, state = CASE WHEN $10 THEN 'running' ELSE 'planning' END
WHERE job_id = $1 AND state = 'planning' AND source_count IS NOT NULL
    AND cursor_source = $2 AND cursor_position = $3 AND cursor_row = $4
RETURNING shard_count - $8 AS first_index";
/// $1 job, $2 index, $3 source, $4 re-cut key, $5 unit, $6 start, $7 end, $8 first row, $9 rows, $10 digest of the input.
pub(in crate::store) const INSERT_SHARD: &str = "-- insert_shard
INSERT INTO shard (job_id, shard_index, source_index, recut_key, range_unit, range_start, range_end, first_row, row_count,
    in_blake3)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
/// $1 to $10 as in `advance_cursor`, $11 sources, $12 re-cut keys, $13 units, $14 starts, $15 ends, $16 first rows,
/// $17 rows, $18 digests of the input.
pub(in crate::store) const PG_INSERT_SHARDS: &str = "-- insert_shards
WITH advanced AS (
    UPDATE job SET cursor_source = $5, cursor_position = $6, cursor_row = $7, shard_count = shard_count + $8,
        rows_planned = rows_planned + $9, planned = $10, state = CASE WHEN $10 THEN 'running' ELSE 'planning' END
    WHERE job_id = $1 AND state = 'planning' AND source_count IS NOT NULL
        AND cursor_source = $2 AND cursor_position = $3 AND cursor_row = $4
    RETURNING job_id, shard_count - $8 AS first_index),
stored AS (
    INSERT INTO shard (job_id, shard_index, source_index, recut_key, range_unit, range_start, range_end, first_row,
        row_count, in_blake3)
    SELECT a.job_id, a.first_index + u.ordinal - 1, u.source_index, u.recut_key, u.range_unit, u.range_start,
        u.range_end, u.first_row, u.row_count, u.in_blake3
    FROM advanced a, unnest($11::bigint[], $12::text[], $13::text[], $14::bigint[], $15::bigint[], $16::bigint[],
        $17::bigint[], $18::text[]) WITH ORDINALITY AS u (source_index, recut_key, range_unit, range_start, range_end,
        first_row, row_count, in_blake3, ordinal)
    RETURNING job_id),
counted AS (
    INSERT INTO job_count AS c (job_id, slot, pending)
    SELECT job_id, encaje_slot(), count(*) FROM stored GROUP BY job_id
    ON CONFLICT (job_id, slot) DO UPDATE SET pending = c.pending + excluded.pending)
SELECT count(*) FROM advanced";

/// $1 job.
pub(in crate::store) const CANCEL_JOB: &str = "-- cancel_job
UPDATE job SET state = 'cancelling' WHERE job_id = $1 AND state IN ('planning', 'running', 'finalizing')";

/// $1 job, $2 paused.
pub(in crate::store) const PAUSE_JOB: &str = "-- pause_job
UPDATE job SET paused = $2, pause_reason = NULL, judged_from = coalesce((
    SELECT sum(c.ended) FROM job_count c WHERE c.job_id = $1), 0)
WHERE job_id = $1 AND state IN ('planning', 'running', 'finalizing')";

/// $1 job, $2 reason.
pub(in crate::store) const TRIP_JOB: &str = "-- trip_job
UPDATE job SET paused = TRUE, pause_reason = $2
WHERE job_id = $1 AND state IN ('planning', 'running') AND NOT paused";

/// $1 job, $2 reason.
pub(in crate::store) const FAIL_JOB: &str = "-- fail_job
UPDATE job SET state = 'failed', reason = $2 WHERE job_id = $1 AND state IN ('planning', 'running', 'finalizing')";

/// Where a manifest may list the dead shards, the one without them has another name.
macro_rules! retry_job {
    () => {
        "UPDATE job SET reason = NULL, manifest_key = NULL, manifest_digest = NULL,
    generation = generation + CASE WHEN allow_partial AND (
        SELECT sum(c.dead) FROM job_count c WHERE c.job_id = $1) > 0 THEN 1 ELSE 0 END,
    state = CASE WHEN planned THEN 'running' ELSE 'planning' END
WHERE job_id = $1 AND (state IN ('planning', 'running', 'failed') OR (state = 'succeeded' AND (
    SELECT sum(c.dead) FROM job_count c WHERE c.job_id = $1) > 0))"
    };
}

/// $1 job.
pub(in crate::store) const RETRY_JOB: &str = concat!("-- retry_job\n", retry_job!());
/// $1 job, $2 now.
pub(in crate::store) const REVIVE_SHARDS: &str = "-- revive_shards
UPDATE shard SET state = 'pending', not_before_ms = $2, failures = 0, workers_lost = 0
WHERE job_id = $1 AND state = 'dead'";
/// $1 job, $2 imposed time.
pub(in crate::store) const PG_RETRY_JOB: &str = concat!(
    "-- retry_job
WITH revived AS (",
    retry_job!(),
    "
    RETURNING job_id),
moved AS (
    UPDATE shard s SET state = 'pending', not_before_ms = encaje_now_ms($2), failures = 0, workers_lost = 0
    FROM revived r WHERE s.job_id = r.job_id AND s.state = 'dead'
    RETURNING s.job_id),
counted AS (
    INSERT INTO job_count AS c (job_id, slot, pending, dead)
    SELECT job_id, encaje_slot(), count(*), -count(*) FROM moved GROUP BY job_id
    ON CONFLICT (job_id, slot) DO UPDATE SET pending = c.pending + excluded.pending, dead = c.dead + excluded.dead)
SELECT count(*) FROM revived"
);

/// $1 job.
pub(in crate::store) const REPAIR_JOB: &str = "-- repair_job
UPDATE job SET reason = NULL, manifest_key = NULL, manifest_digest = NULL,
    generation = generation + CASE WHEN state IN ('finalizing', 'succeeded', 'failed') THEN 1 ELSE 0 END,
    state = CASE WHEN planned THEN 'running' ELSE 'planning' END
WHERE job_id = $1 AND state IN ('planning', 'running', 'finalizing', 'succeeded', 'failed')";
/// $1 job, $2 index.
pub(in crate::store) const REPAIRABLE_SHARD: &str = "-- repairable_shard
SELECT s.job_id, s.winner_epoch AS epoch, s.row_count, s.out_rejects, s.out_truncated, s.out_tokens,
    coalesce(s.out_reused, 0) AS out_reused
FROM shard s JOIN job j ON j.job_id = s.job_id
WHERE s.job_id = $1 AND s.shard_index = $2 AND s.state = 'committed' AND j.state NOT IN ('cancelling', 'cancelled')";
/// $1 job, $2 index, $3 epoch of the winner, $4 now, $5 reason.
pub(in crate::store) const UNCOMMIT_WINNER: &str = "-- uncommit_winner
UPDATE attempt SET state = 'revoked', ended_ms = $4, end_reason = $5
WHERE job_id = $1 AND shard_index = $2 AND epoch = $3 AND state = 'committed'";
/// $1 job, $2 index, $3 epoch of the winner, $4 now, $5 reason.
pub(in crate::store) const REPAIR_SHARD: &str = "-- repair_shard
UPDATE shard SET state = 'pending', not_before_ms = $4, failures = 0, workers_lost = 0, last_error = $5,
    winner_epoch = NULL, out_key = NULL, out_bytes = NULL, out_blake3 = NULL, out_rejects = NULL,
    out_truncated = NULL, out_tokens = NULL, out_reused = NULL
WHERE job_id = $1 AND shard_index = $2 AND winner_epoch = $3 AND state = 'committed'";
/// $1 job, $2 rows, $3 truncated, $4 tokens, $5 reused: of a shard whose commit is taken back.
pub(in crate::store) const UNCOUNT_COMMIT: &str = "-- uncount_commit
UPDATE job_count SET pending = pending + 1, committed = committed - 1, row_count = row_count - $2,
    truncated = truncated - $3, tokens = tokens - $4, reused = reused - $5
WHERE job_id = $1 AND slot = 0";
/// $1 job, $2 indexes, $3 imposed time, $4 reason.
pub(in crate::store) const PG_REPAIR_SHARDS: &str = "-- repair_shards
WITH clock AS MATERIALIZED (SELECT encaje_now_ms($3) AS now_ms),
wanted AS MATERIALIZED (SELECT DISTINCT u.shard_index FROM unnest($2::bigint[]) AS u (shard_index)),
revived AS (
    UPDATE job SET reason = NULL, manifest_key = NULL, manifest_digest = NULL,
        generation = generation + CASE WHEN state IN ('finalizing', 'succeeded', 'failed') THEN 1 ELSE 0 END,
        state = CASE WHEN planned THEN 'running' ELSE 'planning' END
    WHERE job_id = $1 AND state IN ('planning', 'running', 'finalizing', 'succeeded', 'failed')
        AND EXISTS (SELECT 1 FROM wanted w JOIN shard s ON s.job_id = $1 AND s.shard_index = w.shard_index
            WHERE s.state = 'committed')
    RETURNING job_id),
chosen AS MATERIALIZED (
    SELECT s.job_id, s.shard_index, s.winner_epoch, s.row_count, s.out_rejects, s.out_truncated, s.out_tokens,
        s.out_reused
    FROM revived r JOIN wanted w ON true JOIN shard s ON s.job_id = r.job_id AND s.shard_index = w.shard_index
    WHERE s.state = 'committed' ORDER BY s.shard_index FOR UPDATE OF s),
demoted AS (
    UPDATE attempt a SET state = 'revoked', ended_ms = clock.now_ms, end_reason = $4
    FROM chosen c, clock
    WHERE a.job_id = c.job_id AND a.shard_index = c.shard_index AND a.epoch = c.winner_epoch
        AND a.state = 'committed'),
moved AS (
    UPDATE shard s SET state = 'pending', not_before_ms = clock.now_ms, failures = 0, workers_lost = 0,
        last_error = $4, winner_epoch = NULL, out_key = NULL, out_bytes = NULL, out_blake3 = NULL,
        out_rejects = NULL, out_truncated = NULL, out_tokens = NULL, out_reused = NULL
    FROM chosen c, clock WHERE s.job_id = c.job_id AND s.shard_index = c.shard_index AND s.state = 'committed'
    RETURNING c.*),
counted AS (
    INSERT INTO job_count AS c (job_id, slot, pending, committed, row_count, truncated, tokens, reused)
    SELECT job_id, encaje_slot(), count(*), -count(*), -sum(row_count)::bigint, -sum(out_truncated)::bigint,
        -sum(out_tokens)::bigint, -coalesce(sum(out_reused), 0)::bigint
    FROM moved GROUP BY job_id
    ON CONFLICT (job_id, slot) DO UPDATE SET pending = c.pending + excluded.pending,
        committed = c.committed + excluded.committed, row_count = c.row_count + excluded.row_count,
        truncated = c.truncated + excluded.truncated, tokens = c.tokens + excluded.tokens,
        reused = c.reused + excluded.reused),
rejected AS (
    INSERT INTO job_reject AS r (job_id, slot, reason, row_count)
    SELECT m.job_id, encaje_slot(), e.key, -sum(e.value::bigint)::bigint
    FROM moved m, json_each_text(m.out_rejects::json) e GROUP BY m.job_id, e.key ORDER BY e.key
    ON CONFLICT (job_id, slot, reason) DO UPDATE SET row_count = r.row_count + excluded.row_count)
SELECT count(*) FROM moved";

/// All shards are committed, or, where holes are allowed, some are and the others are dead. Of the `job` in the argument.
macro_rules! is_complete {
    ($job:literal) => {
        concat!(
            "coalesce((SELECT sum(c.pending + c.running + c.cancelled)
        + CASE WHEN ",
            $job,
            ".allow_partial AND sum(c.committed) > 0 THEN 0 ELSE sum(c.dead) END
    FROM job_count c WHERE c.job_id = ",
            $job,
            ".job_id), 0) = 0"
        )
    };
}

/// $1 revision.
pub(in crate::store) const JOBS_TO_FINALIZE: &str = concat!(
    "-- jobs_to_finalize
SELECT j.job_id FROM job j
WHERE j.revision <= $1 AND (j.state = 'finalizing' OR (j.state = 'running' AND ",
    is_complete!("j"),
    "))
ORDER BY j.submitted_ms, j.job_id"
);

/// $1 job. A retry that came first has begun another generation: its shards, which PostgreSQL does not see here where it
/// waited for the row, are pending.
pub(in crate::store) const BEGIN_FINALIZE: &str = concat!(
    "-- begin_finalize
UPDATE job SET state = 'finalizing'
WHERE job_id = $1 AND (state = 'finalizing' OR (state = 'running'
    AND generation = (SELECT g.generation FROM job g WHERE g.job_id = $1) AND ",
    is_complete!("job"),
    "))"
);

/// $1 job, $2 reason, $3 generation of the manifest that cannot be written.
pub(in crate::store) const FAIL_FINALIZE: &str = "-- fail_finalize
UPDATE job SET state = 'failed', reason = $2 WHERE job_id = $1 AND state = 'finalizing' AND generation = $3";

/// $1 job, $2 key of the manifest, $3 its digest, $4 its generation.
pub(in crate::store) const FINISH_JOB: &str = "-- finish_job
UPDATE job SET state = 'succeeded', manifest_key = coalesce(manifest_key, $2), manifest_digest = $3
WHERE job_id = $1 AND ((state = 'finalizing' AND generation = $4) OR (state = 'succeeded' AND manifest_digest = $3))";

/// $1 job, $2 after index, $3 limit.
pub(in crate::store) const WINNERS: &str = "-- winners
SELECT shard_index, source_index, recut_key, range_unit, range_start, range_end, first_row, row_count,
    out_key, out_bytes, out_blake3, in_blake3, out_rejects, out_truncated, out_tokens, coalesce(out_reused, 0) AS out_reused
FROM shard WHERE job_id = $1 AND shard_index > $2 AND state = 'committed'
ORDER BY shard_index LIMIT $3";

/// $1 job, $2 after index, $3 limit: of shards as they were cut, in the order of index and row alike.
pub(in crate::store) const WINNERS_WHOLE: &str = "-- winners_whole
SELECT shard_index, source_index, recut_key, range_unit, range_start, range_end, first_row, row_count,
    out_key, out_bytes, out_blake3, in_blake3, out_rejects, out_truncated, out_tokens, coalesce(out_reused, 0) AS out_reused
FROM shard WHERE job_id = $1 AND shard_index > $2 AND state = 'committed' AND part_of IS NULL
ORDER BY shard_index LIMIT $3";
/// $1 job, $2 after first row, $3 limit: of halves, in the order of rows. A half has rows, so that two never begin at one.
pub(in crate::store) const WINNERS_HALVES: &str = "-- winners_halves
SELECT shard_index, source_index, recut_key, range_unit, range_start, range_end, first_row, row_count,
    out_key, out_bytes, out_blake3, in_blake3, out_rejects, out_truncated, out_tokens, coalesce(out_reused, 0) AS out_reused
FROM shard WHERE job_id = $1 AND part_of IS NOT NULL AND first_row > $2 AND state = 'committed'
ORDER BY first_row LIMIT $3";

/// $1 job, $2 after first row, $3 limit: rows of dead shards, in order. Two that have rows never begin at one.
pub(in crate::store) const HOLES: &str = "-- holes
SELECT source_index, first_row, row_count, last_error FROM shard
WHERE job_id = $1 AND state = 'dead' AND first_row > $2 AND row_count > 0 ORDER BY first_row LIMIT $3";

/// $1 revision: jobs of which only dead shards are left, without allowing holes, with the first of these.
pub(in crate::store) const EXHAUSTED_JOBS: &str = "-- exhausted_jobs
SELECT j.job_id, c.dead, s.shard_index, s.last_error
FROM job j
JOIN (SELECT job_id, CAST(sum(dead) AS BIGINT) AS dead, sum(pending + running) AS unfinished,
        sum(committed) AS committed
    FROM job_count GROUP BY job_id) c ON c.job_id = j.job_id
JOIN shard s ON s.job_id = j.job_id AND s.shard_index = (
    SELECT min(d.shard_index) FROM shard d WHERE d.job_id = j.job_id AND d.state = 'dead')
WHERE j.state = 'running' AND c.unfinished = 0 AND c.dead > 0 AND NOT (j.allow_partial AND c.committed > 0)
    AND j.revision <= $1
ORDER BY j.submitted_ms, j.job_id";

/// $1 job, $2 reason.
pub(in crate::store) const EXHAUST_JOB: &str = "-- exhaust_job
UPDATE job SET state = 'failed', reason = $2
WHERE job_id = $1 AND state = 'running'
    AND (SELECT sum(c.pending + c.running) FROM job_count c WHERE c.job_id = $1) = 0
    AND (SELECT sum(c.dead) FROM job_count c WHERE c.job_id = $1) > 0
    AND NOT (allow_partial AND (SELECT sum(c.committed) FROM job_count c WHERE c.job_id = $1) > 0)";

/// No parameters.
pub(in crate::store) const SETTLE_JOBS: &str = "-- settle_jobs
UPDATE job SET state = 'cancelled'
WHERE state = 'cancelling' AND coalesce((
    SELECT sum(c.pending + c.running) FROM job_count c WHERE c.job_id = job.job_id), 0) = 0";

/// $1 id of a storage: stored once, and never changed.
pub(in crate::store) const ADOPT_STORAGE: &str = "-- adopt_storage
INSERT INTO storage (row_number, storage_id) VALUES (1, $1) ON CONFLICT DO NOTHING";
/// No parameters.
pub(in crate::store) const STORAGE_ID: &str = "-- storage_id
SELECT storage_id FROM storage";
