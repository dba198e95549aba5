-- Totals: counters of states and of tallies for each batch ('' stands for jobs without a batch). Triggers update them,
-- so states stay right when a process of an older release writes. Tallies then stay as a newer process last wrote them.
-- Open calls (leased, sending, submitted) are few, and are counted when somebody asks. So most moves write no counter of
-- a state. (In a trigger, SQLite builds an index for each IN of three values, which takes 7 µs. Chains of <> do not.)

-- name: create
-- The table, its triggers, and the tally of each job; filled with the states that are there.
ALTER TABLE jobs ADD COLUMN tally TEXT; -- a JSON object of whole numbers; NULL for an empty one
CREATE TABLE totals (
    queue  TEXT NOT NULL,
    batch  TEXT NOT NULL, -- '' for the jobs without one, else '=' and its id
    field  TEXT NOT NULL,
    live   INTEGER NOT NULL DEFAULT 0, -- the sum over the jobs that are there
    pruned INTEGER NOT NULL DEFAULT 0, -- the sum over the deleted jobs of a batch that still has jobs
    PRIMARY KEY (queue, field, batch)
) STRICT, WITHOUT ROWID;
CREATE INDEX totals_by_batch ON totals (queue, batch);
-- The queues with complete tallies; '' stands for all queues of a new file.
CREATE TABLE tallied (queue TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
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
INSERT INTO totals (queue, batch, field, live)
SELECT queue, coalesce('=' || batch_id, ''), 'state:' || state, count(*) FROM jobs
WHERE state NOT IN ('leased', 'sending', 'submitted') GROUP BY queue, batch_id, state;
INSERT INTO tallied (queue) SELECT '' WHERE NOT EXISTS (SELECT 1 FROM jobs);

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

-- name: is_tallied
-- Whether the tallies of a queue are complete.
SELECT 1 FROM tallied WHERE queue IN ('', ?);

-- name: set_tallied
-- Notes that the tallies of a queue are complete.
INSERT OR IGNORE INTO tallied (queue) VALUES (?);

-- name: set_tally
-- Sets the tally of a job if it has the given revision; then returns its id if the tally has changed.
UPDATE jobs SET tally = ?1 WHERE id = ?2 AND revision = ?3 AND tally IS NOT ?1 RETURNING id;

-- name: adjust
-- Adds an amount to a field of the live totals.
INSERT INTO totals (queue, batch, field, live) VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET live = live + excluded.live;
