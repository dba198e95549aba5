-- Reads and changes of the lanes (see schema.sql).

-- name: next_priority
-- The next lower priority that lanes of a queue have: an index seek, so priorities far in the future cost nothing.
SELECT max(priority) FROM lanes INDEXED BY lanes_to_lease
WHERE queue = ? AND opens_at IS NULL AND priority <= ?;

-- name: due_lanes
-- The first two lanes of a priority that may have due jobs.
SELECT batch, due_at, id FROM lanes INDEXED BY lanes_to_lease
WHERE queue = ? AND priority = ? AND due_at <= ? AND opens_at IS NULL
ORDER BY due_at, id LIMIT 2;

-- name: due_lanes_of_batch
-- The lanes of one batch that may have due jobs, the most urgent first.
SELECT priority, due_at, id FROM lanes WHERE queue = ? AND batch = ? AND due_at <= ? ORDER BY priority DESC;

-- name: due_jobs_of_lane
-- Jobs of a lane that may be leased, from a place on, in the order of leasing. Only the index is read.
SELECT number, due_at, id FROM jobs INDEXED BY jobs_to_lease_by_batch
WHERE queue = ?1 AND batch_id IS ?2 AND state = 'queued' AND priority = ?3 AND due_at <= ?4 AND (due_at, id) >= (?5, ?6)
      AND (valid_until IS NULL OR valid_until > ?4)
ORDER BY due_at, id LIMIT ?7;

-- name: first_of_lane
-- The first job of a lane from a place on, in any condition: due, expired or neither.
SELECT due_at, id FROM jobs INDEXED BY jobs_to_lease_by_batch
WHERE queue = ?1 AND batch_id IS ?2 AND state = 'queued' AND priority = ?3 AND (due_at, id) >= (?4, ?5)
ORDER BY due_at, id LIMIT 1;

-- name: set_place
-- Moves the place of a lane forward, with the time of the check if jobs before it have expired.
UPDATE lanes SET due_at = ?4, id = ?5, as_of = coalesce(?6, as_of) WHERE queue = ?1 AND batch = ?2 AND priority = ?3;

-- name: delete_lane
-- Deletes a lane without jobs.
DELETE FROM lanes WHERE queue = ? AND batch = ? AND priority = ?;

-- name: put_aside
-- Puts a lane aside until its batch opens.
UPDATE lanes SET opens_at = ?4 WHERE queue = ?1 AND batch = ?2 AND priority = ?3;

-- name: show_again
-- Shows lanes whose batch is open again, because its hold has ended.
UPDATE lanes SET opens_at = NULL WHERE queue = ?1 AND opens_at <= ?2;

-- name: look_again
-- Looks at expired jobs again after the clock was set back: they may be valid now.
UPDATE lanes SET due_at = 0, id = '', as_of = NULL WHERE queue = ?1 AND as_of > ?2;
