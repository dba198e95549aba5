-- Restoring a backup: the copy of the file takes over what the old file knows better.


-- Jobs. They are compared in slices of their numbers.

-- name: last_number
-- The highest number of a job.
SELECT coalesce(max(number), 0) FROM jobs;

-- name: jobs_between
-- The jobs of a slice.
SELECT number, id, revision FROM jobs WHERE number BETWEEN ? AND ? ORDER BY number;

-- name: unsent_behind
-- Jobs behind a number that may still be sent.
SELECT number, id FROM jobs WHERE number > ? AND state IN ('queued', 'leased') ORDER BY number LIMIT ?;

-- name: tombstone_of_job
-- Whether a job was deleted: by the mark of its id, or by a tombstone of its key, if it had one.
SELECT 1 FROM records WHERE namespace = 'pruned' AND grp = ?1
UNION ALL
SELECT 1 FROM records WHERE namespace = 'tombstone' AND grp = ?2 AND member = ?3 AND json_extract(value, '$[2]') = ?1;

-- name: count_jobs
-- The number of jobs.
SELECT count(*) FROM jobs;

-- name: count_unsent
-- The number of jobs that may still be sent.
SELECT count(*) FROM jobs WHERE state IN ('queued', 'leased');


-- Events. Their sequences go on behind those of both files.

-- name: last_sequence
-- The last sequence that was given.
SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'events';

-- name: events_behind
-- The events behind a sequence.
SELECT sequence, queue, job_id, kind, at, state, revision, post FROM events WHERE sequence > ? ORDER BY sequence;

-- name: put_event
-- An event with its sequence, unless it is there.
INSERT OR IGNORE INTO events (sequence, queue, job_id, kind, at, state, revision, post) VALUES (?, ?, ?, ?, ?, ?, ?, ?);

-- name: begin_sequences
-- The position of the last sequence, in a file that never had an event.
INSERT INTO sqlite_sequence (name, seq) SELECT 'events', ? WHERE NOT EXISTS (
    SELECT 1 FROM sqlite_sequence WHERE name = 'events'
);

-- name: skip_sequences
-- Later events get higher sequences than this one.
UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = 'events';


-- Records.

-- name: current_records
-- All current records, but those that only a running process needs, and gates, which are closed anew.
SELECT namespace, grp, member, value, ends_at FROM records
WHERE (ends_at IS NULL OR ends_at > ?) AND namespace NOT IN ('gate', 'worker', 'receiver', 'readiness', 'lease');

-- name: put_later
-- A record of the old file, unless that of the copy ends later.
INSERT INTO records (namespace, grp, member, value, ends_at) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (namespace, grp, member) DO UPDATE SET value = excluded.value, ends_at = excluded.ends_at
    WHERE excluded.ends_at IS NULL OR excluded.ends_at >= records.ends_at;

-- name: current_gates
-- The current gates.
SELECT grp, value, ends_at, member FROM records WHERE namespace = 'gate' AND (ends_at IS NULL OR ends_at > ?);

-- name: all_queues
-- The names of all queues that the file knows.
SELECT queue FROM queues UNION SELECT DISTINCT queue FROM jobs
UNION SELECT grp FROM records WHERE namespace IN ('gate', 'limit', 'queue');

-- name: backup_mark
-- When the file was made, if it is a backup.
SELECT value FROM records WHERE namespace = 'backup' AND grp = 'made';

-- name: drop_backup_mark
-- A store in use is no backup.
DELETE FROM records WHERE namespace = 'backup';
