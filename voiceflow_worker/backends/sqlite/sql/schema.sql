-- Version 1 of the store. All times are whole microseconds since 1970-01-01 UTC; records and bodies are JSON texts.

-- One row for each job: the indexed head, and the rest in `record`, which no statement searches.
CREATE TABLE jobs (
    number       INTEGER PRIMARY KEY,
    id           TEXT NOT NULL UNIQUE,
    queue        TEXT NOT NULL,
    state        TEXT NOT NULL,
    due_at       INTEGER NOT NULL,
    revision     TEXT NOT NULL,
    worker_id    TEXT,
    priority     INTEGER NOT NULL,
    batch_id     TEXT,
    destination  TEXT NOT NULL,
    unique_key   TEXT,
    valid_until  INTEGER,
    active_until INTEGER,
    record       TEXT NOT NULL
) STRICT;

-- Bodies never change. Because they have a table of their own, a move rewrites a third of a page, and not two pages.
CREATE TABLE bodies (
    number INTEGER PRIMARY KEY,
    body   TEXT NOT NULL
) STRICT;

-- Listings in order of creation. No move touches it.
CREATE INDEX jobs_by_id ON jobs (queue, id);
-- The sweep, counts by state, the oldest due job.
CREATE INDEX jobs_by_state ON jobs (queue, state, due_at, id);
-- A batch's jobs and its counts by state.
CREATE INDEX jobs_by_batch ON jobs (queue, batch_id, state, id) WHERE batch_id IS NOT NULL;
-- A number's jobs. No move touches it.
CREATE INDEX jobs_by_destination ON jobs (queue, destination, id);
-- Who owns a key; keys of deleted jobs are in `tombstones`.
CREATE UNIQUE INDEX jobs_by_key ON jobs (queue, unique_key) WHERE unique_key IS NOT NULL;
-- Jobs that may be leased, in the order of leasing. The last two columns can be checked without reading the row.
CREATE INDEX jobs_to_lease ON jobs (queue, priority DESC, due_at, id, valid_until, batch_id) WHERE state = 'queued';
-- The same within a batch, or among the jobs without a batch.
CREATE INDEX jobs_to_lease_by_batch ON jobs (queue, batch_id, priority DESC, due_at, id, valid_until)
    WHERE state = 'queued';
-- Queued jobs whose validity ends.
CREATE INDEX jobs_by_validity ON jobs (queue, valid_until, id) WHERE state = 'queued' AND valid_until IS NOT NULL;
-- Calls that are open, for max_active.
CREATE INDEX jobs_active ON jobs (queue, active_until, state) WHERE active_until IS NOT NULL;

-- Tombstones of deleted jobs that had a unique key. They have nothing about the person who was called.
CREATE TABLE tombstones (
    queue       TEXT NOT NULL,
    unique_key  TEXT NOT NULL,
    job_id      TEXT NOT NULL,
    body_digest TEXT NOT NULL,
    state       TEXT NOT NULL,
    due_at      INTEGER NOT NULL,
    created_at  INTEGER NOT NULL,
    not_before  INTEGER,
    valid_until INTEGER,
    expires_at  INTEGER NOT NULL,
    PRIMARY KEY (queue, unique_key)
) STRICT, WITHOUT ROWID;
CREATE INDEX tombstones_by_expiry ON tombstones (expires_at);

-- The outbox. With AUTOINCREMENT, no sequence is given twice, even if the newest events were deleted.
CREATE TABLE events (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    queue    TEXT NOT NULL,
    job_id   TEXT NOT NULL,
    kind     TEXT NOT NULL,
    at       INTEGER NOT NULL,
    state    TEXT NOT NULL,
    revision TEXT NOT NULL,
    post     INTEGER NOT NULL DEFAULT 0 -- files of older versions get this column when they are opened
) STRICT;
CREATE INDEX events_by_queue ON events (queue, sequence);
CREATE INDEX events_by_time ON events (queue, at);

-- The limits of a queue, its pace (epoch seconds), and its change count.
CREATE TABLE queues (
    queue      TEXT PRIMARY KEY,
    configured INTEGER NOT NULL DEFAULT 0,
    rate       REAL,
    burst      INTEGER NOT NULL DEFAULT 1,
    max_active INTEGER,
    tat        REAL NOT NULL DEFAULT 0,
    last       REAL NOT NULL DEFAULT 0,
    changes    INTEGER NOT NULL DEFAULT 1
) STRICT, WITHOUT ROWID;

CREATE TABLE gates (
    queue  TEXT NOT NULL,
    scope  TEXT NOT NULL,
    name   TEXT NOT NULL,
    state  TEXT NOT NULL,
    until  INTEGER,
    reason TEXT NOT NULL,
    since  INTEGER NOT NULL,
    PRIMARY KEY (queue, scope, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE records (
    namespace  TEXT NOT NULL,
    key        TEXT NOT NULL,
    value      TEXT NOT NULL,
    expires_at INTEGER,
    PRIMARY KEY (namespace, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX records_by_expiry ON records (expires_at) WHERE expires_at IS NOT NULL;
