-- What runs in a transaction of the caller, which may stay open for as long as the caller likes. So nothing here makes
-- others wait, or waits for them, except for those who store the same unique key: no advisory lock, no event, no NOTIFY,
-- and no row that others write.

-- A new record would make all wait who put the same one. So it is noted here, and put with the next `prune`.
CREATE TABLE voiceflow.noted_puts (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    put    jsonb NOT NULL
);
COMMENT ON TABLE voiceflow.noted_puts IS
    'Records that were put in callers'' transactions, such as names of batches. They go to `records` later';

-- Where this store is. It stays the same after a failover, and is another for a store in another database.
CREATE FUNCTION voiceflow.location() RETURNS text
LANGUAGE sql STABLE AS $$
    SELECT extract(epoch FROM made_at)::bigint::text || ' ' || current_database()::text || ' '
        || 'voiceflow.jobs'::regclass::oid::text
    FROM voiceflow.voiceflow_schema;
$$;

-- Raises a serialization failure if this record was stored after the snapshot of a transaction that sees one moment, and so
-- cannot be seen: the tombstone of a call that came and went since. What is tried here is undone.
CREATE FUNCTION voiceflow.require_seen(of_namespace text, of_group text, of_member text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO voiceflow.records VALUES (of_namespace, of_group, of_member, '', NULL) ON CONFLICT DO NOTHING;
    RAISE SQLSTATE 'VW002';
EXCEPTION WHEN SQLSTATE 'VW002' THEN
    NULL;
END;
$$;

-- Writes a bulk write of new calls, and returns the answers to its writes. Keys are kept unique by their index: this waits for
-- another transaction that is storing the same key, and nothing is aborted.
CREATE FUNCTION voiceflow.enqueue(bulk jsonb) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    at CONSTANT timestamptz := bulk ->> 'now';
    writes CONSTANT jsonb := (
        SELECT jsonb_agg(write - 'wakes' || '{"puts": []}' ORDER BY ordinal)
        FROM jsonb_array_elements(bulk -> 'writes') WITH ORDINALITY AS each (write, ordinal)
    );
    answers jsonb[];
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        PERFORM voiceflow.require_seen('tombstone', '', change #>> '{job,unique_key}')
        FROM jsonb_array_elements(writes) AS write, jsonb_array_elements(write -> 'changes') AS change
        WHERE change #>> '{job,unique_key}' IS NOT NULL;
    END IF;
    answers := voiceflow.answers(writes, at);
    PERFORM voiceflow.publish(writes, answers);
    INSERT INTO voiceflow.noted_puts (put)
    SELECT DISTINCT put
    FROM jsonb_array_elements(bulk -> 'writes') WITH ORDINALITY AS each (write, ordinal), jsonb_array_elements(write -> 'puts') AS put
    WHERE answers[ordinal] = '"done"' AND NOT EXISTS (
        SELECT FROM voiceflow.records AS r
        WHERE r.namespace = put ->> 'namespace' AND r.group_name = put ->> 'group' AND r.member = put ->> 'member'
            AND voiceflow.is_current(r.ends_at, at)
    );
    RETURN to_jsonb(answers);
END;
$$;

-- Puts records that were noted, at most so many; returns their number. As in `write`, what is in a group is locked before it is changed.
CREATE FUNCTION voiceflow.put_noted(most integer, at timestamptz) RETURNS integer
LANGUAGE plpgsql SET lock_timeout = '3s' SET enable_seqscan = off SET jit = off SET search_path = pg_catalog AS $$
DECLARE
    numbers bigint[];
    noted jsonb;
BEGIN
    numbers := ARRAY(SELECT number FROM voiceflow.noted_puts ORDER BY number LIMIT most);
    PERFORM voiceflow.lock_groups(array_agg(put ->> 'namespace'), array_agg(put ->> 'group'), array_agg(false))
    FROM voiceflow.noted_puts WHERE number = ANY (numbers);
    FOR noted IN DELETE FROM voiceflow.noted_puts WHERE number = ANY (numbers) RETURNING put LOOP
        PERFORM voiceflow.put(noted, at);
    END LOOP;
    RETURN cardinality(numbers);
END;
$$;

-- Answers what the code of a caller asks:
--   {bulk}: the answers to its writes;
--   {now, owned}: who owns these unique keys, calls that have been deleted among them;
--   {now, namespace, keys}: the records with these keys, each of a group and a member.
-- Every answer has the location and the id of the store, and the time of the server. If the question is for another location, nothing is
-- done. Questions and answers are base64, so that no setting of the caller's session changes a text.
CREATE FUNCTION voiceflow.asked(question_in_base64 text) RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog SET enable_seqscan = off SET plan_cache_mode = force_generic_plan SET jit = off AS $$
DECLARE
    question CONSTANT jsonb := convert_from(decode(question_in_base64, 'base64'), 'UTF8');
    at CONSTANT timestamptz := question ->> 'now';
    here CONSTANT text := voiceflow.location();
    answer jsonb;
BEGIN
    IF question ->> 'location' <> here THEN
        NULL;
    ELSIF question ? 'bulk' THEN
        answer := voiceflow.enqueue(question -> 'bulk');
    ELSIF question ? 'owned' THEN
        SELECT jsonb_agg(owner) INTO answer FROM (
            SELECT to_jsonb(c) AS owner FROM voiceflow.calls AS c
            WHERE unique_key IN (SELECT jsonb_array_elements_text(question -> 'owned'))
            UNION ALL
            SELECT to_jsonb(r) FROM voiceflow.records AS r
            WHERE namespace = 'tombstone' AND group_name = ''
                AND member IN (SELECT jsonb_array_elements_text(question -> 'owned')) AND voiceflow.is_current(ends_at, at)
        ) AS owners;
    ELSIF question ? 'namespace' THEN
        SELECT jsonb_agg(jsonb_build_array(r.group_name, r.value, r.ends_at, r.member)) INTO answer
        FROM jsonb_array_elements(question -> 'keys') AS key, voiceflow.records AS r
        WHERE r.namespace = question ->> 'namespace' AND r.group_name = key ->> 0 AND r.member = key ->> 1
            AND voiceflow.is_current(r.ends_at, at);
    END IF;
    answer := jsonb_build_object(
        'location', here, 'now', clock_timestamp(), 'answer', coalesce(answer, '[]'),
        'store', (SELECT store_id FROM voiceflow.voiceflow_schema)
    );
    RETURN encode(convert_to(answer::text, 'UTF8'), 'base64');
END;
$$;
