-- The layout of a store. All times are whole microseconds since 1970-01-01 UTC; records and bodies are JSON texts.

-- One row: the name of this store, which every copy of the file keeps.
CREATE TABLE store (id TEXT NOT NULL) STRICT;
INSERT INTO store VALUES (lower(hex(randomblob(16))));

-- One row for each job: the indexed head, the name of its newest outcome, and the rest in `record`, which no statement
-- searches.
CREATE TABLE jobs (
    number       INTEGER PRIMARY KEY,
    id           TEXT NOT NULL,
    queue        TEXT NOT NULL,
    state        TEXT NOT NULL,
    due_at       INTEGER NOT NULL,
    revision     TEXT NOT NULL,
    worker_id    TEXT,
    urgency      INTEGER NOT NULL, -- twice the priority, and one more for a retry that goes first
    batch_id     TEXT,
    destination  TEXT NOT NULL,
    unique_key   TEXT,
    valid_until  INTEGER,
    active_until INTEGER,
    body_digest  TEXT NOT NULL,
    record       TEXT NOT NULL,
    outcome      TEXT
) STRICT;

-- Only an edit changes a body. Because bodies have a table of their own, a move rewrites a third of a page, and not two pages.
CREATE TABLE bodies (
    number INTEGER PRIMARY KEY,
    body   TEXT NOT NULL
) STRICT;

-- The jobs of a number: one row for each number of a job's person. No move touches it.
CREATE TABLE numbers (
    queue     TEXT NOT NULL,
    telephone TEXT NOT NULL,
    job       INTEGER NOT NULL, -- its number in jobs
    PRIMARY KEY (queue, telephone, job)
) STRICT, WITHOUT ROWID;

-- Jobs by id, which begins with the queue and a dot. So this is also the listing of a queue in order of creation.
CREATE UNIQUE INDEX jobs_by_id ON jobs (id);
-- The sweep, and the number of jobs that are due.
CREATE INDEX jobs_by_state ON jobs (queue, state, due_at, id);
-- Listings by state, in order of creation.
CREATE INDEX jobs_in_state ON jobs (queue, state, id);
-- A batch's jobs in order of creation. The last column can be checked without reading the row.
CREATE INDEX jobs_by_batch ON jobs (queue, batch_id, id, state) WHERE batch_id IS NOT NULL;
-- Who owns a key. The keys of deleted jobs are in the records of the namespace `tombstone`.
CREATE UNIQUE INDEX jobs_by_key ON jobs (unique_key) WHERE unique_key IS NOT NULL;
-- Jobs that may be leased, in the order of leasing. The last columns can be checked without reading the row.
CREATE INDEX jobs_to_lease ON jobs (queue, urgency DESC, due_at, id, batch_id, valid_until)
    WHERE state = 'queued';
-- The same by batch; jobs without one are a batch too.
CREATE INDEX jobs_of_batch_to_lease ON jobs (queue, batch_id, urgency DESC, due_at, id, valid_until)
    WHERE state = 'queued';
-- Queued jobs whose validity ends.
CREATE INDEX jobs_by_validity ON jobs (queue, valid_until, id) WHERE state = 'queued' AND valid_until IS NOT NULL;
-- Calls that are open, for max_active.
CREATE INDEX jobs_active ON jobs (queue, active_until, state) WHERE active_until IS NOT NULL;

-- Counters: the sums of what writes carry, for each queue and for each batch of it.
CREATE TABLE totals (
    queue  TEXT NOT NULL,
    batch  TEXT NOT NULL, -- '' for the whole queue, else '=' and the id of a batch
    field  TEXT NOT NULL,
    live   INTEGER NOT NULL, -- the sum over the jobs that are there
    PRIMARY KEY (queue, batch, field)
) STRICT, WITHOUT ROWID;

-- The outbox. With AUTOINCREMENT, no sequence is given twice, even if the newest events were deleted.
CREATE TABLE events (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    queue    TEXT NOT NULL,
    job_id   TEXT NOT NULL,
    kind     TEXT NOT NULL,
    at       INTEGER NOT NULL,
    state    TEXT NOT NULL,
    revision TEXT NOT NULL,
    post     INTEGER NOT NULL
) STRICT;
CREATE INDEX events_by_queue ON events (queue, sequence);
CREATE INDEX events_by_time ON events (queue, at);

-- The change count of a queue, and its pace: the rate and the burst by which the last send slots were taken, and
-- what follows from these times (epoch seconds).
CREATE TABLE queues (
    queue   TEXT PRIMARY KEY,
    changes INTEGER NOT NULL DEFAULT 1,
    rate    REAL,
    burst   INTEGER,
    tat     REAL NOT NULL DEFAULT 0,
    last    REAL NOT NULL DEFAULT 0,
    unreached REAL
) STRICT, WITHOUT ROWID;

-- Records, gates and limits among them. The namespace `tombstone` has what is kept of deleted jobs with a unique key.
-- The rows of a list are values of 45 KB. Without rowids they would stand in the tree of the keys, and each search that
-- passes one would read all of it: 37 µs for three groups in place of 2, behind 1,000 of them.
CREATE TABLE records (
    namespace TEXT NOT NULL,
    grp       TEXT NOT NULL, -- the group
    member    TEXT NOT NULL, -- '' in a group of one record
    value     TEXT NOT NULL,
    ends_at   INTEGER,
    PRIMARY KEY (namespace, grp, member)
) STRICT;
CREATE INDEX records_by_end ON records (ends_at) WHERE ends_at IS NOT NULL;
