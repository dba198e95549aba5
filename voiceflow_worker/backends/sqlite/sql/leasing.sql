-- name: lease_job
-- Leases one job to a worker. The record and the body stay as they are.
UPDATE jobs SET state = 'leased', worker_id = ?, due_at = ?, revision = ?
WHERE number = ?;

-- name: open_calls
-- The number of open calls of a queue at a time, counted up to a limit.
SELECT count(*) FROM (
    SELECT 1 FROM jobs INDEXED BY jobs_by_state WHERE queue = ?1 AND state = 'leased'
    UNION ALL
    SELECT 1 FROM jobs INDEXED BY jobs_active WHERE queue = ?1 AND active_until > ?2 AND state <> 'leased'
    LIMIT ?3
);
