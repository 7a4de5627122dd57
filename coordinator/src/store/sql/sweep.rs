//! Statements of upkeep: sessions that die, leases that are taken back, jobs that are cancelled, garbage.

/// $1 session or NULL for all, $2 now, $3 reason.
pub(in crate::store) const CLOSE_SESSIONS: &str = "-- close_sessions
UPDATE session SET state = 'dead', ended_ms = $2, end_reason = $3
WHERE state = 'live' AND ($1 IS NULL OR session_id = $1)";
/// $1 sessions or NULL for all, $2 imposed time, $3 reason.
pub(in crate::store) const PG_CLOSE_SESSIONS: &str = "-- close_sessions
UPDATE session SET state = 'dead', ended_ms = encaje_now_ms($2), end_reason = $3
WHERE state = 'live' AND session_id = ANY(coalesce($1::uuid[], ARRAY(SELECT session_id FROM session WHERE state = 'live')))";

/// $1 now, $2 most sessions at once whatever the fleet, $3 or so many per cent of it.
pub(in crate::store) const EXPIRE_SESSIONS: &str = "-- expire_sessions
UPDATE session SET state = 'dead', ended_ms = $1, end_reason = 'missed its heartbeats'
WHERE session_id IN (
    SELECT session_id FROM session WHERE state = 'live' AND expires_ms <= $1 ORDER BY expires_ms, session_id
    LIMIT (SELECT max($2, count(*) * $3 / 100) FROM session WHERE state = 'live'))";
/// $1 imposed time, $2 and $3 as above. A session that is just being granted something is left to the next sweep.
pub(in crate::store) const PG_EXPIRE_SESSIONS: &str = "-- expire_sessions
WITH clock AS MATERIALIZED (SELECT encaje_now_ms($1) AS now_ms),
due AS MATERIALIZED (
    SELECT session_id FROM session, clock
    WHERE state = 'live' AND expires_ms <= clock.now_ms ORDER BY expires_ms, session_id
    LIMIT (SELECT greatest($2, count(*) * $3 / 100) FROM session WHERE state = 'live')
    FOR UPDATE OF session SKIP LOCKED)
UPDATE session s SET state = 'dead', ended_ms = clock.now_ms, end_reason = 'missed its heartbeats'
FROM due, clock WHERE s.session_id = due.session_id AND s.state = 'live'";

/// $1 now, $2 TTL: a fresh start for every live session.
pub(in crate::store) const REBASE_SESSIONS: &str = "-- rebase_sessions
UPDATE session SET expires_ms = $1 + $2, progress_ms = $1 WHERE state = 'live'";
/// $1 imposed time, $2 TTL.
pub(in crate::store) const PG_REBASE_SESSIONS: &str = "-- rebase_sessions
UPDATE session SET expires_ms = t.now_ms + $2, progress_ms = t.now_ms
FROM encaje_now_ms($1) AS t (now_ms) WHERE state = 'live'";
/// $1 latest sensible instant: pauses that were computed by another clock.
pub(in crate::store) const REBASE_PAUSES: &str = "-- rebase_pauses
UPDATE shard SET not_before_ms = $1 WHERE state = 'pending' AND not_before_ms > $1";

/// $1 now, $2 shortest stall, $3 mean shard durations that make a stall: leases without a living, working session.
pub(in crate::store) const LOST_LEASES: &str = "-- lost_leases
SELECT a.job_id, a.shard_index, a.epoch, x.state AS session_state
FROM attempt a INDEXED BY attempt_live JOIN session x ON x.session_id = a.session_id
WHERE a.state = 'live' AND (x.state = 'dead' OR (x.progress_ms + $2 <= $1 AND x.progress_ms + $3 * coalesce((
    SELECT sum(c.busy_ms) / nullif(sum(c.committed), 0) FROM job_count c WHERE c.job_id = a.job_id), 0) <= $1))
ORDER BY a.job_id, a.shard_index, a.epoch";
/// What follows where `lost` (job, index, epoch, reason; locked) are attempts whose workers are lost, `how` is the state
/// they end in, and `budget` says how many may be.
macro_rules! lose {
    ($how:literal) => {
        concat!(
            "
numbered AS MATERIALIZED (
    SELECT l.*, row_number() OVER (PARTITION BY l.job_id ORDER BY l.shard_index, l.epoch) - 1 + coalesce((
        SELECT sum(k.ended)::bigint FROM job_count k WHERE k.job_id = l.job_id), 0) AS ended_before
    FROM lost l),
ended AS (
    UPDATE attempt a SET state = '",
            $how,
            "', ended_ms = clock.now_ms, end_reason = l.reason, class = 'worker_lost', ended_before = l.ended_before
    FROM numbered l, clock
    WHERE a.job_id = l.job_id AND a.shard_index = l.shard_index AND a.epoch = l.epoch AND a.ended_ms IS NULL
    RETURNING a.job_id, a.shard_index, a.epoch, a.end_reason),
hit AS (
    SELECT e.job_id, e.shard_index, count(*) AS lost, (array_agg(e.end_reason ORDER BY e.epoch DESC))[1] AS reason
    FROM ended e GROUP BY e.job_id, e.shard_index),
moved AS (
    UPDATE shard s SET last_error = h.reason, live = s.live - h.lost, not_before_ms = clock.now_ms,
        workers_lost = CASE WHEN s.live = h.lost AND s.workers_lost + h.lost >= b.workers_lost_max
            AND s.row_count = 1 AND NOT s.convicted THEN 0 ELSE s.workers_lost + h.lost END,
        convicted = s.convicted
            OR (s.live = h.lost AND s.workers_lost + h.lost >= b.workers_lost_max AND s.row_count = 1),
        state = CASE
            WHEN s.live > h.lost THEN 'running'
            WHEN s.workers_lost + h.lost
                < CASE WHEN s.part_of IS NOT NULL AND s.row_count > 1 THEN 1 ELSE b.workers_lost_max END THEN 'pending'
            WHEN s.row_count > 1 THEN 'split'
            WHEN s.row_count = 1 AND NOT s.convicted THEN 'pending'
            ELSE 'dead' END
    FROM hit h, clock, budget b
    WHERE s.job_id = h.job_id AND s.shard_index = h.shard_index AND s.state = 'running'
    RETURNING s.*),
cut AS MATERIALIZED (
    SELECT m.*, row_number() OVER (PARTITION BY m.job_id ORDER BY m.shard_index) - 1 AS place
    FROM moved m WHERE m.state = 'split'),
grown AS (
    UPDATE job j SET shard_count = j.shard_count + 2 * c.shards
    FROM (SELECT job_id, count(*) AS shards FROM cut GROUP BY job_id) c WHERE j.job_id = c.job_id
    RETURNING j.job_id, j.shard_count - 2 * c.shards AS first_index),
born AS (
    INSERT INTO shard (job_id, shard_index, source_index, recut_key, range_unit, range_start, range_end, first_row,
        row_count, slice_first_row, slice_row_count, part_of, in_blake3)
    SELECT c.job_id, g.first_index + 2 * c.place + h.half, c.source_index, c.recut_key, c.range_unit, c.range_start,
        c.range_end, c.first_row + h.half * (c.row_count / 2),
        CASE WHEN h.half = 0 THEN c.row_count / 2 ELSE c.row_count - c.row_count / 2 END,
        coalesce(c.slice_first_row, c.first_row), coalesce(c.slice_row_count, c.row_count), c.shard_index,
        c.in_blake3
    FROM cut c JOIN grown g ON g.job_id = c.job_id CROSS JOIN (VALUES (0), (1)) AS h (half)
    RETURNING job_id),
counted AS (
    INSERT INTO job_count AS c (job_id, slot, running, pending, dead, split, ended)
    SELECT u.job_id, encaje_slot(), sum(u.running)::bigint, sum(u.pending)::bigint, sum(u.dead)::bigint,
        sum(u.split)::bigint, sum(u.ended)::bigint
    FROM (
        SELECT e.job_id, 0 AS running, 0 AS pending, 0 AS dead, 0 AS split, 1 AS ended FROM ended e
        UNION ALL
        SELECT m.job_id, -(m.state <> 'running')::int, (m.state = 'pending')::int, (m.state = 'dead')::int,
            (m.state = 'split')::int, 0 FROM moved m
        UNION ALL
        SELECT b.job_id, 0, 1, 0, 0, 0 FROM born b) u
    GROUP BY u.job_id ORDER BY u.job_id
    ON CONFLICT (job_id, slot) DO UPDATE SET running = c.running + excluded.running,
        pending = c.pending + excluded.pending, dead = c.dead + excluded.dead, split = c.split + excluded.split,
        ended = c.ended + excluded.ended)
SELECT count(*) FROM ended"
        )
    };
}

/// $1 imposed time, $2 and $3 as above, $4 most workers lost, $5 reason of the dead, $6 reason of the stuck, $7 reason of
/// closed sessions: what they hold is just being given back, unless that is $8 milliseconds ago.
pub(in crate::store) const PG_REAP_LEASES: &str = concat!(
    "-- reap_leases
WITH clock AS MATERIALIZED (SELECT encaje_now_ms($1) AS now_ms),
budget AS MATERIALIZED (SELECT $4::bigint AS workers_lost_max),
lost AS MATERIALIZED (
    SELECT a.job_id, a.shard_index, a.epoch, CASE WHEN x.state = 'dead' THEN $5 ELSE $6 END AS reason
    FROM attempt a JOIN session x ON x.session_id = a.session_id, clock
    WHERE a.state = 'live' AND ((x.state = 'dead' AND (x.end_reason <> $7 OR x.ended_ms + $8 <= clock.now_ms))
        OR (x.progress_ms + $2 <= clock.now_ms AND x.progress_ms + $3 * coalesce((
            SELECT sum(c.busy_ms)::bigint / nullif(sum(c.committed)::bigint, 0)
            FROM job_count c WHERE c.job_id = a.job_id), 0) <= clock.now_ms))
    ORDER BY a.job_id, a.shard_index, a.epoch
    FOR UPDATE OF a),",
    lose!("expired")
);
/// $1 session, $2 job, $3 index, $4 epoch, $5 imposed time, $6 reason, $7 most workers lost.
pub(in crate::store) const PG_LOSE_WORKER: &str = concat!(
    "-- lose_worker
WITH clock AS MATERIALIZED (SELECT encaje_now_ms($5) AS now_ms),
budget AS MATERIALIZED (SELECT $7::bigint AS workers_lost_max),
lost AS MATERIALIZED (
    SELECT a.job_id, a.shard_index, a.epoch, $6::text AS reason FROM attempt a
    WHERE a.job_id = $2 AND a.shard_index = $3 AND a.epoch = $4 AND a.session_id = $1 AND a.state = 'live'
    FOR UPDATE OF a),",
    lose!("failed")
);

/// $1 session or NULL for all that are dead: leases of a session that was closed.
pub(in crate::store) const CLOSED_LEASES: &str = "-- closed_leases
SELECT a.job_id, a.shard_index, a.epoch
FROM attempt a INDEXED BY attempt_live JOIN session x ON x.session_id = a.session_id
WHERE a.state = 'live' AND x.state = 'dead' AND ($1 IS NULL OR a.session_id = $1)
ORDER BY a.job_id, a.shard_index, a.epoch";
/// $1 sessions or NULL for all that are dead, $2 imposed time, $3 reason.
pub(in crate::store) const PG_RELEASE_CLOSED: &str = concat!(
    "-- release_closed
WITH clock AS MATERIALIZED (SELECT encaje_now_ms($2) AS now_ms),
held AS MATERIALIZED (
    SELECT a.job_id, a.shard_index, a.epoch FROM attempt a
    WHERE a.state = 'live'
        AND a.session_id = ANY(coalesce($1::uuid[], ARRAY(SELECT session_id FROM attempt WHERE state = 'live')))
        AND (SELECT x.state FROM session x WHERE x.session_id = a.session_id) = 'dead'
    ORDER BY a.job_id, a.shard_index, a.epoch
    FOR UPDATE OF a),",
    give_back!("$3"),
    "
SELECT count(*) FROM ended"
);

/// $1 job or NULL for all: leases of jobs that ended under them.
pub(in crate::store) const ORPHANED_LEASES: &str = "-- orphaned_leases
SELECT a.job_id, a.shard_index, a.epoch, j.state AS job_state
FROM attempt a INDEXED BY attempt_live JOIN job j ON j.job_id = a.job_id
WHERE a.state = 'live' AND j.state IN ('failed', 'cancelling', 'cancelled') AND ($1 IS NULL OR a.job_id = $1)
ORDER BY a.job_id, a.shard_index, a.epoch";
/// $1 job or NULL for all, $2 imposed time, $3 reason. A failed job may be retried: its shards stay pending.
pub(in crate::store) const PG_REVOKE_LEASES: &str = "-- revoke_leases
WITH clock AS MATERIALIZED (SELECT encaje_now_ms($2) AS now_ms),
held AS MATERIALIZED (
    SELECT a.job_id, a.shard_index, a.epoch, CASE WHEN j.state = 'failed' THEN 'pending' ELSE 'cancelled' END AS next
    FROM attempt a JOIN job j ON j.job_id = a.job_id
    WHERE a.state = 'live' AND j.state IN ('failed', 'cancelling', 'cancelled') AND ($1::uuid IS NULL OR a.job_id = $1)
    ORDER BY a.job_id, a.shard_index, a.epoch
    FOR UPDATE OF a),
ended AS (
    UPDATE attempt a SET state = 'revoked', ended_ms = clock.now_ms, end_reason = $3
    FROM held h, clock
    WHERE a.job_id = h.job_id AND a.shard_index = h.shard_index AND a.epoch = h.epoch AND a.ended_ms IS NULL
    RETURNING a.job_id, a.shard_index, h.next),
hit AS (SELECT job_id, shard_index, next, count(*) AS gone FROM ended GROUP BY job_id, shard_index, next),
moved AS (
    UPDATE shard s SET state = CASE WHEN s.live > h.gone THEN 'running' ELSE h.next END, live = s.live - h.gone,
        not_before_ms = clock.now_ms
    FROM hit h, clock
    WHERE s.job_id = h.job_id AND s.shard_index = h.shard_index AND s.state = 'running'
    RETURNING s.job_id, s.state),
counted AS (
    INSERT INTO job_count AS c (job_id, slot, running, pending, cancelled)
    SELECT job_id, encaje_slot(), -count(*) FILTER (WHERE state <> 'running'), count(*) FILTER (WHERE state = 'pending'),
        count(*) FILTER (WHERE state = 'cancelled')
    FROM moved GROUP BY job_id ORDER BY job_id
    ON CONFLICT (job_id, slot) DO UPDATE SET running = c.running + excluded.running,
        pending = c.pending + excluded.pending, cancelled = c.cancelled + excluded.cancelled)
SELECT count(*) FROM ended";

/// $1 job, $2 index, $3 epoch, $4 state, $5 now, $6 reason, $7 session or NULL for any, $8 class or NULL.
pub(in crate::store) const END_ATTEMPT: &str = "-- end_attempt
UPDATE attempt SET state = $4, ended_ms = $5, end_reason = $6, class = $8,
    ended_before = CASE WHEN $8 IS NULL THEN NULL ELSE (
        SELECT coalesce(sum(k.ended), 0) FROM job_count k WHERE k.job_id = $1) END
WHERE job_id = $1 AND shard_index = $2 AND epoch = $3 AND state = 'live' AND ($7 IS NULL OR session_id = $7)";
/// $1 job, $2 index.
pub(in crate::store) const RUNNING_SHARD: &str = "-- running_shard
SELECT live, failures, workers_lost, first_row, row_count, part_of, convicted FROM shard
WHERE job_id = $1 AND shard_index = $2 AND state = 'running'";
/// $1 job, $2 index, $3 state, $4 not before, $5 failures, $6 workers lost, $7 error or NULL for the last one, $8 convicted.
pub(in crate::store) const LEAVE_ATTEMPT: &str = "-- leave_attempt
UPDATE shard SET state = $3, not_before_ms = $4, failures = $5, workers_lost = $6, last_error = coalesce($7, last_error),
    convicted = $8, live = live - 1
WHERE job_id = $1 AND shard_index = $2 AND state = 'running'";
/// $1 job: room for two more shards. Returns the index of the first.
pub(in crate::store) const GROW_JOB: &str = "-- grow_job
UPDATE job SET shard_count = shard_count + 2 WHERE job_id = $1 RETURNING shard_count - 2";
/// $1 job, $2 index of the split shard, $3 index of the half, $4 its first row, $5 its rows.
pub(in crate::store) const INSERT_HALF: &str = "-- insert_half
INSERT INTO shard (job_id, shard_index, source_index, recut_key, range_unit, range_start, range_end, first_row, row_count,
    slice_first_row, slice_row_count, part_of, in_blake3)
SELECT job_id, $3, source_index, recut_key, range_unit, range_start, range_end, $4, $5,
    coalesce(slice_first_row, first_row), coalesce(slice_row_count, row_count), shard_index, in_blake3
FROM shard WHERE job_id = $1 AND shard_index = $2";
/// $1 job, $2 pending, $3 running, $4 dead, $5 cancelled, $6 split, $7 ended attempts: by how much the counters change.
pub(in crate::store) const COUNT_SHARDS: &str = "-- count_shards
INSERT INTO job_count AS c (job_id, slot, pending, running, dead, cancelled, split, ended)
VALUES ($1, 0, $2, $3, $4, $5, $6, $7)
ON CONFLICT (job_id, slot) DO UPDATE SET pending = c.pending + excluded.pending,
    running = c.running + excluded.running, dead = c.dead + excluded.dead, cancelled = c.cancelled + excluded.cancelled,
    split = c.split + excluded.split, ended = c.ended + excluded.ended";

/// $1 limit. A million shards are cancelled in pages, so that no statement is long.
pub(in crate::store) const CANCEL_PENDING: &str = "-- cancel_pending
UPDATE shard SET state = 'cancelled' WHERE (job_id, shard_index) IN (
    SELECT s.job_id, s.shard_index FROM job j CROSS JOIN shard s INDEXED BY shard_pending
    WHERE j.state = 'cancelling' AND s.job_id = j.job_id AND s.state = 'pending' LIMIT $1)
RETURNING job_id";
/// $1 limit.
pub(in crate::store) const PG_CANCEL_PENDING: &str = "-- cancel_pending
WITH picked AS MATERIALIZED (
    SELECT s.job_id, s.shard_index FROM job j JOIN shard s ON s.job_id = j.job_id
    WHERE j.state = 'cancelling' AND s.state = 'pending'
    ORDER BY s.job_id, s.shard_index LIMIT $1
    FOR UPDATE OF s SKIP LOCKED),
moved AS (
    UPDATE shard s SET state = 'cancelled'
    FROM picked p WHERE s.job_id = p.job_id AND s.shard_index = p.shard_index AND s.state = 'pending'
    RETURNING s.job_id),
counted AS (
    INSERT INTO job_count AS c (job_id, slot, pending, cancelled)
    SELECT job_id, encaje_slot(), -count(*), count(*) FROM moved GROUP BY job_id ORDER BY job_id
    ON CONFLICT (job_id, slot) DO UPDATE
        SET pending = c.pending + excluded.pending, cancelled = c.cancelled + excluded.cancelled)
SELECT count(*) FROM moved";

/// $1 latest end of an attempt, $2 limit.
pub(in crate::store) const MARK_GARBAGE: &str = "-- mark_garbage
UPDATE attempt SET state = 'garbage' WHERE (job_id, shard_index, epoch) IN (
    SELECT job_id, shard_index, epoch FROM attempt
    WHERE state IN ('failed', 'released', 'expired', 'revoked', 'lost_race') AND ended_ms <= $1
    ORDER BY ended_ms, job_id, shard_index, epoch LIMIT $2)";
/// $1 imposed time, $2 limit, $3 how long ago an attempt must have ended.
pub(in crate::store) const PG_MARK_GARBAGE: &str = "-- mark_garbage
WITH picked AS MATERIALIZED (
    SELECT job_id, shard_index, epoch FROM attempt
    WHERE state IN ('failed', 'released', 'expired', 'revoked', 'lost_race') AND ended_ms <= (SELECT encaje_now_ms($1)) - $3
    ORDER BY ended_ms, job_id, shard_index, epoch LIMIT $2
    FOR UPDATE SKIP LOCKED)
UPDATE attempt a SET state = 'garbage' FROM picked p
WHERE a.job_id = p.job_id AND a.shard_index = p.shard_index AND a.epoch = p.epoch
    AND a.state IN ('failed', 'released', 'expired', 'revoked', 'lost_race')";
/// $1 limit.
pub(in crate::store) const LIST_GARBAGE: &str = "-- list_garbage
SELECT job_id, shard_index, epoch, attempt_id FROM attempt WHERE state = 'garbage' AND deleted_ms IS NULL
ORDER BY ended_ms, job_id, shard_index, epoch LIMIT $1";
/// $1 job, $2 index, $3 epoch, $4 now.
pub(in crate::store) const GARBAGE_DELETED: &str = "-- garbage_deleted
UPDATE attempt SET deleted_ms = $4
WHERE job_id = $1 AND shard_index = $2 AND epoch = $3 AND state = 'garbage' AND deleted_ms IS NULL";
/// $1 jobs, $2 indexes, $3 epochs, $4 imposed time.
pub(in crate::store) const PG_GARBAGE_DELETED: &str = "-- garbage_deleted
UPDATE attempt a SET deleted_ms = encaje_now_ms($4)
FROM unnest($1::uuid[], $2::bigint[], $3::bigint[]) AS u (job_id, shard_index, epoch)
WHERE a.job_id = u.job_id AND a.shard_index = u.shard_index AND a.epoch = u.epoch
    AND a.state = 'garbage' AND a.deleted_ms IS NULL";

/// $1 attempts looked back on, $2 most failures in one way among them: what goes wrong too often in which job.
///
/// A lost worker counts against its job only where both halves of a split shard lost one: a power loss takes many workers at
/// once, and a single poison row takes one half at each split.
pub(in crate::store) const TRIPPED_JOBS: &str = "-- tripped_jobs
SELECT j.job_id, a.class, count(*) AS attempts
FROM job j
JOIN (SELECT job_id, CAST(sum(ended) AS BIGINT) AS ended FROM job_count GROUP BY job_id) c ON c.job_id = j.job_id
JOIN attempt a ON a.job_id = j.job_id AND a.class IN ('transient', 'resource', 'worker_lost')
    AND a.ended_before >= c.ended - $1 AND a.ended_before >= j.judged_from
WHERE j.state IN ('planning', 'running') AND NOT j.paused AND c.ended - j.judged_from >= $1
    AND (a.class <> 'worker_lost' OR EXISTS (
        SELECT 1 FROM shard s
        JOIN shard o ON o.job_id = s.job_id AND o.part_of = s.part_of AND o.shard_index <> s.shard_index
        WHERE s.job_id = a.job_id AND s.shard_index = a.shard_index AND s.part_of IS NOT NULL
            AND (o.workers_lost > 0 OR o.convicted)))
GROUP BY j.job_id, a.class HAVING count(*) > $2
ORDER BY j.job_id, a.class";

/// $1 shards: live workers that failed so many which others have completed since.
pub(in crate::store) const QUARANTINE: &str = "-- quarantine
UPDATE session SET quarantined = TRUE
WHERE state = 'live' AND NOT quarantined AND (
    SELECT count(*) FROM (
        SELECT DISTINCT a.job_id, a.shard_index
        FROM attempt a
        JOIN shard s ON s.job_id = a.job_id AND s.shard_index = a.shard_index AND s.state = 'committed'
        JOIN attempt w ON w.job_id = s.job_id AND w.shard_index = s.shard_index AND w.epoch = s.winner_epoch
        WHERE a.session_id = session.session_id AND a.class IN ('transient', 'resource')
            AND w.session_id <> a.session_id) failed) >= $1
RETURNING session_id";

/// $1 role, $2 holder, $3 now, $4 how long, $5 revision: whether the role is the holder's now.
pub(in crate::store) const LEAD: &str = "-- lead
INSERT INTO leader AS l (role, holder, term, until_ms, revision) VALUES ($1, $2, 1, $3 + $4, $5)
ON CONFLICT (role) DO UPDATE SET holder = excluded.holder, until_ms = excluded.until_ms, revision = excluded.revision,
    term = l.term + CASE WHEN l.holder = excluded.holder THEN 0 ELSE 1 END
WHERE l.holder = excluded.holder OR l.until_ms <= $3 OR l.revision < excluded.revision
RETURNING term";
/// As above, $3 imposed time.
pub(in crate::store) const PG_LEAD: &str = "-- lead
WITH clock AS MATERIALIZED (SELECT encaje_now_ms($3) AS now_ms)
INSERT INTO leader AS l (role, holder, term, until_ms, revision) SELECT $1, $2, 1, clock.now_ms + $4, $5 FROM clock
ON CONFLICT (role) DO UPDATE SET holder = excluded.holder, until_ms = excluded.until_ms, revision = excluded.revision,
    term = l.term + CASE WHEN l.holder = excluded.holder THEN 0 ELSE 1 END
WHERE l.holder = excluded.holder OR l.until_ms <= (SELECT now_ms FROM clock) OR l.revision < excluded.revision
RETURNING term";
/// $1 role, $2 now.
pub(in crate::store) const LAPSED: &str = "-- lapsed
SELECT coalesce((SELECT $2 - until_ms FROM leader WHERE role = $1), 0)";
/// As above, $2 imposed time.
pub(in crate::store) const PG_LAPSED: &str = "-- lapsed
SELECT coalesce((SELECT encaje_now_ms($2) - until_ms FROM leader WHERE role = $1), 0)";
/// $1 role, $2 holder or NULL for any.
pub(in crate::store) const RESIGN: &str = "-- resign
UPDATE leader SET until_ms = 0 WHERE role = $1 AND ($2 IS NULL OR holder = $2)";
/// As above.
pub(in crate::store) const PG_RESIGN: &str = "-- resign
UPDATE leader SET until_ms = 0 WHERE role = $1 AND ($2::uuid IS NULL OR holder = $2)";
