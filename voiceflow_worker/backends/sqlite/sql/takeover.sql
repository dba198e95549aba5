-- name: next_rows
-- Jobs by their row numbers.
SELECT number, id, revision FROM jobs WHERE number BETWEEN ? AND ? ORDER BY number;

-- name: known
-- The row and the revision of a job.
SELECT number, revision FROM jobs WHERE id = ?;

-- name: put_job
-- Stores a job of the replaced file in its row of the backup.
INSERT INTO jobs (number, id, queue, state, due_at, revision, worker_id, priority, batch_id, destination, unique_key,
                  valid_until, active_until, record, tally)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (number) DO UPDATE SET
    state = excluded.state, due_at = excluded.due_at, revision = excluded.revision, worker_id = excluded.worker_id,
    priority = excluded.priority, batch_id = excluded.batch_id, destination = excluded.destination,
    valid_until = excluded.valid_until, active_until = excluded.active_until, record = excluded.record,
    tally = excluded.tally;

-- name: unsent
-- Jobs that wait to be sent, after a row number.
SELECT number, id, queue, unique_key FROM jobs WHERE number > ? AND state IN ('queued', 'leased') ORDER BY number LIMIT ?;

-- name: tombstone
-- The tombstone of a deleted job, by its id, queue and unique key.
SELECT 1 FROM records WHERE namespace = 'pruned' AND key = ?1
UNION ALL
SELECT 1 FROM tombstones WHERE queue = ?2 AND unique_key = ?3 AND job_id = ?1;

-- name: key_owner
-- The id of the job or the tombstone that has a unique key, and the row number of the job.
SELECT id, number FROM jobs WHERE queue = ?1 AND unique_key = ?2
UNION ALL
SELECT job_id, NULL FROM tombstones WHERE queue = ?1 AND unique_key = ?2;

-- name: last_sequence
-- The highest sequence number that an event has had.
SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'events';

-- name: events_behind
-- Events after a sequence number.
SELECT sequence, queue, job_id, kind, at, state, revision, post FROM events WHERE sequence > ? ORDER BY sequence;

-- name: put_event
-- Stores an event with its earlier sequence number.
INSERT OR IGNORE INTO events (sequence, queue, job_id, kind, at, state, revision, post) VALUES (?, ?, ?, ?, ?, ?, ?, ?);

-- name: skip_sequences
-- Gives later events higher sequence numbers than those that readers may have seen.
UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = 'events';

-- name: begin_sequences
-- The same for a file that never had an event.
INSERT INTO sqlite_sequence (name, seq) SELECT 'events', ? WHERE NOT EXISTS (
    SELECT 1 FROM sqlite_sequence WHERE name = 'events'
);

-- name: records
-- Records that have not expired at a time, without the heartbeats of processes.
SELECT namespace, key, value, expires_at FROM records
WHERE (expires_at IS NULL OR expires_at > ?) AND namespace NOT IN ('worker', 'receiver', 'readiness', 'turn');

-- name: tombstones
-- Tombstones that have not expired at a time.
SELECT queue, unique_key, job_id, body_digest, state, due_at, created_at, not_before, valid_until, expires_at
FROM tombstones WHERE expires_at > ?;

-- name: put_tombstone
-- Stores a tombstone, unless a job has the key.
INSERT OR IGNORE INTO tombstones (queue, unique_key, job_id, body_digest, state, due_at, created_at, not_before,
                                  valid_until, expires_at)
SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10
WHERE NOT EXISTS (SELECT 1 FROM jobs WHERE queue = ?1 AND unique_key = ?2);

-- name: closed_gates
-- Closed gates.
SELECT queue, scope, name, state, until, reason, since FROM gates WHERE state <> 'open';

-- name: put_gate
-- Stores a gate, unless the backup has a cancelled batch in its place.
INSERT INTO gates (queue, scope, name, state, until, reason, since) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (queue, scope, name) DO UPDATE SET
    state = excluded.state, until = excluded.until, reason = excluded.reason, since = excluded.since
    WHERE gates.state <> 'cancelled';

-- name: queues
-- Every queue that has a job, a record or a setting here.
SELECT queue FROM queues UNION SELECT DISTINCT queue FROM jobs UNION SELECT queue FROM gates
UNION SELECT key FROM records WHERE namespace = 'queue';

-- name: made
-- The time at which the backup was made.
SELECT value FROM records WHERE namespace = 'backup' AND key = 'made';

-- name: forget_made
-- Removes the mark of a backup, which a store in use does not have.
DELETE FROM records WHERE namespace = 'backup';

-- name: put_record
-- Stores a record of the replaced file, unless the one in the backup expires later.
INSERT INTO records (namespace, key, value, expires_at) VALUES (?, ?, ?, ?)
ON CONFLICT (namespace, key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at
    WHERE excluded.expires_at IS NULL OR excluded.expires_at >= records.expires_at;

-- name: waiting
-- The number of jobs that would be sent if no gate held them.
SELECT count(*) FROM jobs WHERE state IN ('queued', 'leased');
