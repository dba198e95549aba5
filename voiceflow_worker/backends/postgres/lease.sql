-- Leasing, and send slots.


-- The limits of a queue: NULL is no limit. A record that cannot be read lets no call leave (`limits_from` in
-- core/ports/controls.py).
CREATE FUNCTION voiceflow.limits(
    of_queue text, at timestamptz,
    OUT rate double precision, OUT burst integer, OUT max_active integer
)
LANGUAGE plpgsql AS $$
DECLARE
    part CONSTANT text[] := string_to_array(voiceflow.value_of('limit', of_queue, '', at), ' ');
BEGIN
    IF part IS NULL THEN
        burst := 1;
        RETURN;
    END IF;
    BEGIN
        rate := nullif(part[1], '-');
        burst := part[2];
        max_active := nullif(part[3], '-');
    EXCEPTION WHEN data_exception THEN
        burst := NULL;
    END;
    IF cardinality(part) = 3 AND burst > 0
        AND (rate IS NULL OR (rate > 0 AND rate < 'infinity')) AND (max_active IS NULL OR max_active > 0)
    THEN
        RETURN;
    END IF;
    rate := 1e-6;
    burst := 1;
    max_active := 0;
END;
$$;

-- Whether the gate of a batch is closed, or it has a hold. Each is looked up by its key, so that other gates cost nothing.
CREATE FUNCTION voiceflow.is_held(of_queue text, batch text, at timestamptz) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    RETURN batch IS NOT NULL AND (
        coalesce(voiceflow.is_closed(voiceflow.value_of('gate', of_queue, '=' || batch, at)), false)
        OR EXISTS (
            SELECT FROM voiceflow.records
            WHERE namespace = 'hold' AND group_name = of_queue || '=' || batch AND voiceflow.is_current(ends_at, at)
        )
    );
END;
$$;

-- Whether many held jobs come before the jobs that a lease of so many would find, in the order of leasing. This reads as many entries as the lease, and some hundreds more if it meets a held one.
CREATE FUNCTION voiceflow.are_many_held(of_queue text, at timestamptz, most bigint) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    many CONSTANT integer := 300;
    level integer := 2147483647;
    held bigint := 0;
    free bigint := 0;
    checked bigint;
    part record;
BEGIN
    LOOP
        level := (
            SELECT urgency FROM voiceflow.jobs WHERE queue = of_queue AND state = 'queued' AND urgency <= level
            ORDER BY urgency DESC LIMIT 1
        );
        EXIT WHEN level IS NULL;
        FOREACH checked IN ARRAY ARRAY[most - free, most - free + many] LOOP
            SELECT coalesce(sum(amount) FILTER (WHERE is_held), 0) AS held,
                   coalesce(sum(amount) FILTER (WHERE NOT is_held), 0) AS free INTO part
            FROM (
                SELECT amount, voiceflow.is_held(of_queue, batch_id, at) AS is_held FROM (
                    SELECT batch_id, count(*) AS amount FROM (
                        SELECT batch_id FROM voiceflow.jobs
                        WHERE queue = of_queue AND state = 'queued' AND urgency = level AND due_at <= at
                        ORDER BY due_at, id LIMIT checked
                    ) AS first GROUP BY batch_id
                ) AS grouped
            ) AS looked;
            EXIT WHEN part.held = 0;
        END LOOP;
        held := held + part.held;
        free := free + part.free;
        EXIT WHEN held >= many OR free >= most OR level = -2147483648;
        level := level - 1;
    END LOOP;
    RETURN held >= many;
END;
$$;

-- Due jobs of a queue, or of a batch of it ('' are the jobs without one): those of the highest urgency first, then the
-- earliest due, then by id. Left out are those that are no longer valid, those of held batches, and those that
-- another transaction has locked. The others are locked.
--
-- Each urgency is looked for by itself, so that jobs that are not due are not read.
CREATE FUNCTION voiceflow.due_jobs(of_queue text, of_batch text, at timestamptz, most bigint) RETURNS SETOF voiceflow.jobs
LANGUAGE plpgsql AS $$
DECLARE
    level integer;
    found bigint;
BEGIN
    WHILE most > 0 LOOP
        IF of_batch IS NULL THEN
            level := (
                SELECT urgency FROM voiceflow.jobs
                WHERE queue = of_queue AND state = 'queued' AND urgency < coalesce(level, 2147483647)
                ORDER BY urgency DESC LIMIT 1
            );
        ELSE
            level := (
                SELECT urgency FROM voiceflow.jobs
                WHERE queue = of_queue AND state = 'queued' AND coalesce(batch_id, '') = of_batch
                    AND urgency < coalesce(level, 2147483647)
                ORDER BY urgency DESC LIMIT 1
            );
        END IF;
        EXIT WHEN level IS NULL;
        IF of_batch IS NULL THEN
            RETURN QUERY
            SELECT * FROM voiceflow.jobs
            WHERE queue = of_queue AND state = 'queued' AND urgency = level
                AND due_at <= at
                AND (valid_until IS NULL OR valid_until > at)
                AND NOT voiceflow.is_held(of_queue, batch_id, at)
            ORDER BY due_at, id LIMIT most FOR UPDATE SKIP LOCKED;
        ELSE
            RETURN QUERY
            SELECT * FROM voiceflow.jobs
            WHERE queue = of_queue AND state = 'queued' AND coalesce(batch_id, '') = of_batch AND urgency = level
                AND due_at <= at
                AND (valid_until IS NULL OR valid_until > at)
                AND NOT voiceflow.is_held(of_queue, batch_id, at)
            ORDER BY due_at, id LIMIT most FOR UPDATE SKIP LOCKED;
        END IF;
        GET DIAGNOSTICS found = ROW_COUNT;
        most := most - found;
    END LOOP;
END;
$$;

-- The batches of a queue that have queued jobs, without those of closed gates. '' is the jobs without a batch.
CREATE FUNCTION voiceflow.open_batches(of_queue text, at timestamptz) RETURNS SETOF text
LANGUAGE plpgsql AS $$
DECLARE
    batch text := '';
BEGIN
    WHILE batch IS NOT NULL LOOP
        IF NOT voiceflow.is_held(of_queue, batch, at) THEN
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

-- The number of open calls of a queue, those above `most` not counted: leased ones, and those that may still ring.
CREATE FUNCTION voiceflow.open_calls(of_queue text, at timestamptz, most integer) RETURNS integer
LANGUAGE plpgsql AS $$
BEGIN
    RETURN (
        SELECT count(*) FROM (
            SELECT FROM voiceflow.jobs
            WHERE queue = of_queue AND state = 'leased'
            UNION ALL
            SELECT FROM voiceflow.jobs
            WHERE queue = of_queue AND active_until > at AND state <> 'leased'
            LIMIT most
        ) AS calls
    );
END;
$$;

-- Leases due jobs to a worker, as far as gates and limits allow, and returns them behind a first row, which has no job.
--
-- A power cut may undo a lease: its job is then queued, and was not sent, because the journal comes after the lease.
CREATE FUNCTION voiceflow.lease(
    of_queue text, of_batch text, worker text, most integer, until timestamptz, at timestamptz
) RETURNS SETOF voiceflow.calls
LANGUAGE plpgsql
SET lock_timeout = '3s' SET enable_seqscan = off SET plan_cache_mode = force_generic_plan SET jit = off SET search_path = pg_catalog AS $$
DECLARE
    allowed CONSTANT record := voiceflow.limits(of_queue, at);
    has_many boolean;
    chosen text[];
    token CONSTANT text := gen_random_uuid();
BEGIN
    RETURN NEXT NULL::voiceflow.calls;
    IF voiceflow.is_closed(voiceflow.value_of('gate', of_queue, '', at)) OR voiceflow.is_held(of_queue, of_batch, at) THEN
        RETURN;
    END IF;
    PERFORM set_config('synchronous_commit', 'off', true);
    IF allowed.max_active IS NOT NULL THEN
        PERFORM voiceflow.lock_groups(ARRAY['leases of'], ARRAY[of_queue], ARRAY[false]);
        most := least(most, allowed.max_active - voiceflow.open_calls(of_queue, at, allowed.max_active));
    END IF;
    -- Behind many held calls, the open batches are looked at one by one: an index seek for each.
    has_many := of_batch IS NULL AND most > 0 AND voiceflow.are_many_held(of_queue, at, most);
    SELECT array_agg(id ORDER BY urgency DESC, due_at, id) INTO chosen
    FROM (
        SELECT id, urgency, due_at FROM
            unnest(
                CASE WHEN has_many THEN ARRAY(SELECT voiceflow.open_batches(of_queue, at)) ELSE ARRAY[of_batch] END
            ) AS batch,
            LATERAL voiceflow.due_jobs(of_queue, batch, at, most)
        ORDER BY urgency DESC, due_at, id LIMIT greatest(most, 0)
    ) AS due;
    IF coalesce(cardinality(chosen), 0) = 0 THEN
        RETURN;
    END IF;
    UPDATE voiceflow.jobs
    SET state = 'leased', worker_id = worker, due_at = until, revision = token || '.' || array_position(chosen, id)
    WHERE id = ANY (chosen);
    INSERT INTO voiceflow.additions (queue, batch, tally)
    SELECT of_queue, coalesce(batch_id, ''), jsonb_build_object('state:queued', -count(*), 'state:leased', count(*))
    FROM voiceflow.jobs WHERE id = ANY (chosen) GROUP BY batch_id;
    RETURN QUERY
    SELECT * FROM voiceflow.calls
    WHERE id = ANY (chosen) ORDER BY array_position(chosen, id);
END;
$$;
