-- name: highest_priority
-- The next lower priority that queued jobs of a queue have: an index seek, so priorities far in the future cost nothing.
SELECT max(priority) FROM jobs INDEXED BY jobs_to_lease
WHERE queue = ? AND state = 'queued' AND priority < ?;

-- name: highest_priority_of_batch
-- The same within a batch, or among the jobs without one (NULL).
SELECT max(priority) FROM jobs INDEXED BY jobs_to_lease_by_batch
WHERE queue = ? AND batch_id IS ? AND state = 'queued' AND priority < ?;

-- name: due_jobs
-- Due queued jobs of one priority in the order of leasing; read from the index alone.
SELECT number, due_at, id, batch_id FROM jobs INDEXED BY jobs_to_lease
WHERE queue = ? AND state = 'queued' AND priority = ? AND due_at <= ? AND (valid_until IS NULL OR valid_until > ?)
ORDER BY due_at, id;

-- name: due_jobs_of_batch
-- The same within a batch, or among the jobs without one (NULL).
SELECT number, due_at, id, batch_id FROM jobs INDEXED BY jobs_to_lease_by_batch
WHERE queue = ? AND batch_id IS ? AND state = 'queued' AND priority = ? AND due_at <= ?
      AND (valid_until IS NULL OR valid_until > ?)
ORDER BY due_at, id;

-- name: queued_batches
-- The batches that have queued jobs, found by leaping from one to the next through the index.
WITH RECURSIVE batch (id) AS (
    SELECT min(batch_id) FROM jobs INDEXED BY jobs_to_lease_by_batch
    WHERE queue = ?1 AND state = 'queued' AND batch_id IS NOT NULL
    UNION ALL
    SELECT (SELECT min(batch_id) FROM jobs INDEXED BY jobs_to_lease_by_batch
            WHERE queue = ?1 AND state = 'queued' AND batch_id > batch.id)
    FROM batch WHERE batch.id IS NOT NULL
)
SELECT id FROM batch WHERE id IS NOT NULL;

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
