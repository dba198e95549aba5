-- Backups: making one and restoring one.

-- name: count_jobs
-- The number of jobs, and the number of those that may still be sent.
SELECT count(*), count(*) FILTER (WHERE state IN ('queued', 'leased')) FROM jobs;

-- name: last_sequence
-- The last sequence that was given to an event.
SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'events';

-- name: begin_sequences
-- The position of the last sequence, in a file that never had an event.
INSERT INTO sqlite_sequence (name, seq) SELECT 'events', 0 WHERE NOT EXISTS (
    SELECT 1 FROM sqlite_sequence WHERE name = 'events'
);

-- name: skip_sequences
-- Later events get higher sequences than this one.
UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = 'events';

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
