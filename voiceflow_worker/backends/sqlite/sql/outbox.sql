-- name: insert_event
-- One event, with the move that made it; the store gives its sequence.
INSERT INTO events (queue, job_id, kind, at, state, revision, post) VALUES (?, ?, ?, ?, ?, ?, ?);

-- name: events_after
-- The events of a queue after a sequence, oldest first.
SELECT sequence, job_id, kind, at, state, revision, post FROM events
WHERE queue = ? AND sequence > ?
ORDER BY sequence LIMIT ?;

-- name: forget_events
-- Deletes some events of a queue from before a time.
DELETE FROM events WHERE sequence IN (
    SELECT sequence FROM events INDEXED BY events_by_time WHERE queue = ? AND at < ? LIMIT ?
)
RETURNING 1;
