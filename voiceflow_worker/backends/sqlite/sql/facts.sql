-- Pages of the facts of calls, which reports count.

-- name: of_queue
-- The next jobs of a queue, in the order of their ids.
SELECT number FROM jobs INDEXED BY jobs_by_id WHERE queue = :queue AND id > :after ORDER BY id LIMIT :limit

-- name: of_batch_in_state
-- The next jobs of a batch in one state. `of_batch` merges the states, because the index has the order of ids only
-- within a state. If each page read the whole batch instead, 200,000 calls would take 11 s.
SELECT number, id FROM jobs INDEXED BY jobs_by_batch
WHERE queue = :queue AND batch_id = :batch_id AND state = '{state}' AND id > :after

-- name: of_batch
-- The next jobs of a batch, in the order of their ids.
SELECT number FROM ({states} ORDER BY id LIMIT :limit)

-- name: page
-- A JSON array: the last id (null without jobs), the rows of facts as one text, and the jobs without facts.
SELECT json_array(
    max(id),
    '[' || group_concat(iif(facts = '', :none, facts)) || ']',
    json_group_array(json_array(id, state, destination, record)) FILTER (WHERE facts = '')
)
FROM (SELECT id, state, destination, record, facts FROM ({numbers}) CROSS JOIN jobs USING (number))
