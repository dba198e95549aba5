-- Writing a bulk write: its conditions are checked and its parts are written in one statement, which is one transaction. Functions
-- here are made for READ COMMITTED: each of their statements sees what was committed before it began, so that after the
-- locks of a bulk write are taken, nothing that it checks can be changed by another bulk write.
--
-- A bulk write is JSON: now, durable, guard ({server, known: a condition}) and writes. A write has
--   changes: each with a kind ('insert', 'replace' or 'delete'), id, queue, batch, tally, old (the revision that is replaced or
--   deleted), job (its row, or the columns that its next version changes), numbers (and those that an edited one had, if they
--   are others), and body if it is new or edited. A deletion may have its tombstone (a put);
--   conditions: arrays of 'most' or 'same', a namespace, groups, an owner or null, and then: the most records; or the
--   member, the value or null, and what its own writes put there;
--   puts, drops, events, wakes (a queue), and slot (queue, after and until in epoch seconds).


-- The lock of a group of records. Many groups share a lock, so that no bulk write needs more than a hundred. Groups of these two
-- namespaces are named by each bulk write, three for each number, and are seldom written: they share a few locks.
CREATE FUNCTION voiceflow.lock_of(namespace text, group_name text) RETURNS integer
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN namespace IN ('suppressed', 'bridge-lock') THEN 1024 + (hashtext(namespace || ' ' || group_name) & 15)
        ELSE hashtext(namespace || ' ' || group_name) & 1023 END;
$$;

-- Locks groups until the end of the transaction: `shared` ones for reading what is in them, the others for writing.
--
-- Locks are taken in one order, so that bulk writes do not wait for each other in a circle. All of them are taken below the lock
-- of the whole store (-1). A bulk write with very many locks takes that one alone.
CREATE FUNCTION voiceflow.lock_groups(namespaces text[], group_names text[], shared boolean[]) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    store CONSTANT integer := 'voiceflow.jobs'::regclass::oid::integer;
    locks integer[];
    are_shared boolean[];
BEGIN
    SELECT array_agg(lock ORDER BY lock), array_agg(is_shared ORDER BY lock) INTO locks, are_shared FROM (
        SELECT voiceflow.lock_of(namespace, group_name) AS lock, bool_and(is_shared) AS is_shared
        FROM unnest(namespaces, group_names, shared) AS named (namespace, group_name, is_shared)
        GROUP BY lock
    ) AS named;
    IF cardinality(locks) > 127 THEN
        PERFORM pg_advisory_xact_lock(store, -1);
        RETURN;
    END IF;
    PERFORM pg_advisory_xact_lock_shared(store, -1);
    FOR ordinal IN 1 .. coalesce(cardinality(locks), 0) LOOP
        IF are_shared[ordinal] THEN
            PERFORM pg_advisory_xact_lock_shared(store, locks[ordinal]);
        ELSE
            PERFORM pg_advisory_xact_lock(store, locks[ordinal]);
        END IF;
    END LOOP;
END;
$$;

-- Locks what a bulk write names: the groups of its records and conditions, and the rows of its jobs. Those who write events of a
-- queue, or wake it, share a lock, with which readers make sure that no smaller number is still being written.
CREATE FUNCTION voiceflow.lock_bulk(bulk jsonb) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    writes CONSTANT jsonb := bulk -> 'writes';
BEGIN
    PERFORM voiceflow.lock_groups(array_agg(namespace), array_agg(group_name), array_agg(is_shared)) FROM (
        SELECT put ->> 'namespace', put ->> 'group', false
        FROM jsonb_array_elements(writes) AS write, jsonb_array_elements(write -> 'puts') AS put
        UNION ALL
        SELECT dropped ->> 'namespace', dropped ->> 'group', false
        FROM jsonb_array_elements(writes) AS write, jsonb_array_elements(write -> 'drops') AS dropped
        UNION ALL
        SELECT condition ->> 1, group_name, true
        FROM jsonb_array_elements(writes) AS write, jsonb_array_elements(write -> 'conditions') AS condition,
             jsonb_array_elements_text(condition -> 2) AS group_name
        UNION ALL
        SELECT bulk #>> '{guard,known,1}', bulk #>> '{guard,known,2,0}', true
        WHERE bulk -> 'guard' <> 'null'
        UNION ALL
        SELECT 'events of', split_part(event ->> 'job_id', '.', 1), true
        FROM jsonb_array_elements(writes) AS write, jsonb_array_elements(write -> 'events') AS event
        UNION ALL
        SELECT 'changes of', write ->> 'wakes', true FROM jsonb_array_elements(writes) AS write
        WHERE write ? 'wakes'
    ) AS named (namespace, group_name, is_shared);
    PERFORM FROM voiceflow.jobs
    WHERE id = ANY (ARRAY(
        SELECT change ->> 'id'
        FROM jsonb_array_elements(writes) AS write, jsonb_array_elements(write -> 'changes') AS change
    ))
    ORDER BY id FOR UPDATE;
END;
$$;

-- Whether a record with this end is current.
CREATE FUNCTION voiceflow.is_current(ends_at timestamptz, at timestamptz) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    SELECT ends_at IS NULL OR ends_at > at;
$$;

-- Whether a gate with this value is closed (`is_closed` in core/ports/controls.py).
CREATE FUNCTION voiceflow.is_closed(value text) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    SELECT NOT starts_with(value, 'open ');
$$;

-- Whether a record with this value belongs to an owner: `q.01K`, `q.01K.2` and `q.01K x` belong to `q.01K`.
CREATE FUNCTION voiceflow.is_owned_by(value text, owner text) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce(value = owner OR starts_with(value, owner || '.') OR starts_with(value, owner || ' '), false);
$$;

-- The value of a record; NULL if it does not stand.
CREATE FUNCTION voiceflow.value_of(of_namespace text, of_group text, of_member text, at timestamptz) RETURNS text
LANGUAGE plpgsql AS $$
BEGIN
    RETURN (
        SELECT value FROM voiceflow.records
        WHERE namespace = of_namespace AND group_name = of_group AND member = of_member
            AND voiceflow.is_current(ends_at, at)
    );
END;
$$;

-- For each of these writes, the first of its conditions that fails, as {"condition": its index, "record": the record by which it
-- fails}. The record is [group, value, end, member], or [] if the condition fails because there is none. NULL for a write whose
-- conditions hold, as nearly all do. One statement checks all of them: to begin one takes longer than several checks.
CREATE FUNCTION voiceflow.failing(writes jsonb, at timestamptz) RETURNS jsonb[]
LANGUAGE plpgsql AS $$
BEGIN
    RETURN ARRAY(
        SELECT (
            SELECT jsonb_build_object('condition', ordinal - 1, 'record', CASE
                WHEN found.value IS NULL THEN '[]'
                ELSE jsonb_build_array(found.group_name, found.value, found.ends_at, found.member)
            END)
            FROM jsonb_array_elements(write -> 'conditions') WITH ORDINALITY AS condition (condition, ordinal),
                jsonb_array_elements_text(condition -> 2) WITH ORDINALITY AS named (named, rank),
                LATERAL (
                    (
                        -- When this one has ended, as many as are allowed are left.
                        SELECT * FROM voiceflow.records
                        WHERE condition ->> 0 = 'most' AND namespace = condition ->> 1 AND group_name = named
                            AND voiceflow.is_current(ends_at, at) AND NOT voiceflow.is_owned_by(value, condition ->> 3)
                        ORDER BY ends_at DESC NULLS FIRST
                        OFFSET CASE condition ->> 0 WHEN 'most' THEN (condition ->> 4)::integer END LIMIT 1
                    )
                    UNION ALL
                    (
                        SELECT held.* FROM (SELECT) AS one LEFT JOIN voiceflow.records AS held
                            ON namespace = condition ->> 1 AND group_name = named
                                AND member = condition ->> 4 AND voiceflow.is_current(ends_at, at)
                        WHERE condition ->> 0 = 'same' AND value IS DISTINCT FROM condition ->> 5
                            AND NOT voiceflow.is_owned_by(value, condition ->> 3)
                            AND NOT coalesce(condition -> 6 ? value, false)
                        LIMIT 1
                    )
                ) AS found
            ORDER BY ordinal, rank LIMIT 1
        )
        FROM jsonb_array_elements(writes) WITH ORDINALITY AS each (write, rank)
        ORDER BY rank
    );
END;
$$;

-- The ordinals of the writes with a condition on a group of records that an earlier one of these writes may change.
CREATE FUNCTION voiceflow.depending(writes jsonb) RETURNS bigint[]
LANGUAGE plpgsql AS $$
DECLARE
    -- The first write that may change each group. An object, whose names are found quickly: a join could compare all with all.
    changed CONSTANT jsonb := (
        SELECT jsonb_object_agg(name, ordinal) FROM (
            SELECT part ->> 'namespace' || ' ' || (part ->> 'group') AS name, min(ordinal) AS ordinal
            FROM jsonb_array_elements(writes) WITH ORDINALITY AS each (write, ordinal), LATERAL (
                SELECT jsonb_array_elements(write -> 'puts') UNION ALL SELECT jsonb_array_elements(write -> 'drops')
                UNION ALL SELECT jsonb_build_object('namespace', 'tombstone', 'group', '')
                FROM jsonb_array_elements(write -> 'changes') AS change WHERE change ->> 'kind' = 'delete'
            ) AS parts (part)
            GROUP BY 1
        ) AS groups
    );
BEGIN
    RETURN ARRAY(
        SELECT DISTINCT ordinal
        FROM jsonb_array_elements(writes) WITH ORDINALITY AS each (write, ordinal),
            jsonb_array_elements(write -> 'conditions') AS condition, jsonb_array_elements_text(condition -> 2) AS named
        WHERE (changed ->> (condition ->> 1 || ' ' || named))::bigint < ordinal
    );
END;
$$;

-- Changes, each with the revision that its job has now. No join: a plan might read all jobs.
CREATE FUNCTION voiceflow.revisions(changes jsonb) RETURNS TABLE (change jsonb, revision text)
LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY SELECT each, (SELECT j.revision FROM voiceflow.jobs AS j WHERE j.id = each ->> 'id')
    FROM jsonb_array_elements(changes) AS each;
END;
$$;

-- Whether an earlier try has written a write.
CREATE FUNCTION voiceflow.was_written(write jsonb, at timestamptz) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    IF write -> 'changes' = '[]' THEN
        -- Its own new value is where it was to replace another one.
        RETURN EXISTS (
            SELECT FROM jsonb_array_elements(write -> 'conditions') AS condition
            WHERE condition ->> 0 = 'same' AND condition -> 6 ->> -1 IS DISTINCT FROM condition ->> 5
                AND condition -> 6 ->> -1 = voiceflow.value_of(condition ->> 1, condition #>> '{2,0}', condition ->> 4, at)
        );
    END IF;
    RETURN (
        SELECT coalesce(bool_or(CASE change ->> 'kind'
            WHEN 'insert' THEN revision IS NOT NULL
            WHEN 'replace' THEN revision = change #>> '{job,revision}'
        END), false) OR bool_and(change ->> 'kind' = 'delete' AND revision IS NULL)
        FROM voiceflow.revisions(write -> 'changes')
    );
END;
$$;

-- The owner of a unique key, as [id, digest, state]; NULL if the key is free. A tombstone has them in its places 2 to 4.
CREATE FUNCTION voiceflow.owner_of_key(key text, at timestamptz) RETURNS jsonb
LANGUAGE plpgsql AS $$
BEGIN
    RETURN (
        SELECT jsonb_build_array(id, body_digest, state) FROM voiceflow.jobs WHERE unique_key = key
        UNION ALL
        SELECT jsonb_build_array(value::jsonb -> 2, value::jsonb -> 3, value::jsonb -> 4) FROM voiceflow.records
        WHERE namespace = 'tombstone' AND group_name = '' AND member = key AND voiceflow.is_current(ends_at, at)
        LIMIT 1
    );
END;
$$;

-- Why the changes of a write may not be made: '"stale"', or {"owners": {id of a new job: [id, digest, state] of the owner of its
-- unique key}}. NULL if they may.
CREATE FUNCTION voiceflow.refused(changes jsonb, at timestamptz) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    owners jsonb;
BEGIN
    IF EXISTS (
        SELECT FROM voiceflow.revisions(changes)
        WHERE change ->> 'kind' <> 'insert' AND revision IS DISTINCT FROM change ->> 'old'
    ) THEN
        RETURN '"stale"';
    END IF;
    SELECT jsonb_build_object('owners', jsonb_object_agg(change ->> 'id', owner)) INTO owners
    FROM jsonb_array_elements(changes) AS change,
        LATERAL voiceflow.owner_of_key(change #>> '{job,unique_key}', at) AS owner
    WHERE change ->> 'kind' = 'insert' AND owner IS NOT NULL
    HAVING count(*) > 0;
    RETURN owners;
END;
$$;

-- Stores a record. Its mode says what it does when the record exists already.
CREATE FUNCTION voiceflow.put(put jsonb, at timestamptz) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    mode CONSTANT text := put ->> 'mode';
BEGIN
    INSERT INTO voiceflow.records AS old VALUES (
        put ->> 'namespace', put ->> 'group', put ->> 'member', put ->> 'value', (put ->> 'ends_at')::timestamptz
    )
    ON CONFLICT (namespace, group_name, member) DO UPDATE SET
        value = excluded.value,
        ends_at = CASE
            WHEN mode = 'extend' AND voiceflow.is_current(old.ends_at, at) THEN
                nullif(greatest(coalesce(old.ends_at, 'infinity'), coalesce(excluded.ends_at, 'infinity')), 'infinity')
            ELSE excluded.ends_at
        END
    WHERE mode IN ('always', 'extend') OR NOT voiceflow.is_current(old.ends_at, at)
        OR (mode = 'longer' AND coalesce(old.ends_at, 'infinity') < coalesce(excluded.ends_at, 'infinity'));
END;
$$;

-- Deletes a record, if it has the value that is named; NULL means any value.
CREATE FUNCTION voiceflow.drop_record(dropped jsonb) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM voiceflow.records
    WHERE namespace = dropped ->> 'namespace' AND group_name = dropped ->> 'group' AND member = dropped ->> 'member'
        AND value = coalesce(dropped ->> 'value', value);
END;
$$;

-- The next send slot at the rate of a queue (generic cell rate algorithm), as model.jobs.gcra has it, and the next free time
-- after it, in microseconds since 1970: a role may want fewer digits of a float. The slot is NULL if none is free in time.
CREATE FUNCTION voiceflow.allot(slot jsonb, at timestamptz) RETURNS bigint[]
LANGUAGE plpgsql AS $$
DECLARE
    of_queue CONSTANT text := slot ->> 'queue';
    after double precision := slot ->> 'after';
    until CONSTANT double precision := slot ->> 'until';
    allowed CONSTANT record := voiceflow.limits(of_queue, at);
    interval_ CONSTANT double precision := 1 / allowed.rate;
    tolerance CONSTANT double precision := (allowed.burst - 1) * interval_;
    furthest CONSTANT double precision := until + allowed.burst * interval_;
    differ CONSTANT double precision := 10; -- CLOCKS_DIFFER in model.jobs.gcra
    pace voiceflow.paces;
    found double precision;
BEGIN
    IF allowed.rate IS NULL THEN
        RETURN ARRAY[after * 1e6, after * 1e6];
    END IF;
    INSERT INTO voiceflow.paces VALUES (of_queue, NULL, NULL, 0, 0) ON CONFLICT DO NOTHING;
    SELECT * INTO pace FROM voiceflow.paces WHERE queue = of_queue FOR UPDATE;
    IF (pace.rate, pace.burst) IS DISTINCT FROM (allowed.rate, allowed.burst) THEN
        -- A queue whose rate changes from one call an hour to ten a second must not wait for the rest of the hour.
        pace.tat := least(pace.tat, pace.last + allowed.burst / allowed.rate);
    END IF;
    -- If the pace is further ahead than slots can bring it, a clock was set, and some workers do not know it yet.
    IF pace.tat > furthest + differ THEN
        pace.unreached := least(pace.unreached, until);
        IF until < pace.unreached + differ THEN
            UPDATE voiceflow.paces SET rate = allowed.rate, burst = allowed.burst, tat = pace.tat, unreached = pace.unreached
            WHERE queue = of_queue;
            RETURN ARRAY[NULL, (pace.unreached + differ) * 1e6];
        END IF;
        pace.tat := furthest;
    ELSIF 0 < pace.tat AND pace.tat < after - differ THEN
        after := until;
    END IF;
    found := greatest(after, least(pace.last, until), pace.tat - tolerance);
    IF found <= until THEN
        pace.last := found;
        pace.tat := greatest(pace.tat, found) + interval_;
    END IF;
    UPDATE voiceflow.paces
    SET rate = allowed.rate, burst = allowed.burst, tat = pace.tat, last = pace.last, unreached = NULL
    WHERE queue = of_queue;
    RETURN ARRAY[CASE WHEN found <= until THEN found * 1e6 END, greatest(found, pace.tat - tolerance) * 1e6];
END;
$$;

-- Makes the change of a job. False if it is new, and another transaction has meanwhile stored it or another one with its key.
CREATE FUNCTION voiceflow.change_job(change jsonb, at timestamptz) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    job CONSTANT jsonb := change -> 'job';
    job_id CONSTANT text := change ->> 'id';
BEGIN
    CASE change ->> 'kind'
    WHEN 'insert' THEN
        INSERT INTO voiceflow.jobs SELECT * FROM jsonb_populate_record(NULL::voiceflow.jobs, job) ON CONFLICT DO NOTHING;
        IF NOT FOUND THEN
            RETURN false;
        END IF;
        INSERT INTO voiceflow.bodies VALUES (job_id, change ->> 'body');
        INSERT INTO voiceflow.numbers
        SELECT change ->> 'queue', telephone, job_id FROM jsonb_array_elements_text(change -> 'numbers') AS telephone;
    WHEN 'replace' THEN
        UPDATE voiceflow.jobs SET
            state = job ->> 'state', due_at = (job ->> 'due_at')::timestamptz, revision = job ->> 'revision',
            worker_id = job ->> 'worker_id', active_until = (job ->> 'active_until')::timestamptz,
            record = job ->> 'record', outcome = job ->> 'outcome'
        WHERE id = job_id;
        IF change ? 'body' THEN
            UPDATE voiceflow.jobs SET
                urgency = (job ->> 'urgency')::integer, valid_until = (job ->> 'valid_until')::timestamptz,
                destination = job ->> 'destination'
            WHERE id = job_id;
            UPDATE voiceflow.bodies SET body = change ->> 'body' WHERE id = job_id;
        END IF;
        IF change ? 'had' THEN
            DELETE FROM voiceflow.numbers
            WHERE queue = change ->> 'queue' AND telephone = ANY (ARRAY(SELECT jsonb_array_elements_text(change -> 'had')))
                AND id = job_id;
            INSERT INTO voiceflow.numbers
            SELECT change ->> 'queue', telephone, job_id FROM jsonb_array_elements_text(change -> 'numbers') AS telephone;
        END IF;
    WHEN 'delete' THEN
        DELETE FROM voiceflow.jobs WHERE id = job_id;
        DELETE FROM voiceflow.bodies WHERE id = job_id;
        DELETE FROM voiceflow.numbers
        WHERE queue = change ->> 'queue' AND telephone = ANY (ARRAY(SELECT jsonb_array_elements_text(change -> 'numbers')))
            AND id = job_id;
        IF change ? 'tombstone' THEN
            PERFORM voiceflow.put(change -> 'tombstone', at);
        END IF;
    END CASE;
    RETURN true;
END;
$$;

-- Makes all changes of a write. False, and nothing is made, if `change_job` is false for one of them.
CREATE FUNCTION voiceflow.change_jobs(changes jsonb, at timestamptz) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    change jsonb;
BEGIN
    IF jsonb_array_length(changes) < 2 THEN -- without the cost of a subtransaction
        RETURN changes = '[]' OR voiceflow.change_job(changes -> 0, at);
    END IF;
    BEGIN
        FOR change IN SELECT jsonb_array_elements(changes) LOOP
            IF NOT voiceflow.change_job(change, at) THEN
                RAISE SQLSTATE 'VW001';
            END IF;
        END LOOP;
        RETURN true;
    EXCEPTION WHEN SQLSTATE 'VW001' THEN
        RETURN false;
    END;
END;
$$;

-- Checks all of a write, whose first condition that fails is given (`failed`), and then writes what later writes may see of it.
-- Returns the answer: 'done', 'again' (it was written by an earlier try), what `refused` returns, or that condition.
CREATE FUNCTION voiceflow.answer(write jsonb, failed jsonb, at timestamptz) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    refusal jsonb;
    part jsonb;
    slot bigint[];
BEGIN
    IF voiceflow.was_written(write, at) THEN
        RETURN '"again"';
    END IF;
    refusal := coalesce(voiceflow.refused(write -> 'changes', at), failed);
    IF refusal IS NOT NULL THEN
        RETURN refusal;
    END IF;
    IF write ? 'slot' THEN
        slot := voiceflow.allot(write -> 'slot', at);
        IF slot[1] IS NULL THEN
            RETURN jsonb_build_object('no_slot', slot[2]);
        END IF;
    END IF;
    IF NOT voiceflow.change_jobs(write -> 'changes', at) THEN
        RETURN voiceflow.answer(write, failed, at); -- which finds the other one
    END IF;
    FOR part IN SELECT jsonb_array_elements(write -> 'puts') LOOP
        PERFORM voiceflow.put(part, at);
    END LOOP;
    IF write -> 'drops' <> '[]' THEN
        PERFORM voiceflow.drop_record(dropped) FROM jsonb_array_elements(write -> 'drops') AS dropped;
    END IF;
    RETURN CASE WHEN slot IS NULL THEN '"done"' ELSE jsonb_build_object('done', slot) END;
END;
$$;

-- Answers writes in their order.
CREATE FUNCTION voiceflow.answers(writes jsonb, at timestamptz) RETURNS jsonb[]
LANGUAGE plpgsql AS $$
DECLARE
    failing CONSTANT jsonb[] := voiceflow.failing(writes, at);
    depending CONSTANT bigint[] := voiceflow.depending(writes);
    failed jsonb;
    write jsonb;
    answers jsonb[] := '{}';
BEGIN
    FOR write IN SELECT jsonb_array_elements(writes) LOOP
        failed := failing[cardinality(answers) + 1];
        IF cardinality(answers) + 1 = ANY (depending) THEN
            failed := (voiceflow.failing(jsonb_build_array(write), at))[1];
        END IF;
        answers := array_append(answers, voiceflow.answer(write, failed, at));
    END LOOP;
    RETURN answers;
END;
$$;

-- The answers to writes of a bulk write whose guard failed: nothing is written, but what was written before is reported.
CREATE FUNCTION voiceflow.answers_not_verified(writes jsonb, at timestamptz) RETURNS jsonb[]
LANGUAGE plpgsql AS $$
BEGIN
    RETURN ARRAY(
        SELECT CASE WHEN voiceflow.was_written(write, at) THEN '"again"' ELSE '"not_verified"' END::jsonb
        FROM jsonb_array_elements(writes) WITH ORDINALITY AS each (write, ordinal)
        ORDER BY ordinal
    );
END;
$$;

-- Adds the tallies of the writes that were written to the counters, stores their events, and wakes who waits for their queues.
-- Returns the queues whose additions should be folded: one time in 251, so that a reader of counters finds few additions.
CREATE FUNCTION voiceflow.publish(writes jsonb, answers jsonb[]) RETURNS text[]
LANGUAGE plpgsql AS $$
DECLARE
    woken text;
    to_fold text[];
BEGIN
    WITH added AS (
        INSERT INTO voiceflow.additions (queue, batch, tally)
        SELECT queue, batch, jsonb_object_agg(field, amount) FROM (
            SELECT change ->> 'queue' AS queue, coalesce(change ->> 'batch', '') AS batch,
                   counted.key AS field, sum(counted.value::bigint) AS amount
            FROM jsonb_array_elements(writes) WITH ORDINALITY AS each (write, ordinal),
                 jsonb_array_elements(write -> 'changes') AS change, jsonb_each_text(change -> 'tally') AS counted
            WHERE answers[ordinal] ? 'done'
            GROUP BY 1, 2, 3
        ) AS sums
        GROUP BY queue, batch
        RETURNING queue, number
    )
    SELECT array_agg(DISTINCT queue) INTO to_fold FROM added WHERE number % 251 = 0;
    INSERT INTO voiceflow.events (queue, job_id, kind, at, state, revision, post)
    SELECT split_part(event ->> 'job_id', '.', 1), event ->> 'job_id', event ->> 'kind', (event ->> 'at')::timestamptz, event ->> 'state',
           event ->> 'revision', (event ->> 'post')::integer
    FROM jsonb_array_elements(writes) WITH ORDINALITY AS each (write, ordinal),
         jsonb_array_elements(write -> 'events') WITH ORDINALITY AS listed (event, number)
    WHERE answers[ordinal] ? 'done'
    ORDER BY ordinal, number;
    FOR woken IN
        INSERT INTO voiceflow.changes (queue)
        SELECT DISTINCT write ->> 'wakes' FROM jsonb_array_elements(writes) WITH ORDINALITY AS each (write, ordinal)
        WHERE answers[ordinal] ? 'done' AND write ? 'wakes'
        RETURNING queue
    LOOP
        PERFORM pg_notify(voiceflow.channel(), woken);
    END LOOP;
    RETURN to_fold;
END;
$$;

-- The channel on which this store notifies of changes; the payload is the name of the queue.
CREATE FUNCTION voiceflow.channel() RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT 'voiceflow-' || 'voiceflow.jobs'::regclass::oid::text;
$$;

-- The incarnation of the server: it differs after each restart, and after a standby has replaced it.
CREATE FUNCTION voiceflow.server() RETURNS text
LANGUAGE plpgsql AS $$
BEGIN
    RETURN left(pg_walfile_name(pg_current_wal_lsn()), 8) || ' ' || extract(epoch FROM pg_postmaster_start_time())::text;
END;
$$;

-- The history of the server's data: the database system, and the timeline of its WAL. A standby that takes over begins the next
-- timeline; a restored dump is in another system. Where the system is not known, the timeline alone counts.
CREATE FUNCTION voiceflow.history() RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    timeline CONSTANT text := left(pg_walfile_name(pg_current_wal_lsn()), 8);
BEGIN
    RETURN (SELECT system_identifier FROM pg_control_system()) || '/' || timeline;
EXCEPTION WHEN insufficient_privilege OR undefined_function OR feature_not_supported THEN
    RETURN '/' || timeline;
END;
$$;

-- Writes a bulk write, and returns the answer to each of its writes.
--
-- A time limit ends each wait for a lock. It is short for who has the locks of a bulk write, so that a key which an open transaction
-- of a caller is storing holds up nobody else. Plans that read whole tables are off, because plans are kept: a table that was small
-- when its plan was made may be large now. A statement has one plan for all values: PostgreSQL would rather plan each read of
-- the partitions of records again, which takes ten times as long as the read. Nor is any statement worth compiling (jit).
CREATE FUNCTION voiceflow.write(bulk jsonb) RETURNS jsonb
LANGUAGE plpgsql
SET lock_timeout = '3s' SET enable_seqscan = off SET plan_cache_mode = force_generic_plan SET jit = off SET search_path = pg_catalog AS $$
DECLARE
    at CONSTANT timestamptz := bulk ->> 'now';
    writes CONSTANT jsonb := bulk -> 'writes';
    guard CONSTANT jsonb := bulk -> 'guard';
    answers jsonb[];
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE 'a store is written in READ COMMITTED transactions only' USING ERRCODE = 'invalid_transaction_state';
    END IF;
    IF bulk ->> 'store' <> (SELECT store_id::text FROM voiceflow.voiceflow_schema) THEN
        RAISE 'this is another store' USING ERRCODE = 'VW003'; -- a pooler leads elsewhere, behind a connection that stays
    END IF;
    IF NOT (bulk -> 'durable')::boolean THEN
        PERFORM set_config('synchronous_commit', 'off', true);
    ELSIF current_setting('synchronous_commit') = 'off' THEN
        PERFORM set_config('synchronous_commit', 'on', true); -- somebody has turned it off since this connection was opened
    END IF;
    PERFORM voiceflow.lock_bulk(bulk);
    PERFORM set_config('lock_timeout', '200ms', true);
    IF guard <> 'null' AND (
        guard ->> 'server' <> voiceflow.server() OR (voiceflow.failing(jsonb_build_array(
            jsonb_build_object('conditions', jsonb_build_array(guard -> 'known'))
        ), at))[1] IS NOT NULL
    ) THEN
        answers := voiceflow.answers_not_verified(writes, at);
    ELSE
        answers := voiceflow.answers(writes, at);
    END IF;
    PERFORM voiceflow.fold(queue, 1000) FROM unnest(voiceflow.publish(writes, answers)) AS queue;
    IF (bulk -> 'durable')::boolean AND pg_current_xact_id_if_assigned() IS NULL THEN
        -- A commit that has written nothing waits for no standby, which may not have what was found here.
        PERFORM pg_logical_emit_message(true, 'voiceflow', '');
    END IF;
    RETURN to_jsonb(answers);
END;
$$;
