-- Leases, and send slots.


-- Due jobs. The next urgency is found by itself, with an index seek, so that jobs of others cost nothing. The
-- first two bindings of it are the queue and a batch; NULL means all batches of the queue, or for the jobs without a
-- batch (`…_of_batch`).

-- name: next_urgency
-- The highest urgency of the queued jobs of a queue, not above a given one.
SELECT max(urgency) FROM jobs INDEXED BY jobs_to_lease WHERE queue = ?1 AND ?2 IS NULL AND state = 'queued'
    AND urgency <= ?3;

-- name: next_urgency_of_batch
-- The same in one batch.
SELECT max(urgency) FROM jobs INDEXED BY jobs_of_batch_to_lease
WHERE queue = ?1 AND batch_id IS ?2 AND state = 'queued' AND urgency <= ?3;

-- name: due
-- Due jobs of one urgency behind a position, the earliest first. The caller leaves out those of held batches.
SELECT urgency, due_at, id, number, batch_id FROM jobs INDEXED BY jobs_to_lease
WHERE queue = :queue AND state = 'queued' AND urgency = :urgency AND (due_at, id) > (:due, :id) AND due_at <= :at
    AND (valid_until IS NULL OR valid_until > :at)
ORDER BY due_at, id LIMIT :limit;

-- name: due_of_batch
-- The same in one batch.
SELECT urgency, due_at, id, number, batch_id FROM jobs INDEXED BY jobs_of_batch_to_lease
WHERE queue = :queue AND batch_id IS :batch AND state = 'queued' AND urgency = :urgency
    AND (due_at, id) > (:due, :id) AND due_at <= :at AND (valid_until IS NULL OR valid_until > :at)
ORDER BY due_at, id LIMIT :limit;

-- name: lease
-- A job is given to a worker.
UPDATE jobs SET state = 'leased', worker_id = ?, due_at = ?, revision = ? WHERE number = ?;


-- Batches.

-- name: next_batch
-- The next batch, by name, that has queued jobs.
SELECT min(batch_id) FROM jobs INDEXED BY jobs_of_batch_to_lease
WHERE queue = ?1 AND state = 'queued' AND batch_id > ?2;


-- Open calls, counted up to a limit.

-- name: open_calls
-- The open calls of a queue: leased jobs, and jobs with a future `active_until`.
SELECT count(*) FROM (
    SELECT 1 FROM jobs INDEXED BY jobs_by_state WHERE queue = ?1 AND state = 'leased'
    UNION ALL
    SELECT 1 FROM jobs INDEXED BY jobs_active WHERE queue = ?1 AND active_until > ?2 AND state <> 'leased'
    LIMIT ?3
);


-- Send slots.

-- name: pace
-- The rate that a queue was last paced at, and where it has come to.
SELECT rate, burst, tat, last, unreached FROM queues WHERE queue = ?;

-- name: set_pace
-- The pace after send slots were taken.
INSERT INTO queues (queue, rate, burst, tat, last, unreached) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (queue) DO UPDATE
SET rate = excluded.rate, burst = excluded.burst, tat = excluded.tat, last = excluded.last, unreached = excluded.unreached;
