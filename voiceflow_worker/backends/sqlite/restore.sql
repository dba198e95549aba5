-- Backups: making one and restoring one.

-- name: count_jobs
-- The number of jobs.
SELECT count(*) FROM jobs;

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
-- When the backup was made, if the file is one, or was put back from one.
SELECT value FROM records WHERE namespace = 'backup' AND grp = 'made';

-- name: backup_place
-- Whether the queues were held under this path and inode.
SELECT 1 FROM records WHERE namespace = 'backup' AND grp = 'place' AND member = ?;

-- name: drop_backup_mark
-- A new backup was written to by nobody yet.
DELETE FROM records WHERE namespace = 'backup';
