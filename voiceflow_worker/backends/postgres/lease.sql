-- Leasing, and departure times.


-- The limits of a queue: NULL is no limit. A record that cannot be read lets no call leave (`limits_from` in
-- core/ports/controls.py).
CREATE FUNCTION voiceflow.limits(
    of_queue text, at timestamptz,
    OUT rate double precision, OUT burst integer, OUT max_active integer, OUT reserve integer
)
LANGUAGE plpgsql AS $$
DECLARE
    part CONSTANT text[] := string_to_array(voiceflow.value_of('limit', of_queue, '', at), ' ');
BEGIN
    IF part IS NULL THEN
        burst := 1;
        reserve := 0;
        RETURN;
    END IF;
    BEGIN
        rate := nullif(part[1], '-');
        burst := part[2];
        max_active := nullif(part[3], '-');
        reserve := part[4];
    EXCEPTION WHEN data_exception THEN
        burst := NULL;
    END;
    IF cardinality(part) = 4 AND burst > 0 AND reserve >= 0
        AND (rate IS NULL OR (rate > 0 AND rate < 'infinity')) AND (max_active IS NULL OR max_active > 0)
    THEN
        RETURN;
    END IF;
    rate := 1e-6;
    burst := 1;
    max_active := 0;
    reserve := 0;
END;
$$;

-- Due jobs of a queue, or of a batch of it ('' are the jobs without one): those of the highest priority first, then the
-- earliest due, then by id. Left out are those that are no longer valid, those of closed batches (keys that are members of
-- gates) and of starts, those before a place in this order, and those that another transaction has locked. The others are
-- locked.
--
-- Each priority is looked for by itself, so that jobs that are not due are not read.
CREATE FUNCTION voiceflow.due_jobs(
    of_queue text, of_batch text, closed jsonb, starts text[], at timestamptz, most bigint,
    from_priority integer, from_due timestamptz, from_id text
) RETURNS SETOF voiceflow.jobs
LANGUAGE plpgsql AS $$
DECLARE
    urgency integer := from_priority;
    due timestamptz := coalesce(from_due, '-infinity');
    first_id text := coalesce(from_id, '');
    found bigint;
BEGIN
    WHILE most > 0 LOOP
        IF from_priority IS NOT NULL THEN
            from_priority := NULL;
        ELSIF of_batch IS NULL THEN
            urgency := (
                SELECT priority FROM voiceflow.jobs
                WHERE queue = of_queue AND state = 'queued' AND priority < coalesce(urgency, 2147483647)
                ORDER BY priority DESC LIMIT 1
            );
        ELSE
            urgency := (
                SELECT priority FROM voiceflow.jobs
                WHERE queue = of_queue AND state = 'queued' AND coalesce(batch_id, '') = of_batch
                    AND priority < coalesce(urgency, 2147483647)
                ORDER BY priority DESC LIMIT 1
            );
        END IF;
        EXIT WHEN urgency IS NULL;
        IF of_batch IS NULL THEN
            RETURN QUERY
            SELECT * FROM voiceflow.jobs
            WHERE queue = of_queue AND state = 'queued' AND priority = urgency
                AND due_at <= at AND (due_at, id) >= (due, first_id)
                AND (valid_until IS NULL OR valid_until > at)
                AND (batch_id IS NULL OR NOT closed ? ('=' || batch_id))
                AND (worker_id IS NULL OR worker_id <> ALL (starts))
            ORDER BY due_at, id LIMIT most FOR UPDATE SKIP LOCKED;
        ELSE
            RETURN QUERY
            SELECT * FROM voiceflow.jobs
            WHERE queue = of_queue AND state = 'queued' AND coalesce(batch_id, '') = of_batch AND priority = urgency
                AND due_at <= at AND (due_at, id) >= (due, first_id)
                AND (valid_until IS NULL OR valid_until > at)
                AND (worker_id IS NULL OR worker_id <> ALL (starts))
            ORDER BY due_at, id LIMIT most FOR UPDATE SKIP LOCKED;
        END IF;
        GET DIAGNOSTICS found = ROW_COUNT;
        most := most - found;
        due := '-infinity';
        first_id := '';
    END LOOP;
END;
$$;

-- The batches of a queue that have queued jobs, without those of closed gates. '' stands for the jobs without a batch.
CREATE FUNCTION voiceflow.open_batches(of_queue text, closed jsonb) RETURNS SETOF text
LANGUAGE plpgsql AS $$
DECLARE
    batch text := '';
BEGIN
    WHILE batch IS NOT NULL LOOP
        IF NOT closed ? ('=' || batch) THEN
            RETURN NEXT batch;
        END IF;
        batch := (
            SELECT coalesce(batch_id, '') FROM voiceflow.jobs
            WHERE queue = of_queue AND state = 'queued' AND coalesce(batch_id, '') > batch
            ORDER BY coalesce(batch_id, '') LIMIT 1
        );
    END LOOP;
END;
$$;

-- The number of open calls of a queue, those above `most` not counted: leased ones, and those that may still ring. With
-- `ordinary`, only calls without a priority above 0.
CREATE FUNCTION voiceflow.open_calls(of_queue text, at timestamptz, most integer, ordinary boolean) RETURNS integer
LANGUAGE plpgsql AS $$
BEGIN
    RETURN (
        SELECT count(*) FROM (
            SELECT FROM voiceflow.jobs
            WHERE queue = of_queue AND state = 'leased' AND (priority <= 0 OR NOT ordinary)
            UNION ALL
            SELECT FROM voiceflow.jobs
            WHERE queue = of_queue AND active_until > at AND state <> 'leased' AND (priority <= 0 OR NOT ordinary)
            LIMIT most
        ) AS calls
    );
END;
$$;

-- How many entries of rows that are gone this session has lately met in the indexes by which jobs are leased.
CREATE FUNCTION voiceflow.entries_gone() RETURNS bigint
LANGUAGE plpgsql AS $$
BEGIN
    RETURN (
        SELECT sum(pg_stat_get_xact_tuples_returned(index) - pg_stat_get_xact_tuples_fetched(index))
        FROM (VALUES ('voiceflow.jobs_to_lease'::regclass), ('voiceflow.jobs_of_batch_to_lease')) AS used (index)
    );
END;
$$;

-- Leases due jobs to a worker, as far as gates and limits allow, and returns them with the times at which they were due. A first
-- row tells how many entries of jobs that are gone were read in the indexes.
--
-- A power cut may undo a lease: its job is then queued, and was not sent, because the journal comes after the lease.
CREATE FUNCTION voiceflow.lease(
    of_queue text, of_batch text, worker text, most integer, until timestamptz, at timestamptz,
    from_priority integer, from_due timestamptz, from_id text
) RETURNS TABLE (call voiceflow.calls, was_due timestamptz, gone bigint)
LANGUAGE plpgsql
SET lock_timeout = '3s' SET enable_seqscan = off SET plan_cache_mode = force_generic_plan SET jit = off SET search_path = pg_catalog AS $$
DECLARE
    gates CONSTANT text[] := ARRAY(
        SELECT member FROM voiceflow.records
        WHERE namespace = 'gate' AND group_name = of_queue AND voiceflow.stands(ends_at, at)
            AND voiceflow.is_closed(value)
    );
    -- An array would be searched from its beginning for each job; the keys of an object are sorted.
    closed CONSTANT jsonb := (SELECT coalesce(jsonb_object_agg(member, 1), '{}') FROM unnest(gates) AS member);
    starts CONSTANT text[] := ARRAY(
        SELECT split_part(member, ' ', 1) FROM voiceflow.records
        WHERE namespace = 'start' AND group_name = of_queue AND voiceflow.stands(ends_at, at)
    );
    allowed CONSTANT record := voiceflow.limits(of_queue, at);
    before CONSTANT bigint := voiceflow.entries_gone();
    ordinary integer := most;
    held bigint;
    urgent bigint;
    chosen text[];
    dues timestamptz[];
    token CONSTANT text := gen_random_uuid();
BEGIN
    IF closed ? '' OR closed ? ('=' || of_batch) THEN
        gone := 0;
        RETURN NEXT;
        RETURN;
    END IF;
    PERFORM set_config('synchronous_commit', 'off', true);
    IF allowed.max_active IS NOT NULL THEN
        PERFORM voiceflow.lock_groups(ARRAY['leases of'], ARRAY[of_queue], ARRAY[false]);
        ordinary := allowed.max_active - allowed.reserve
            - voiceflow.open_calls(of_queue, at, allowed.max_active, true);
        most := least(most, allowed.max_active - voiceflow.open_calls(of_queue, at, allowed.max_active, false));
    END IF;
    -- Behind many calls of closed batches, the open batches are looked at one by one: an index seek for each. Behind many
    -- closed batches, it takes less to pass over their calls.
    IF of_batch IS NULL AND cardinality(gates) BETWEEN 1 AND 1000 THEN
        held := (
            SELECT count(*) FROM (
                SELECT FROM voiceflow.jobs
                WHERE queue = of_queue AND state = 'queued'
                    AND coalesce(batch_id, '') = ANY (ARRAY(SELECT substr(gate, 2) FROM unnest(gates) AS gate))
                LIMIT 300
            ) AS jobs
        );
    END IF;
    SELECT array_agg(id ORDER BY priority DESC, due_at, id), array_agg(due_at ORDER BY priority DESC, due_at, id),
           count(*) FILTER (WHERE priority > 0)
    INTO chosen, dues, urgent
    FROM (
        SELECT id, priority, due_at FROM
            unnest(
                CASE WHEN held = 300 THEN ARRAY(SELECT voiceflow.open_batches(of_queue, closed)) ELSE ARRAY[of_batch] END
            ) AS batch,
            LATERAL voiceflow.due_jobs(of_queue, batch, closed, starts, at, most, from_priority, from_due, from_id)
        ORDER BY priority DESC, due_at, id LIMIT greatest(most, 0)
    ) AS due;
    chosen := chosen[1 : urgent + greatest(ordinary, 0)];
    gone := voiceflow.entries_gone() - before;
    RETURN NEXT;
    IF coalesce(cardinality(chosen), 0) = 0 THEN
        RETURN;
    END IF;
    UPDATE voiceflow.jobs
    SET state = 'leased', worker_id = worker, due_at = until, revision = token || '.' || array_position(chosen, id)
    WHERE id = ANY (chosen);
    INSERT INTO voiceflow.additions (queue, batch, is_deletion, tally)
    SELECT of_queue, coalesce(batch_id, ''), false, jsonb_build_object('state:queued', -count(*), 'state:leased', count(*))
    FROM voiceflow.jobs WHERE id = ANY (chosen) GROUP BY batch_id;
    RETURN QUERY
    SELECT leased, dues[array_position(chosen, id)], 0::bigint FROM voiceflow.calls AS leased
    WHERE id = ANY (chosen) ORDER BY array_position(chosen, id);
END;
$$;

-- Takes departure times at the rate of a queue (generic cell rate algorithm), as model.jobs.gcra does. Returns the next free
-- time and then the times, in epoch seconds; NULL for a queue without a rate.
CREATE FUNCTION voiceflow.take(
    of_queue text, wanted integer, horizon double precision, moment double precision, at timestamptz
) RETURNS double precision[]
LANGUAGE plpgsql
SET lock_timeout = '3s' SET enable_seqscan = off SET plan_cache_mode = force_generic_plan SET jit = off SET search_path = pg_catalog AS $$
DECLARE
    allowed CONSTANT record := voiceflow.limits(of_queue, at);
    interval_ CONSTANT double precision := 1 / allowed.rate;
    tolerance CONSTANT double precision := (allowed.burst - 1) * interval_;
    furthest CONSTANT double precision := moment + horizon + allowed.burst * interval_;
    pace voiceflow.paces;
    departure double precision;
    times double precision[] := '{}';
BEGIN
    IF allowed.rate IS NULL THEN
        RETURN NULL;
    END IF;
    PERFORM set_config('synchronous_commit', 'off', true);
    INSERT INTO voiceflow.paces VALUES (of_queue, NULL, NULL, 0, 0) ON CONFLICT DO NOTHING;
    SELECT * INTO pace FROM voiceflow.paces WHERE queue = of_queue FOR UPDATE;
    IF (pace.rate, pace.burst) IS DISTINCT FROM (allowed.rate, allowed.burst) THEN
        -- A queue whose rate changes from one call an hour to ten a second must not wait for the rest of the hour.
        pace.tat := least(pace.tat, pace.last + allowed.burst / allowed.rate);
    END IF;
    -- If the pace is further ahead than departures can bring it, a clock was set back.
    IF pace.tat > furthest + 10 THEN
        pace.tat := furthest;
    END IF;
    WHILE cardinality(times) < wanted LOOP
        departure := greatest(moment, pace.tat - tolerance);
        EXIT WHEN departure > moment + horizon;
        times := array_append(times, departure);
        pace.last := departure;
        pace.tat := greatest(pace.tat, departure) + interval_;
    END LOOP;
    UPDATE voiceflow.paces SET rate = allowed.rate, burst = allowed.burst, tat = pace.tat, last = pace.last
    WHERE queue = of_queue;
    RETURN array_prepend(greatest(moment, pace.tat - tolerance), times);
END;
$$;
