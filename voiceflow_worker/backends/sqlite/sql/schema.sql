-- The layout of a store. All times are whole microseconds since 1970-01-01 UTC; records and bodies are JSON texts.

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
    record       TEXT NOT NULL,
    tally        TEXT -- a JSON object of whole numbers, for the totals; NULL for an empty one
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
-- Jobs of a batch, or without a batch, that may be leased, in the order of leasing. The last column can be checked
-- without reading the row.
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
    post     INTEGER NOT NULL
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

-- Lanes: one row for each batch and priority with queued jobs. No job before the place (due_at, id) of its lane can be
-- leased. So a lease skips batches that are not due, and jobs that have expired. Triggers update the lanes.
CREATE TABLE lanes (
    queue    TEXT NOT NULL,
    batch    TEXT NOT NULL, -- '' for the jobs without one, else '=' and its id
    priority INTEGER NOT NULL,
    due_at   INTEGER NOT NULL,
    id       TEXT NOT NULL,
    opens_at INTEGER, -- for a lane put aside because its batch is closed: when the batch opens by itself
    as_of    INTEGER, -- when jobs before the place had expired; if the clock is set back, they may be valid
    PRIMARY KEY (queue, batch, priority)
) STRICT, WITHOUT ROWID;
CREATE INDEX lanes_to_lease ON lanes (queue, priority DESC, due_at, id) WHERE opens_at IS NULL;
CREATE INDEX lanes_aside ON lanes (queue, opens_at) WHERE opens_at IS NOT NULL;
CREATE INDEX lanes_judged ON lanes (queue, as_of) WHERE as_of IS NOT NULL;
CREATE TRIGGER job_enters_lane AFTER INSERT ON jobs WHEN NEW.state = 'queued' BEGIN
    INSERT INTO lanes (queue, batch, priority, due_at, id)
    VALUES (NEW.queue, coalesce('=' || NEW.batch_id, ''), NEW.priority, NEW.due_at, NEW.id)
    ON CONFLICT (queue, batch, priority) DO UPDATE SET due_at = excluded.due_at, id = excluded.id
        WHERE (excluded.due_at, excluded.id) < (lanes.due_at, lanes.id);
END;
CREATE TRIGGER job_comes_back_to_lane AFTER UPDATE OF state, due_at, priority, batch_id, valid_until ON jobs
WHEN NEW.state = 'queued' BEGIN
    INSERT INTO lanes (queue, batch, priority, due_at, id)
    VALUES (NEW.queue, coalesce('=' || NEW.batch_id, ''), NEW.priority, NEW.due_at, NEW.id)
    ON CONFLICT (queue, batch, priority) DO UPDATE SET due_at = excluded.due_at, id = excluded.id
        WHERE (excluded.due_at, excluded.id) < (lanes.due_at, lanes.id);
END;
CREATE TRIGGER gate_shows_lanes AFTER INSERT ON gates WHEN NEW.scope = 'batch' BEGIN
    UPDATE lanes SET opens_at = NULL WHERE queue = NEW.queue AND batch = '=' || NEW.name AND opens_at IS NOT NULL;
END;
CREATE TRIGGER gate_changes_lanes AFTER UPDATE ON gates WHEN NEW.scope = 'batch' BEGIN
    UPDATE lanes SET opens_at = NULL WHERE queue = NEW.queue AND batch = '=' || NEW.name AND opens_at IS NOT NULL;
END;
CREATE TRIGGER gate_leaves_lanes AFTER DELETE ON gates WHEN OLD.scope = 'batch' BEGIN
    UPDATE lanes SET opens_at = NULL WHERE queue = OLD.queue AND batch = '=' || OLD.name AND opens_at IS NOT NULL;
END;

-- Totals: counters of states and of tallies for each batch ('' stands for jobs without a batch). Triggers update them.
-- Open calls (leased, sending, submitted) are few, and are counted when somebody asks. So most moves write no counter of
-- a state. (In a trigger, SQLite builds an index for each IN of three values, which takes 7 µs. Chains of <> do not.)
CREATE TABLE totals (
    queue  TEXT NOT NULL,
    batch  TEXT NOT NULL, -- '' for the jobs without one, else '=' and its id
    field  TEXT NOT NULL,
    live   INTEGER NOT NULL DEFAULT 0, -- the sum over the jobs that are there
    pruned INTEGER NOT NULL DEFAULT 0, -- the sum over the deleted jobs of a batch that still has jobs
    PRIMARY KEY (queue, field, batch)
) STRICT, WITHOUT ROWID;
CREATE INDEX totals_by_batch ON totals (queue, batch);
CREATE TRIGGER job_is_counted AFTER INSERT ON jobs
WHEN NEW.state <> 'leased' AND NEW.state <> 'sending' AND NEW.state <> 'submitted' BEGIN
    INSERT INTO totals (queue, batch, field, live)
    VALUES (NEW.queue, coalesce('=' || NEW.batch_id, ''), 'state:' || NEW.state, 1)
    ON CONFLICT DO UPDATE SET live = live + 1;
END;
CREATE TRIGGER tally_is_counted AFTER INSERT ON jobs WHEN NEW.tally IS NOT NULL BEGIN
    INSERT INTO totals (queue, batch, field, live)
    SELECT NEW.queue, coalesce('=' || NEW.batch_id, ''), key, value FROM json_each(NEW.tally) WHERE true
    ON CONFLICT DO UPDATE SET live = live + excluded.live;
END;
CREATE TRIGGER job_leaves_state AFTER UPDATE OF state ON jobs
WHEN OLD.state <> NEW.state AND OLD.state <> 'leased' AND OLD.state <> 'sending' AND OLD.state <> 'submitted' BEGIN
    UPDATE totals SET live = live - 1
    WHERE queue = OLD.queue AND batch = coalesce('=' || OLD.batch_id, '') AND field = 'state:' || OLD.state;
END;
CREATE TRIGGER job_enters_state AFTER UPDATE OF state ON jobs
WHEN OLD.state <> NEW.state AND NEW.state <> 'leased' AND NEW.state <> 'sending' AND NEW.state <> 'submitted' BEGIN
    INSERT INTO totals (queue, batch, field, live)
    VALUES (OLD.queue, coalesce('=' || OLD.batch_id, ''), 'state:' || NEW.state, 1)
    ON CONFLICT DO UPDATE SET live = live + 1;
END;
CREATE TRIGGER job_changes_tally AFTER UPDATE OF tally ON jobs WHEN OLD.tally IS NOT NEW.tally BEGIN
    INSERT INTO totals (queue, batch, field, live)
    SELECT OLD.queue, coalesce('=' || OLD.batch_id, ''), key, -value FROM json_each(OLD.tally)
    UNION ALL SELECT OLD.queue, coalesce('=' || OLD.batch_id, ''), key, value FROM json_each(NEW.tally)
    WHERE true
    ON CONFLICT DO UPDATE SET live = live + excluded.live;
END;
CREATE TRIGGER job_changes_batch AFTER UPDATE OF batch_id ON jobs WHEN OLD.batch_id IS NOT NEW.batch_id BEGIN
    INSERT INTO totals (queue, batch, field, live)
    SELECT NEW.queue, coalesce('=' || OLD.batch_id, ''), key, -value FROM json_each(NEW.tally)
    UNION ALL SELECT NEW.queue, coalesce('=' || NEW.batch_id, ''), key, value FROM json_each(NEW.tally)
    UNION ALL SELECT NEW.queue, coalesce('=' || OLD.batch_id, ''), 'state:' || NEW.state, -1
    WHERE NEW.state <> 'leased' AND NEW.state <> 'sending' AND NEW.state <> 'submitted'
    UNION ALL SELECT NEW.queue, coalesce('=' || NEW.batch_id, ''), 'state:' || NEW.state, 1
    WHERE NEW.state <> 'leased' AND NEW.state <> 'sending' AND NEW.state <> 'submitted'
    ON CONFLICT DO UPDATE SET live = live + excluded.live;
END;
CREATE TRIGGER job_is_pruned AFTER DELETE ON jobs BEGIN
    INSERT INTO totals (queue, batch, field, live, pruned)
    SELECT OLD.queue, coalesce('=' || OLD.batch_id, ''), key, -value, iif(OLD.batch_id IS NULL, 0, value)
    FROM (SELECT key, value FROM json_each(OLD.tally) UNION ALL SELECT 'state:' || OLD.state, 1)
    WHERE key NOT IN ('state:leased', 'state:sending', 'state:submitted')
    ON CONFLICT DO UPDATE SET live = live + excluded.live, pruned = pruned + excluded.pruned;
    -- The totals of a batch are deleted with its last job.
    DELETE FROM totals
    WHERE queue = OLD.queue AND batch = '=' || OLD.batch_id AND NOT EXISTS (
        SELECT 1 FROM jobs INDEXED BY jobs_by_batch WHERE queue = OLD.queue AND batch_id = OLD.batch_id
    );
    DELETE FROM totals
    WHERE OLD.batch_id IS NULL AND queue = OLD.queue AND batch = '' AND live = 0
          AND field IN (SELECT key FROM json_each(OLD.tally));
END;
