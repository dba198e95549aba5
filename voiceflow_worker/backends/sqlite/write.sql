-- Writing: jobs, records, events and counters, as the writes say; and tidying up.


-- Jobs.

-- name: last_number
-- The highest number of a job.
SELECT coalesce(max(number), 0) FROM jobs;

-- name: insert_jobs
-- New jobs, a row of values each.
INSERT INTO jobs (number, id, queue, state, due_at, revision, worker_id, urgency, batch_id, destination, unique_key,
                  valid_until, active_until, body_digest, record, outcome) VALUES {rows};

-- name: insert_bodies
-- Their bodies.
INSERT INTO bodies (number, body) VALUES {rows};

-- name: insert_numbers
-- Their telephone numbers.
INSERT INTO numbers (queue, telephone, job) VALUES {rows};

-- name: move_job
-- The next version of a job.
UPDATE jobs SET state = ?, due_at = ?, revision = ?, worker_id = ?, active_until = ?, record = ?, outcome = ?
WHERE id = ?;

-- name: edit_job
-- What only an edit changes.
UPDATE jobs SET urgency = ?, valid_until = ?, destination = ? WHERE id = ?;

-- name: edit_body
-- The body after an edit.
UPDATE bodies SET body = ? WHERE number = (SELECT number FROM jobs WHERE id = ?);

-- name: drop_number
-- A telephone number that a job had before an edit.
DELETE FROM numbers WHERE queue = ? AND telephone = ? AND job = (SELECT number FROM jobs WHERE id = ?);

-- name: add_number
-- A telephone number that a job has after an edit.
INSERT INTO numbers (queue, telephone, job) SELECT ?, ?, number FROM jobs WHERE id = ?;

-- name: delete_job
-- A job goes; its number is needed for its body and its telephone numbers.
DELETE FROM jobs WHERE id = ? RETURNING number;

-- name: delete_body
-- The body of a job that goes.
DELETE FROM bodies WHERE number = ?;

-- name: delete_number
-- A telephone number of a job that goes.
DELETE FROM numbers WHERE queue = ? AND telephone = ? AND job = ?;


-- Records, by the mode of their put. The last binding of a mode that reads the current record is the time.

-- name: put
-- Mode ALWAYS: the record is replaced.
INSERT INTO records (namespace, grp, member, value, ends_at) VALUES (?1, ?2, ?3, ?4, ?5)
ON CONFLICT (namespace, grp, member) DO UPDATE SET value = excluded.value, ends_at = excluded.ends_at;

-- name: put_extend
-- Mode EXTEND: the record is replaced, and the later of the two ends counts.
INSERT INTO records (namespace, grp, member, value, ends_at) VALUES (?1, ?2, ?3, ?4, ?5)
ON CONFLICT (namespace, grp, member) DO UPDATE SET value = excluded.value, ends_at = CASE
        WHEN records.ends_at IS NULL OR excluded.ends_at IS NULL THEN NULL
        WHEN records.ends_at > ?6 THEN max(records.ends_at, excluded.ends_at)
        ELSE excluded.ends_at
    END;

-- name: put_keep
-- Mode KEEP: the record stays as it is.
INSERT INTO records (namespace, grp, member, value, ends_at) VALUES (?1, ?2, ?3, ?4, ?5)
ON CONFLICT (namespace, grp, member) DO UPDATE SET value = excluded.value, ends_at = excluded.ends_at
    WHERE records.ends_at <= ?6;

-- name: put_longer
-- Mode LONGER: the record is replaced if it ends earlier.
INSERT INTO records (namespace, grp, member, value, ends_at) VALUES (?1, ?2, ?3, ?4, ?5)
ON CONFLICT (namespace, grp, member) DO UPDATE SET value = excluded.value, ends_at = excluded.ends_at
    WHERE records.ends_at <= ?6 OR (records.ends_at IS NOT NULL AND excluded.ends_at IS NULL)
        OR records.ends_at < excluded.ends_at;

-- name: drop
-- A record goes, if it has this value; NULL is any value.
DELETE FROM records WHERE namespace = ?1 AND grp = ?2 AND member = ?3 AND (?4 IS NULL OR value = ?4);


-- Events, changes and counters.

-- name: insert_event
-- An event. SQLite gives it the next sequence.
INSERT INTO events (queue, job_id, kind, at, state, revision, post) VALUES (?, ?, ?, ?, ?, ?, ?);

-- name: note_change
-- One more change of a queue. The count is above 0 from the start, so the first change makes it 2.
INSERT INTO queues (queue, changes) VALUES (?, 2) ON CONFLICT (queue) DO UPDATE SET changes = changes + 1;

-- name: count
-- An addition to a counter.
INSERT INTO totals (queue, batch, field, live) VALUES (?, ?, ?, ?)
ON CONFLICT DO UPDATE SET live = live + excluded.live;

-- name: forget_empty
-- A counter that has come to nothing goes.
DELETE FROM totals WHERE queue = ? AND batch = ? AND field = ? AND live = 0;

-- name: forget_batch
-- The counters of a batch go with its last job.
DELETE FROM totals WHERE queue = ?1 AND batch = '=' || ?2 AND NOT EXISTS (
    SELECT 1 FROM jobs INDEXED BY jobs_by_batch WHERE queue = ?1 AND batch_id = ?2
);


-- Tidying up, in slices.

-- name: prune_records
-- Records whose end has come, tombstones of keys among them.
DELETE FROM records WHERE (namespace, grp, member) IN (
    SELECT namespace, grp, member FROM records INDEXED BY records_by_end WHERE ends_at <= ? LIMIT ?
)
RETURNING 1;

-- name: prune_events
-- Old events of a queue.
DELETE FROM events WHERE sequence IN (
    SELECT sequence FROM events INDEXED BY events_by_time WHERE queue = ? AND at < ? LIMIT ?
)
RETURNING 1;
