//! Statements of upkeep: sessions that die, leases that are taken back, jobs that are cancelled, garbage.

/// $1 session or NULL for all, $2 now, $3 reason.
pub(in crate::store) const CLOSE_SESSIONS: &str = "-- close_sessions
UPDATE session SET state = 'dead', ended_ms = $2, end_reason = $3
WHERE state = 'live' AND ($1 IS NULL OR session_id = $1)";
/// $1 session or NULL for all, $2 imposed time, $3 reason.
pub(in crate::store) const PG_CLOSE_SESSIONS: &str = "-- close_sessions
UPDATE session SET state = 'dead', ended_ms = encaje_now_ms($2), end_reason = $3
WHERE state = 'live' AND ($1::uuid IS NULL OR session_id = $1)";

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
/// $1 imposed time, $2 and $3 as above, $4 most workers lost, $5 reason of the dead, $6 reason of the stuck.
pub(in crate::store) const PG_REAP_LEASES: &str = "-- reap_leases
WITH clock AS MATERIALIZED (SELECT encaje_now_ms($1) AS now_ms),
lost AS MATERIALIZED (
    SELECT a.job_id, a.shard_index, a.epoch, CASE WHEN x.state = 'dead' THEN $5 ELSE $6 END AS reason
    FROM attempt a JOIN session x ON x.session_id = a.session_id, clock
    WHERE a.state = 'live' AND (x.state = 'dead'
        OR (x.progress_ms + $2 <= clock.now_ms AND x.progress_ms + $3 * coalesce((
            SELECT sum(c.busy_ms)::bigint / nullif(sum(c.committed)::bigint, 0)
            FROM job_count c WHERE c.job_id = a.job_id), 0) <= clock.now_ms))
    ORDER BY a.job_id, a.shard_index, a.epoch
    FOR UPDATE OF a),
ended AS (
    UPDATE attempt a SET state = 'expired', ended_ms = clock.now_ms, end_reason = l.reason
    FROM lost l, clock
    WHERE a.job_id = l.job_id AND a.shard_index = l.shard_index AND a.epoch = l.epoch AND a.state = 'live'
    RETURNING a.job_id, a.shard_index, a.epoch, a.end_reason),
moved AS (
    UPDATE shard s SET last_error = e.end_reason, workers_lost = s.workers_lost + 1, not_before_ms = clock.now_ms,
        state = CASE WHEN s.workers_lost + 1 >= $4 THEN 'dead' ELSE 'pending' END
    FROM ended e, clock
    WHERE s.job_id = e.job_id AND s.shard_index = e.shard_index AND s.epoch = e.epoch AND s.state = 'running'
    RETURNING s.job_id, s.state),
counted AS (
    INSERT INTO job_count AS c (job_id, slot, running, pending, dead)
    SELECT job_id, encaje_slot(), -count(*), count(*) FILTER (WHERE state = 'pending'),
        count(*) FILTER (WHERE state = 'dead')
    FROM moved GROUP BY job_id ORDER BY job_id
    ON CONFLICT (job_id, slot) DO UPDATE SET running = c.running + excluded.running,
        pending = c.pending + excluded.pending, dead = c.dead + excluded.dead)
SELECT count(*) FROM ended";

/// $1 session or NULL for all that are dead: leases of a session that was closed.
pub(in crate::store) const CLOSED_LEASES: &str = "-- closed_leases
SELECT a.job_id, a.shard_index, a.epoch
FROM attempt a INDEXED BY attempt_live JOIN session x ON x.session_id = a.session_id
WHERE a.state = 'live' AND x.state = 'dead' AND ($1 IS NULL OR a.session_id = $1)
ORDER BY a.job_id, a.shard_index, a.epoch";
/// $1 session or NULL for all that are dead, $2 imposed time, $3 reason.
pub(in crate::store) const PG_RELEASE_CLOSED: &str = "-- release_closed
WITH clock AS MATERIALIZED (SELECT encaje_now_ms($2) AS now_ms),
held AS MATERIALIZED (
    SELECT a.job_id, a.shard_index, a.epoch FROM attempt a JOIN session x ON x.session_id = a.session_id
    WHERE a.state = 'live' AND x.state = 'dead' AND ($1::uuid IS NULL OR a.session_id = $1)
    ORDER BY a.job_id, a.shard_index, a.epoch
    FOR UPDATE OF a),
ended AS (
    UPDATE attempt a SET state = 'released', ended_ms = clock.now_ms, end_reason = $3
    FROM held h, clock
    WHERE a.job_id = h.job_id AND a.shard_index = h.shard_index AND a.epoch = h.epoch AND a.state = 'live'
    RETURNING a.job_id, a.shard_index, a.epoch),
moved AS (
    UPDATE shard s SET state = 'pending', not_before_ms = clock.now_ms
    FROM ended e, clock
    WHERE s.job_id = e.job_id AND s.shard_index = e.shard_index AND s.epoch = e.epoch AND s.state = 'running'
    RETURNING s.job_id),
counted AS (
    INSERT INTO job_count AS c (job_id, slot, running, pending)
    SELECT job_id, encaje_slot(), -count(*), count(*) FROM moved GROUP BY job_id ORDER BY job_id
    ON CONFLICT (job_id, slot) DO UPDATE
        SET running = c.running + excluded.running, pending = c.pending + excluded.pending)
SELECT count(*) FROM ended";

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
    WHERE a.job_id = h.job_id AND a.shard_index = h.shard_index AND a.epoch = h.epoch AND a.state = 'live'
    RETURNING a.job_id, a.shard_index, a.epoch, h.next),
moved AS (
    UPDATE shard s SET state = e.next, not_before_ms = clock.now_ms
    FROM ended e, clock
    WHERE s.job_id = e.job_id AND s.shard_index = e.shard_index AND s.epoch = e.epoch AND s.state = 'running'
    RETURNING s.job_id, s.state),
counted AS (
    INSERT INTO job_count AS c (job_id, slot, running, pending, cancelled)
    SELECT job_id, encaje_slot(), -count(*), count(*) FILTER (WHERE state = 'pending'),
        count(*) FILTER (WHERE state = 'cancelled')
    FROM moved GROUP BY job_id ORDER BY job_id
    ON CONFLICT (job_id, slot) DO UPDATE SET running = c.running + excluded.running,
        pending = c.pending + excluded.pending, cancelled = c.cancelled + excluded.cancelled)
SELECT count(*) FROM ended";

/// $1 job, $2 index, $3 epoch, $4 state, $5 now, $6 reason, $7 session or NULL for whoever holds it.
pub(in crate::store) const END_ATTEMPT: &str = "-- end_attempt
UPDATE attempt SET state = $4, ended_ms = $5, end_reason = $6
WHERE job_id = $1 AND shard_index = $2 AND epoch = $3 AND state = 'live' AND ($7 IS NULL OR session_id = $7)";
/// $1 job, $2 index, $3 epoch.
pub(in crate::store) const SHARD_BUDGET: &str = "-- shard_budget
SELECT failures, workers_lost FROM shard
WHERE job_id = $1 AND shard_index = $2 AND epoch = $3 AND state = 'running'";
/// $1 job, $2 index, $3 epoch, $4 state, $5 not before, $6 failures, $7 workers lost, $8 error or NULL for the last one.
pub(in crate::store) const LEAVE_RUNNING: &str = "-- leave_running
UPDATE shard SET state = $4, not_before_ms = $5, failures = $6, workers_lost = $7, last_error = coalesce($8, last_error)
WHERE job_id = $1 AND shard_index = $2 AND epoch = $3 AND state = 'running'";
/// $1 job, $2 pending, $3 running, $4 dead, $5 cancelled: by how much the counters change.
pub(in crate::store) const COUNT_SHARDS: &str = "-- count_shards
INSERT INTO job_count AS c (job_id, slot, pending, running, dead, cancelled) VALUES ($1, 0, $2, $3, $4, $5)
ON CONFLICT (job_id, slot) DO UPDATE SET pending = c.pending + excluded.pending,
    running = c.running + excluded.running, dead = c.dead + excluded.dead, cancelled = c.cancelled + excluded.cancelled";

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
    WHERE state IN ('failed', 'released', 'expired', 'revoked') AND ended_ms <= $1
    ORDER BY ended_ms, job_id, shard_index, epoch LIMIT $2)";
/// $1 imposed time, $2 limit, $3 how long ago an attempt must have ended.
pub(in crate::store) const PG_MARK_GARBAGE: &str = "-- mark_garbage
WITH picked AS MATERIALIZED (
    SELECT job_id, shard_index, epoch FROM attempt
    WHERE state IN ('failed', 'released', 'expired', 'revoked') AND ended_ms <= (SELECT encaje_now_ms($1)) - $3
    ORDER BY ended_ms, job_id, shard_index, epoch LIMIT $2
    FOR UPDATE SKIP LOCKED)
UPDATE attempt a SET state = 'garbage' FROM picked p
WHERE a.job_id = p.job_id AND a.shard_index = p.shard_index AND a.epoch = p.epoch
    AND a.state IN ('failed', 'released', 'expired', 'revoked')";
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
