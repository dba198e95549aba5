-- The tables of a store, in a schema of their own. Files of this folder call it `voiceflow`; when they are run, the name in
-- the URL of the store takes its place. Texts are in the order of their bytes ("C"), which is the order of Python.

CREATE TABLE voiceflow.jobs (
    id           text COLLATE "C" PRIMARY KEY,
    queue        text COLLATE "C" NOT NULL,
    state        text COLLATE "C" NOT NULL,
    due_at       timestamptz NOT NULL,
    revision     text NOT NULL,
    worker_id    text,
    priority     integer NOT NULL,
    batch_id     text COLLATE "C",
    destination  text NOT NULL,
    unique_key   text COLLATE "C",
    valid_until  timestamptz,
    active_until timestamptz,
    body_digest  text NOT NULL,
    record       text NOT NULL,
    outcome      text
);
COMMENT ON TABLE voiceflow.jobs IS
    'Calls. `record` is JSON, with all that has no column here: data, POSTs and their outcomes, notes';

-- A move writes a new version of the whole row. Bodies never change, so they have a table of their own.
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
COMMENT ON VIEW voiceflow.calls IS 'Calls with their bodies';

-- The sweep, listings by state, and the number of calls that are due.
CREATE INDEX jobs_by_state ON voiceflow.jobs (queue, state, due_at, id);
-- The calls of a batch in the order of their creation.
CREATE INDEX jobs_by_batch ON voiceflow.jobs (queue, batch_id, id) WHERE batch_id IS NOT NULL;
-- Who owns a key. The keys of deleted calls are in the records of the namespace `tombstone`.
CREATE UNIQUE INDEX jobs_by_key ON voiceflow.jobs (queue, unique_key) WHERE unique_key IS NOT NULL;
-- Calls that may be leased, in the order of leasing.
CREATE INDEX jobs_to_lease ON voiceflow.jobs (queue, priority DESC, due_at, id) WHERE state = 'queued';
-- The same by batch. A call without a batch is in the batch ''.
CREATE INDEX jobs_of_batch_to_lease ON voiceflow.jobs (queue, coalesce(batch_id, ''), priority DESC, due_at, id)
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
    pruned bigint NOT NULL,
    PRIMARY KEY (queue, batch, field)
);
COMMENT ON TABLE voiceflow.totals IS
    'Counters of each batch; those without one are in the batch ''''. What is in `additions` must be added';

-- Counters would be rows that all writers wait for. So each step adds rows here, and `prune` moves them to `totals`.
CREATE TABLE voiceflow.additions (
    number     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    queue      text COLLATE "C" NOT NULL,
    batch      text COLLATE "C" NOT NULL,
    tally      jsonb NOT NULL,
    is_deletion boolean NOT NULL -- the jobs were deleted: they stay in the totals of their batch, as pruned
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
COMMENT ON TABLE voiceflow.events IS 'The outbox: what happened to calls, for those who are told of it';

CREATE TABLE voiceflow.changes (
    number bigint GENERATED ALWAYS AS IDENTITY,
    queue  text COLLATE "C" NOT NULL,
    PRIMARY KEY (queue, number)
);
COMMENT ON TABLE voiceflow.changes IS 'The newest number of a queue tells workers that wait whether something has changed';

CREATE TABLE voiceflow.paces (
    queue text COLLATE "C" PRIMARY KEY,
    rate  double precision,
    burst integer,
    tat   double precision NOT NULL,
    last  double precision NOT NULL
);
COMMENT ON TABLE voiceflow.paces IS
    'The rate and the burst by which the last departure times of a queue were taken, and what follows from them';

CREATE TABLE voiceflow.records (
    namespace text COLLATE "C" NOT NULL,
    group_name text COLLATE "C" NOT NULL,
    member    text COLLATE "C" NOT NULL,
    value     text NOT NULL,
    ends_at   timestamptz,
    PRIMARY KEY (namespace, group_name, member)
);
CREATE INDEX records_by_end ON voiceflow.records (ends_at) WHERE ends_at IS NOT NULL;
COMMENT ON TABLE voiceflow.records IS
    'Small texts: locks of numbers, the suppression list, gates, limits, heartbeats, and the keys of deleted calls';
