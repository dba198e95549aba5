-- The tables of a store, in a schema of their own. Files of this folder call it `voiceflow`; when they are run, the name in
-- the URL of the store takes its place. Texts are in the order of their bytes ("C"), which is the order of Python.

CREATE TABLE voiceflow.jobs (
    id           text COLLATE "C" PRIMARY KEY,
    queue        text COLLATE "C" NOT NULL,
    state        text COLLATE "C" NOT NULL,
    due_at       timestamptz NOT NULL,
    revision     text NOT NULL,
    worker_id    text,
    urgency      integer NOT NULL, -- twice the priority, and one more for a retry that goes first
    batch_id     text COLLATE "C",
    destination  text NOT NULL,
    unique_key   text COLLATE "C",
    valid_until  timestamptz,
    active_until timestamptz,
    body_digest  text NOT NULL,
    record       text NOT NULL,
    outcome      text
) WITH (
    -- Each call is changed some five times, and each change leaves a dead row and its index entries. By default they would
    -- wait until they are a fifth of the table.
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000
);
COMMENT ON TABLE voiceflow.jobs IS
    'Calls. `record` is JSON, with all that has no column here: data, POSTs and their outcomes, notes';

-- A move writes a new version of the whole row. Only an edit changes a body, so bodies have a table of their own.
CREATE TABLE voiceflow.bodies (
    id   text COLLATE "C" PRIMARY KEY,
    body text NOT NULL
);
COMMENT ON TABLE voiceflow.bodies IS 'What is sent to 8x8 for each call: JSON';

CREATE TABLE voiceflow.numbers (
    queue     text COLLATE "C" NOT NULL,
    telephone text COLLATE "C" NOT NULL,
    id        text COLLATE "C" NOT NULL,
    PRIMARY KEY (queue, telephone, id)
);
COMMENT ON TABLE voiceflow.numbers IS 'The calls of each telephone number of a person';

CREATE VIEW voiceflow.calls AS
SELECT jobs.*, (SELECT body FROM voiceflow.bodies WHERE bodies.id = jobs.id) AS body FROM voiceflow.jobs;
COMMENT ON VIEW voiceflow.calls IS 'Calls with their bodies, as the store reads them';

CREATE VIEW voiceflow.call_list AS
SELECT id, queue, batch_id, state, outcome, destination, unique_key, urgency >> 1 AS priority, due_at, valid_until,
    (record::jsonb ->> 'created_at')::timestamptz AS created_at,
    (record::jsonb #>> '{posts,-1,began_at}')::timestamptz AS sent_at,
    record::jsonb #>> '{posts,-1,session_id}' AS session_id,
    record::jsonb ->> 'reason' AS reason,
    record::jsonb -> 'data' AS data
FROM voiceflow.jobs;
COMMENT ON VIEW voiceflow.call_list IS
    'Calls for people: `sent_at` and `session_id` are those of the last POST, `data` is what the caller stored with it';

-- The sweep, listings by state, and the number of calls that are due.
CREATE INDEX jobs_by_state ON voiceflow.jobs (queue, state, due_at, id);
-- Listings by state, in the order of creation.
CREATE INDEX jobs_in_state ON voiceflow.jobs (queue, state, id);
-- The calls of a batch in the order of their creation.
CREATE INDEX jobs_by_batch ON voiceflow.jobs (queue, batch_id, id) WHERE batch_id IS NOT NULL;
-- Who owns a key. The keys of deleted calls are in the records of the namespace `tombstone`.
CREATE UNIQUE INDEX jobs_by_key ON voiceflow.jobs (unique_key) WHERE unique_key IS NOT NULL;
-- Calls that may be leased, in the order of leasing.
CREATE INDEX jobs_to_lease ON voiceflow.jobs (queue, urgency DESC, due_at, id) WHERE state = 'queued';
-- The same by batch. A call without a batch is in the batch ''.
CREATE INDEX jobs_of_batch_to_lease ON voiceflow.jobs (queue, coalesce(batch_id, ''), urgency DESC, due_at, id)
    WHERE state = 'queued';
-- Queued calls whose validity ends.
CREATE INDEX jobs_by_validity ON voiceflow.jobs (queue, valid_until) WHERE state = 'queued' AND valid_until IS NOT NULL;
-- Calls that are open, for max_active.
CREATE INDEX jobs_active ON voiceflow.jobs (queue, active_until) WHERE active_until IS NOT NULL;

CREATE TABLE voiceflow.totals (
    queue  text COLLATE "C" NOT NULL,
    batch  text COLLATE "C" NOT NULL,
    field  text COLLATE "C" NOT NULL,
    live   bigint NOT NULL,
    PRIMARY KEY (queue, batch, field)
) WITH (
    -- A few rows that are changed again and again, in no index: the next version fits beside the old one, on the same page,
    -- so the indexes do not grow.
    fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500
);
COMMENT ON TABLE voiceflow.totals IS
    'Counters of each batch, and of each queue as the batch ''''. What is in `additions` must be added';

-- Counters would be rows that all writers wait for. So each bulk write adds rows here, and `prune` moves them to `totals`.
CREATE TABLE voiceflow.additions (
    number     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    queue      text COLLATE "C" NOT NULL,
    batch      text COLLATE "C" NOT NULL,
    tally      jsonb NOT NULL
) WITH (
    -- All rows are deleted soon: the table stays small if their room is used again soon.
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000
);
CREATE INDEX additions_by_batch ON voiceflow.additions (queue, batch);
COMMENT ON TABLE voiceflow.additions IS 'What was added to counters lately';

CREATE TABLE voiceflow.events (
    sequence bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    queue    text COLLATE "C" NOT NULL,
    job_id   text NOT NULL,
    kind     text NOT NULL,
    at       timestamptz NOT NULL,
    state    text NOT NULL,
    revision text NOT NULL,
    post     integer NOT NULL
);
CREATE INDEX events_by_queue ON voiceflow.events (queue, sequence);
CREATE INDEX events_by_time ON voiceflow.events (queue, at);
COMMENT ON TABLE voiceflow.events IS 'The outbox: what happened to calls, for their readers';

CREATE TABLE voiceflow.changes (
    number bigint GENERATED ALWAYS AS IDENTITY,
    queue  text COLLATE "C" NOT NULL,
    PRIMARY KEY (queue, number)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000); -- as `additions`
COMMENT ON TABLE voiceflow.changes IS 'By the newest number of a queue, workers that wait notice whether something has changed';

CREATE TABLE voiceflow.paces (
    queue text COLLATE "C" PRIMARY KEY,
    rate  double precision,
    burst integer,
    tat   double precision NOT NULL,
    last  double precision NOT NULL,
    unreached double precision
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500); -- as `totals`
COMMENT ON TABLE voiceflow.paces IS
    'The rate and the burst by which the last send slots of a queue were taken, and what follows from them';

CREATE TABLE voiceflow.records (
    namespace text COLLATE "C" NOT NULL,
    group_name text COLLATE "C" NOT NULL,
    member    text COLLATE "C" NOT NULL,
    value     text NOT NULL,
    ends_at   timestamptz,
    PRIMARY KEY (namespace, group_name, member)
) PARTITION BY LIST (namespace);
COMMENT ON TABLE voiceflow.records IS
    'Small texts: locks of numbers, the suppression list, gates, limits, heartbeats, and the keys of deleted calls';

-- Few rows, whose values and ends are changed several times a second. An index of the ends would have an entry for each
-- change; without one, the next version fits beside the old one, on the same page.
CREATE TABLE voiceflow.records_that_change PARTITION OF voiceflow.records FOR VALUES IN (
    'lease', 'limit', 'outcome-position', 'receiver', 'worker', 'writer'
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
COMMENT ON TABLE voiceflow.records_that_change IS 'The part of `records` whose rows change often';
-- Many rows, most of which are written once, and deleted at their end.
CREATE TABLE voiceflow.records_that_stay PARTITION OF voiceflow.records DEFAULT
    WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000);
COMMENT ON TABLE voiceflow.records_that_stay IS 'The part of `records` whose rows stay as they are until their end';
CREATE INDEX records_by_end ON voiceflow.records_that_stay (ends_at) WHERE ends_at IS NOT NULL;

CREATE VIEW voiceflow.suppression_list AS
SELECT group_name AS telephone, (value::jsonb ->> 'since')::timestamptz AS since, ends_at AS until,
    value::jsonb ->> 'reason' AS reason, value::jsonb ->> 'job_id' AS call_id
FROM voiceflow.records WHERE namespace = 'suppressed';
COMMENT ON VIEW voiceflow.suppression_list IS 'The suppression list: numbers that no queue calls, forever if `until` is NULL';

-- The statistics of a column repeat some of its values, for everybody to see in pg_stats, also after their rows are gone. No plan
-- needs those of the columns that hold what belongs to a person.
ALTER TABLE voiceflow.jobs ALTER destination SET STATISTICS 0, ALTER unique_key SET STATISTICS 0, ALTER record SET STATISTICS 0;
ALTER TABLE voiceflow.bodies ALTER body SET STATISTICS 0;
ALTER TABLE voiceflow.numbers ALTER telephone SET STATISTICS 0;
ALTER TABLE voiceflow.records ALTER group_name SET STATISTICS 0, ALTER member SET STATISTICS 0, ALTER value SET STATISTICS 0;
