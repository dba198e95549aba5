-- The parts of a search: one access path, its conditions, and an order. If an index is missing, INDEXED BY makes the
-- search fail. Without it, SQLite would read the whole table.

-- name: by_destination
-- The jobs of one telephone number.
SELECT number FROM jobs INDEXED BY jobs_by_destination WHERE queue = :queue AND destination = :destination

-- name: by_batch
-- The jobs of one batch.
SELECT number, id FROM jobs INDEXED BY jobs_by_batch WHERE queue = :queue AND batch_id = :batch_id

-- name: by_validity
-- Queued jobs that have a validity, the first to end first.
SELECT number FROM jobs INDEXED BY jobs_by_validity
WHERE queue = :queue AND state = 'queued' AND valid_until IS NOT NULL

-- name: by_state
-- The jobs of a queue, state by state.
SELECT number FROM jobs INDEXED BY jobs_by_state WHERE queue = :queue

-- name: by_id
-- The jobs of a queue in order of creation.
SELECT number FROM jobs INDEXED BY jobs_by_id WHERE queue = :queue

-- name: and_state
-- In one state. An index by state and time then has the right order.
AND state = :state

-- name: and_states
-- In one of several states.
AND state IN (SELECT value FROM json_each(:states))

-- name: and_in
-- In one state that a merge of states names.
AND state = '{state}'

-- name: and_batch_id
-- Of one batch.
AND batch_id = :batch_id

-- name: and_destination
-- Of one telephone number.
AND destination = :destination

-- name: and_due_before
-- Due by a time.
AND due_at <= :due_before

-- name: and_valid_before
-- With a validity that ends by a time.
AND valid_until <= :valid_before

-- name: and_after
-- Created after a job.
AND id > :after

-- name: and_before
-- Created before a job.
AND id < :before

-- name: and_outcomes
-- With one of several outcomes, read from the tally beside each job.
AND EXISTS (
    SELECT 1 FROM json_each(tally) AS kept WHERE kept.key IN (SELECT 'outcome:' || value FROM json_each(:outcomes))
)

-- name: newest
-- The newest first.
ORDER BY id DESC LIMIT :limit

-- name: created
-- In order of creation. A limit of -1 means no limit.
ORDER BY id LIMIT :limit

-- name: due
-- The earliest due first.
ORDER BY due_at, id LIMIT :limit

-- name: any
-- In the order of the access path.
LIMIT :limit

-- name: as_one_row
-- The whole answer in one row. If rows were fetched one by one, each would release and take Python's lock.
SELECT json_group_array(number) FROM (SELECT number FROM ({search}))

-- name: count_by_state_due
-- The number of jobs of a queue in each state that are due by a time.
SELECT json_group_object(s.value, (
    SELECT count(*) FROM jobs INDEXED BY jobs_by_state WHERE queue = :queue AND state = s.value AND due_at <= :due_before
)) FROM json_each(:states) AS s;

-- name: count_batch_by_state_due
-- The same for a batch. This reads each row.
SELECT json_group_object(s.value, (
    SELECT count(*) FROM jobs INDEXED BY jobs_by_batch
    WHERE queue = :queue AND batch_id = :batch_id AND state = s.value AND due_at <= :due_before
)) FROM json_each(:states) AS s;
