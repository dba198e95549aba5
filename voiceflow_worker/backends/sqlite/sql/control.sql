-- name: limits
-- The limits of a queue; no row if it was never configured.
SELECT rate, burst, max_active FROM queues WHERE queue = ? AND configured;

-- name: configure
-- Sets a queue's limits and its pace.
INSERT INTO queues (queue, configured, rate, burst, max_active, tat, last) VALUES (?, 1, ?, ?, ?, ?, ?)
ON CONFLICT (queue) DO UPDATE SET configured = 1, rate = excluded.rate, burst = excluded.burst,
                                  max_active = excluded.max_active, tat = excluded.tat, last = excluded.last;

-- name: pace
-- The pace of a queue.
SELECT tat, last FROM queues WHERE queue = ?;

-- name: set_pace
-- Sets the pace of a configured queue.
UPDATE queues SET tat = ?, last = ? WHERE queue = ?;

-- name: gate
-- One gate, if it was ever set.
SELECT queue, scope, name, state, until, reason, since FROM gates WHERE queue = ? AND scope = ? AND name = ?;

-- name: set_gate
-- Stores a gate.
INSERT OR REPLACE INTO gates (queue, scope, name, state, until, reason, since) VALUES (?, ?, ?, ?, ?, ?, ?);

-- name: gates_not_open
-- The closed gates of a queue and of its batches.
SELECT queue, scope, name, state, until, reason, since FROM gates WHERE queue = ? AND state <> 'open';

-- name: cancelling
-- Gates of cancelled batches that have queued jobs, up to a limit.
SELECT queue, scope, name, state, until, reason, since FROM gates
WHERE queue = ?1 AND scope = 'batch' AND state = 'cancelled' AND EXISTS (
    SELECT 1 FROM jobs INDEXED BY jobs_by_batch WHERE queue = ?1 AND batch_id = gates.name AND state = 'queued'
)
LIMIT ?2;

-- name: forget_gates
-- Deletes gates of batches without jobs, up to a limit, if they are older than a time and stop no calls (Gate.is_spent).
DELETE FROM gates WHERE (queue, scope, name) IN (
    SELECT queue, scope, name FROM gates
    WHERE queue = ?1 AND scope = 'batch' AND since < ?2
          AND (state IN ('open', 'cancelled') OR (state = 'held' AND until <= ?2))
          AND NOT EXISTS (SELECT 1 FROM jobs INDEXED BY jobs_by_batch WHERE queue = ?1 AND batch_id = gates.name)
    LIMIT ?3
)
RETURNING 1;

-- name: forget_gate_records
-- Deletes the records of batches' gates that were forgotten, up to a limit.
DELETE FROM records WHERE namespace = 'gate' AND key IN (
    SELECT key FROM records
    WHERE namespace = 'gate' AND key > ?1 || ' ' AND key < ?1 || '!'
          AND NOT EXISTS (
              SELECT 1 FROM gates WHERE queue = ?1 AND scope = 'batch' AND name = substr(records.key, length(?1) + 2)
          )
    LIMIT ?2
)
RETURNING 1;
