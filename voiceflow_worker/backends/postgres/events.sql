-- Events, changes and counters: what writes add, and what readers find.


-- The events of a queue behind a sequence, oldest first. While they are read, no event of the queue is being written, so that
-- no smaller number appears later.
CREATE FUNCTION voiceflow.read_events(of_queue text, after bigint, most integer) RETURNS SETOF voiceflow.events
LANGUAGE plpgsql
SET lock_timeout = '3s' SET enable_seqscan = off SET plan_cache_mode = force_generic_plan SET jit = off SET search_path = pg_catalog AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM voiceflow.events WHERE queue = of_queue AND sequence > after) THEN
        RETURN;
    END IF;
    PERFORM voiceflow.lock_groups(ARRAY['events of'], ARRAY[of_queue], ARRAY[false]);
    RETURN QUERY
    SELECT * FROM voiceflow.events WHERE queue = of_queue AND sequence > after ORDER BY sequence LIMIT most;
END;
$$;

-- The newest change of a queue; 0 if there was none.
CREATE FUNCTION voiceflow.newest_change(of_queue text) RETURNS bigint
LANGUAGE plpgsql AS $$
BEGIN
    RETURN coalesce((SELECT number FROM voiceflow.changes WHERE queue = of_queue ORDER BY number DESC LIMIT 1), 0);
END;
$$;

-- The count of changes of a queue. While it is read, if it is another than the caller has seen, no change of the queue is
-- being written, so that none is missed.
CREATE FUNCTION voiceflow.count_changes(of_queue text, seen bigint) RETURNS bigint
LANGUAGE plpgsql
SET lock_timeout = '3s' SET enable_seqscan = off SET plan_cache_mode = force_generic_plan SET jit = off SET search_path = pg_catalog AS $$
BEGIN
    IF voiceflow.newest_change(of_queue) + 1 <> seen THEN
        PERFORM voiceflow.lock_groups(ARRAY['changes of'], ARRAY[of_queue], ARRAY[false]);
    END IF;
    RETURN voiceflow.newest_change(of_queue) + 1;
END;
$$;

-- The counters of batches of a queue, '' for the queue itself. Reading them costs as much as has been added since the last
-- `fold`.
CREATE FUNCTION voiceflow.count_all(
    of_queue text, batches text[], OUT name text, OUT field text, OUT live bigint
) RETURNS SETOF record
LANGUAGE plpgsql STABLE SET enable_seqscan = off SET jit = off SET search_path = pg_catalog AS $$
BEGIN
    RETURN QUERY
    SELECT sums.batch, sums.field, sum(sums.live)::bigint FROM (
        SELECT t.batch, t.field, t.live FROM voiceflow.totals AS t
        WHERE t.queue = of_queue AND t.batch = ANY (batches)
        UNION ALL
        SELECT a.batch, key, value::bigint
        FROM voiceflow.additions AS a, jsonb_each_text(tally)
        WHERE a.queue = of_queue AND a.batch <> '' AND a.batch = ANY (batches)
        UNION ALL
        SELECT '', key, value::bigint
        FROM voiceflow.additions AS a, jsonb_each_text(tally)
        WHERE a.queue = of_queue AND '' = ANY (batches)
    ) AS sums
    GROUP BY sums.batch, sums.field;
END;
$$;

-- Moves the additions to counters of a queue, at most so many, to its totals. The totals of a batch without jobs go. Does nothing
-- while another transaction does it: two who change the same counters would wait for each other's rows.
CREATE FUNCTION voiceflow.fold(of_queue text, most integer) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    store CONSTANT integer := 'voiceflow.jobs'::regclass::oid::integer;
    batches text[];
BEGIN
    IF NOT pg_try_advisory_xact_lock(store, voiceflow.lock_of('totals of', of_queue)) THEN
        RETURN;
    END IF;
    WITH folded AS (
        DELETE FROM voiceflow.additions
        WHERE ctid = ANY (ARRAY(SELECT ctid FROM voiceflow.additions WHERE queue = of_queue LIMIT most))
        RETURNING batch, tally
    ), counted AS (
        INSERT INTO voiceflow.totals AS old
        SELECT of_queue, ordinal, field, sum(amount)
        FROM folded, LATERAL (SELECT key, value::bigint FROM jsonb_each_text(tally)) AS counted (field, amount),
             LATERAL (SELECT '' UNION SELECT batch) AS counters (ordinal)
        GROUP BY ordinal, field
        ON CONFLICT (queue, batch, field) DO UPDATE SET live = old.live + excluded.live
    )
    SELECT array_agg(DISTINCT batch) INTO batches FROM folded WHERE batch <> '';
    DELETE FROM voiceflow.totals WHERE queue = of_queue AND batch = ANY (
        SELECT batch FROM unnest(batches) AS batch
        WHERE NOT EXISTS (SELECT FROM voiceflow.jobs AS j WHERE j.queue = of_queue AND j.batch_id = batch)
            AND NOT EXISTS (SELECT FROM voiceflow.additions AS a WHERE a.queue = of_queue AND a.batch = batch)
    );
END;
$$;

-- Deletes what is over: records of the whole store, and events of a queue, at most so many in all. Returns their number.
CREATE FUNCTION voiceflow.prune(of_queue text, at timestamptz, events_before timestamptz, most integer) RETURNS integer
LANGUAGE plpgsql
SET lock_timeout = '3s' SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET plan_cache_mode = force_generic_plan SET jit = off SET search_path = pg_catalog AS $$
DECLARE
    newest CONSTANT bigint := voiceflow.newest_change(of_queue);
    records integer;
    events integer;
BEGIN
    -- By the key: a ctid is of one partition, and another may have the same.
    WITH over AS MATERIALIZED (
        SELECT namespace, group_name, member FROM voiceflow.records
        WHERE ends_at <= at LIMIT most FOR UPDATE SKIP LOCKED
    )
    DELETE FROM voiceflow.records AS r USING over
    WHERE r.namespace = over.namespace AND r.group_name = over.group_name AND r.member = over.member;
    GET DIAGNOSTICS records = ROW_COUNT;
    DELETE FROM voiceflow.events WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM voiceflow.events AS e WHERE e.queue = of_queue AND e.at < events_before
        LIMIT most - records FOR UPDATE SKIP LOCKED
    ));
    GET DIAGNOSTICS events = ROW_COUNT;
    DELETE FROM voiceflow.changes WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM voiceflow.changes WHERE queue = of_queue AND number < newest LIMIT 10 * most FOR UPDATE SKIP LOCKED
    ));
    PERFORM voiceflow.fold(of_queue, 10000);
    RETURN records + events;
END;
$$;
