-- name: lease_job
-- Gives one job to a worker; touches only its head.
UPDATE jobs SET state = 'leased', worker_id = ?, due_at = ?, revision = ?
WHERE number = ?;

-- name: open_calls
-- How many calls of a queue are open at a time, counted no further than asked.
SELECT count(*) FROM (
    SELECT 1 FROM jobs INDEXED BY jobs_by_state WHERE queue = ?1 AND state = 'leased'
    UNION ALL
    SELECT 1 FROM jobs INDEXED BY jobs_active WHERE queue = ?1 AND active_until > ?2 AND state <> 'leased'
    LIMIT ?3
);
