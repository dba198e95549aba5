-- Reads and corrections of the totals (see schema.sql).

-- name: of_batch
-- The totals of a batch.
SELECT json_group_array(json_array(field, live, pruned)) FROM (
    SELECT field, live, pruned FROM totals WHERE queue = :queue AND batch = :batch
    UNION ALL SELECT 'state:' || s.value, (
        SELECT count(*) FROM jobs INDEXED BY jobs_by_batch
        WHERE queue = :queue AND batch_id = substr(:batch, 2) AND state = s.value
    ), 0 FROM json_each('["leased", "sending", "submitted"]') AS s
);

-- name: of_queue
-- The totals of a queue: the sum over its batches, without deleted jobs.
SELECT json_group_array(json_array(field, live, 0)) FROM (
    SELECT field, sum(live) AS live FROM totals WHERE queue = :queue GROUP BY field
    UNION ALL SELECT 'state:' || s.value, (
        SELECT count(*) FROM jobs INDEXED BY jobs_by_state WHERE queue = :queue AND state = s.value
    ) FROM json_each('["leased", "sending", "submitted"]') AS s
);

-- name: states_of_batch
-- The number of jobs of a batch in each state.
SELECT json_group_object('state:' || s.value, iif(s.value IN ('leased', 'sending', 'submitted'), (
    SELECT count(*) FROM jobs INDEXED BY jobs_by_batch
    WHERE queue = :queue AND batch_id = substr(:batch, 2) AND state = s.value
), (
    SELECT live FROM totals WHERE queue = :queue AND batch = :batch AND field = 'state:' || s.value
))) FROM json_each(:states) AS s;

-- name: states_of_queue
-- The number of jobs of a queue in each state.
SELECT json_group_object('state:' || s.value, iif(s.value IN ('leased', 'sending', 'submitted'), (
    SELECT count(*) FROM jobs INDEXED BY jobs_by_state WHERE queue = :queue AND state = s.value
), (
    SELECT sum(live) FROM totals WHERE queue = :queue AND field = 'state:' || s.value
))) FROM json_each(:states) AS s;
