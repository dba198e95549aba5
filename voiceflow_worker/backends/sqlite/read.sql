-- Reading: jobs, records, events and counters. Lists come as one row of JSON, because each row that is fetched would
-- release and take Python's lock.


-- name: store_id
-- The name of the store.
SELECT id FROM store;


-- Jobs with their bodies.

-- name: job_by_id
-- The job with this id.
SELECT id, queue, state, due_at, revision, worker_id, urgency, batch_id, destination, unique_key, valid_until,
       active_until, body_digest, record, body
FROM jobs JOIN bodies USING (number) WHERE id = ?;

-- name: job_by_number
-- The job with this number.
SELECT id, queue, state, due_at, revision, worker_id, urgency, batch_id, destination, unique_key, valid_until,
       active_until, body_digest, record, body
FROM jobs JOIN bodies USING (number) WHERE number = ?;

-- name: jobs_by_numbers
-- The jobs with these numbers, in the order of the list: CROSS JOIN makes SQLite read the list first.
SELECT id, queue, state, due_at, revision, worker_id, urgency, batch_id, destination, unique_key, valid_until,
       active_until, body_digest, record, body
FROM (SELECT value AS number FROM json_each(?)) CROSS JOIN jobs USING (number) JOIN bodies USING (number);

-- name: owner_of_key
-- The job that owns a unique key, or the tombstone of a deleted one.
SELECT number, id, body_digest, state, NULL FROM jobs WHERE unique_key = ?1
UNION ALL
SELECT NULL, NULL, NULL, NULL, value FROM records
WHERE namespace = 'tombstone' AND grp = '' AND member = ?1 AND ends_at > ?2
LIMIT 1;


-- Searches: lists of the numbers of jobs. Each names its index, without which SQLite would read the whole table.

-- name: jobs_due
-- Jobs of a queue in a state, by the time at which they are due.
SELECT json_group_array(number) FROM (
    SELECT number FROM jobs INDEXED BY jobs_by_state
    WHERE queue = :queue AND state = :state AND due_at <= :by
    ORDER BY due_at, id LIMIT :limit
);

-- name: jobs_expired
-- Queued jobs whose validity has ended.
SELECT json_group_array(number) FROM (
    SELECT number FROM jobs INDEXED BY jobs_by_validity
    WHERE queue = :queue AND state = 'queued' AND valid_until <= :at LIMIT :limit
);

-- name: jobs_waiting
-- Queued jobs of a batch, by the time at which they are due. The index has each urgency apart: so the first ones of each are
-- read, and no others.
WITH RECURSIVE found (level) AS (
    SELECT max(urgency) FROM jobs INDEXED BY jobs_of_batch_to_lease
    WHERE queue = :queue AND batch_id = :batch AND state = 'queued'
    UNION ALL
    SELECT (
        SELECT max(urgency) FROM jobs INDEXED BY jobs_of_batch_to_lease
        WHERE queue = :queue AND batch_id = :batch AND state = 'queued' AND urgency < level
    ) FROM found WHERE level IS NOT NULL
)
SELECT json_group_array(number) FROM (
    SELECT number FROM found CROSS JOIN jobs WHERE number IN (
        SELECT number FROM jobs INDEXED BY jobs_of_batch_to_lease
        WHERE queue = :queue AND batch_id = :batch AND state = 'queued' AND urgency = level AND due_at <= :by
        ORDER BY due_at, id LIMIT :limit
    ) ORDER BY due_at, id LIMIT :limit
);


-- Listings: lists of the numbers of jobs, by id. `{also}` are further conditions, and `{order}` is ASC or DESC.

-- name: jobs_of_number
-- Jobs of a queue that have a telephone number.
SELECT json_group_array(number) FROM (
    SELECT number FROM jobs NOT INDEXED
    WHERE number IN (SELECT job FROM numbers WHERE queue = :queue AND telephone = :number) {also}
    ORDER BY id {order} LIMIT :limit
);

-- name: jobs_of_queue
-- Jobs of a queue: their ids begin with its name and a dot.
SELECT json_group_array(number) FROM (
    SELECT number FROM jobs INDEXED BY jobs_by_id
    WHERE id > :queue || '.' AND id < :queue || '/' {also}
    ORDER BY id {order} LIMIT :limit
);

-- name: jobs_of_batch
-- Jobs of a batch.
SELECT json_group_array(number) FROM (
    SELECT number FROM jobs INDEXED BY jobs_by_batch
    WHERE queue = :queue AND batch_id = :batch {also}
    ORDER BY id {order} LIMIT :limit
);

-- name: jobs_in_states
-- Jobs of a queue in some states: the first ones in each of them.
SELECT json_group_array(number) FROM (
    SELECT number FROM (SELECT value AS in_state FROM json_each(:states)) CROSS JOIN jobs WHERE number IN (
        SELECT number FROM jobs INDEXED BY jobs_in_state
        WHERE queue = :queue AND state = in_state {also}
        ORDER BY id {order} LIMIT :limit
    ) ORDER BY id {order} LIMIT :limit
);


-- Current records.

-- name: record
-- One member of a group.
SELECT grp, value, ends_at, member FROM records
WHERE namespace = ? AND grp = ? AND (ends_at IS NULL OR ends_at > ?) AND member = ?;

-- name: group_of_records
-- All members of a group.
SELECT grp, value, ends_at, member FROM records
WHERE namespace = ? AND grp = ? AND (ends_at IS NULL OR ends_at > ?) ORDER BY member;

-- What a bulk write asks for, at once: each statement takes a table of values as JSON.

-- name: revisions_of
-- The revisions of the jobs with these ids.
SELECT jobs.id, revision FROM json_each(?) AS named CROSS JOIN jobs ON jobs.id = named.value;

-- name: heads_of_keys
-- The owners of unique keys: of jobs first, then of tombstones.
SELECT unique_key, jobs.id, body_digest, state, NULL
FROM json_each(?1) AS named CROSS JOIN jobs ON unique_key = named.value
UNION ALL
SELECT member, NULL, NULL, NULL, records.value FROM json_each(?1) AS named
CROSS JOIN records ON namespace = 'tombstone' AND grp = '' AND member = named.value
WHERE ends_at > ?2;

-- name: records_of_groups
-- The current records of groups, [namespace, group] of each.
SELECT namespace, grp, records.value, ends_at, member FROM json_each(?1) AS named
CROSS JOIN records ON namespace = named.value ->> 0 AND grp = named.value ->> 1
WHERE ends_at IS NULL OR ends_at > ?2;

-- name: records_of_keys
-- Single current records, [namespace, group, member] of each.
SELECT namespace, grp, records.value, ends_at, records.member FROM json_each(?1) AS named
CROSS JOIN records ON namespace = named.value ->> 0 AND grp = named.value ->> 1 AND member = named.value ->> 2
WHERE ends_at IS NULL OR ends_at > ?2;

-- name: page_of_records
-- A page of a namespace.
SELECT grp, value, ends_at, member FROM records
WHERE namespace = ?1 AND (grp, member) >= (?3, ?4) AND (ends_at IS NULL OR ends_at > ?2)
ORDER BY grp, member LIMIT ?5;

-- name: page_of_group
-- A page of a group.
SELECT grp, value, ends_at, member FROM records
WHERE namespace = ?1 AND grp = ?3 AND member >= ?4 AND (ends_at IS NULL OR ends_at > ?2)
ORDER BY member LIMIT ?5;


-- Events and changes.

-- name: events_after
-- The events of a queue behind a sequence, oldest first.
SELECT sequence, job_id, kind, at, state, revision, post FROM events WHERE queue = ? AND sequence > ?
ORDER BY sequence LIMIT ?;

-- name: changes
-- The count of changes of a queue.
SELECT changes FROM queues WHERE queue = ?;


-- Counters.

-- name: totals
-- The counters of these batches of a queue. The names are those of the table.
SELECT batch, field, live FROM totals WHERE queue = ? AND batch IN (SELECT value FROM json_each(?));

-- name: count_due
-- The number of jobs of a queue in a state that are due by a time.
SELECT count(*) FROM jobs INDEXED BY jobs_by_state WHERE queue = :queue AND state = :state AND due_at <= :by;

-- name: count_waiting
-- The number of queued jobs of a batch that are due by a time. This reads the index entries of
-- the queued jobs of the batch.
SELECT count(*) FROM jobs INDEXED BY jobs_of_batch_to_lease
WHERE queue = :queue AND batch_id = :batch AND state = 'queued' AND due_at <= :by;
