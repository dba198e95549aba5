-- name: job_by_id
-- The whole job with this id.
SELECT id, queue, state, due_at, revision, worker_id, priority, batch_id, destination, unique_key, valid_until,
       active_until, record, body
FROM jobs JOIN bodies USING (number)
WHERE id = ?;

-- name: job_by_number
-- The whole job in this row.
SELECT id, queue, state, due_at, revision, worker_id, priority, batch_id, destination, unique_key, valid_until,
       active_until, record, body
FROM jobs JOIN bodies USING (number)
WHERE number = ?;

-- name: jobs_by_numbers
-- The whole jobs for a JSON array of row numbers, in its order. CROSS JOIN makes SQLite read the array first.
SELECT id, queue, state, due_at, revision, worker_id, priority, batch_id, destination, unique_key, valid_until,
       active_until, record, body
FROM (SELECT value AS number FROM json_each(?)) CROSS JOIN jobs USING (number) JOIN bodies USING (number);

-- name: job_by_key
-- The whole live job that owns this unique key of a queue.
SELECT id, queue, state, due_at, revision, worker_id, priority, batch_id, destination, unique_key, valid_until,
       active_until, record, body
FROM jobs JOIN bodies USING (number)
WHERE queue = ? AND unique_key = ?;

-- name: tombstone_by_key
-- The tombstone of the deleted job that owned this unique key, until it expires.
SELECT queue, unique_key, job_id, body_digest, state, due_at, created_at, not_before, valid_until
FROM tombstones
WHERE queue = ? AND unique_key = ? AND expires_at > ?;

-- name: known_keys
-- The unique keys in a JSON array that live jobs or tombstones of a queue have.
SELECT unique_key FROM jobs WHERE queue = ?1 AND unique_key IN (SELECT value FROM json_each(?2))
UNION ALL
SELECT unique_key FROM tombstones WHERE queue = ?1 AND unique_key IN (SELECT value FROM json_each(?2));

-- name: last_number
-- The highest row number in use.
SELECT coalesce(max(number), 0) FROM jobs;

-- name: insert_job
-- One new job, without its body.
INSERT INTO jobs (id, queue, state, due_at, revision, worker_id, priority, batch_id, destination, unique_key,
                  valid_until, active_until, record, tally)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: insert_body
-- The body of the job that was just inserted.
INSERT INTO bodies (number, body) VALUES (last_insert_rowid(), ?);

-- name: move_job
-- The next version of a job with the given revision. Its batch, number, priority and validity stay as they are.
UPDATE jobs SET state = ?, due_at = ?, revision = ?, worker_id = ?, active_until = ?, record = ?, tally = ?
WHERE id = ? AND revision = ?;

-- name: revision_of
-- The revision that a job has now.
SELECT revision FROM jobs WHERE id = ?;

-- name: delete_job
-- Deletes a job if it has the given revision; then returns its row.
DELETE FROM jobs WHERE id = ? AND revision = ?
RETURNING number;

-- name: delete_body
-- Deletes the body of a job that was just deleted.
DELETE FROM bodies WHERE number = ?;

-- name: bury
-- Stores the tombstone of a deleted job with a unique key.
INSERT OR REPLACE INTO tombstones (queue, unique_key, job_id, body_digest, state, due_at, created_at, not_before,
                                   valid_until, expires_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: note_change
-- Counts a change of a queue, which wakes its waiting tasks.
INSERT INTO queues (queue, changes) VALUES (?, 2)
ON CONFLICT (queue) DO UPDATE SET changes = changes + 1;

-- name: change_count
-- The change count of a queue; no row means 1.
SELECT changes FROM queues WHERE queue = ?;
