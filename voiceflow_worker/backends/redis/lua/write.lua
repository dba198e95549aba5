-- Writes writes: each is checked as a whole, and then written as a whole, or refused.
-- @include store room rights queue sub_queues
-- Asked: now, together, confirms (whether WAIT or WAITAOF follows), guard (server: its id, or '' if the user may not see it; known: a condition), writes.
--   A write is as backends/plain.py has it, and what is missing is left out: kind ('insert', 'replace' or 'delete'), queue of its
--   change or events, id, old (the revision that is replaced or deleted), job (its columns, or those that change; an edit has
--   urgency, valid_until and body too), numbers, tally (amounts by field), conditions, puts, drops, events ({time, text}), wakes
--   (a queue), slot (queue, after and until in epoch seconds), and the tombstone of a deleted job ({its end, text}).
--   An insert may have `over`: the owner that gives its unique key up, and its old revision and next version, or neither for a
--   tombstone.
--   A condition is an array: 'most' or 'same' or 'before', a namespace, groups, an owner or null, and then: the most records; or
--   the member, the value or null, and what its own writes put there; or a time, and that of a clock that replaces the server's.
--   A put is {namespace, group, member, value, end, mode}. A drop is {namespace, group, member, '' or '=' and the value}.
-- Returns the answers: each is {'done'}, {'stale'}, {'exists', owner or '', digest, state, tombstone or ''},
-- {'not free', index of the condition, group, member, value, end}, {'not_verified'}, {'rolled_back'} or {'full', error}. To a
-- write with a slot: {'done', slot, next free time} or {'no slot', next free time}.
local now = tonumber(asked.now)

-- A closed store takes only what closes or opens it (`CLOSED` in core/ports/store.py).
local closed = record_at('closed', 'store', '', now)
for _, write in ipairs(closed and asked.writes or {}) do
    for _, parts in ipairs({write.puts, write.drops}) do
        for _, part in ipairs(parts) do
            closed = part[1] ~= 'closed' and closed
        end
    end
end
if closed then
    return redis.error_reply('CLOSED ' .. closed)
end

-- What the writes of a `together` bulk write would have written: checked first, because a script cannot be undone.
local trial = {groups = {}, revisions = {}, keys = {}}

local function switch(queue)
    if base ~= base_of(queue) then
        settle_queue(now)
        base = base_of(queue)
    end
end

local function current_record(namespace, group, member)
    local group_tried = trial.groups[namespace .. NUL .. group]
    local tried = group_tried and group_tried[member]
    if tried ~= nil then
        return tried and tried[1] or nil, tried and tried[2] or nil
    end
    return record_at(namespace, group, member, now)
end

local function current_group(namespace, group)
    local found = group_at(namespace, group, now)
    local tried = trial.groups[namespace .. NUL .. group]
    if not tried then
        return found
    end
    local merged = {}
    for _, record in ipairs(found) do
        if tried[record[1]] == nil then
            merged[#merged + 1] = record
        end
    end
    for member, record in pairs(tried) do
        if record then
            merged[#merged + 1] = {member, record[1], record[2]}
        end
    end
    return merged
end

local function optional(text)
    return text and '=' .. text or ''
end

local function is_owned_by(value, owner)
    if not value or owner == cjson.null then
        return false
    end
    local after = string.sub(value, #owner + 1, #owner + 1)
    return string.sub(value, 1, #owner) == owner and (after == '' or after == '.' or after == ' ')
end

-- The conditions, by kind. Each returns nil, or the group, the member, the value and the end by which it fails.
local checks = {}

function checks.most(namespace, groups, owner, most)
    for _, group in ipairs(groups) do
        local found = {}
        for _, record in ipairs(current_group(namespace, group)) do
            if not is_owned_by(record[2], owner) then
                found[#found + 1] = record
            end
        end
        if #found > most then
            table.sort(found, function(one, other)
                return (tonumber(one[3]) or math.huge) < (tonumber(other[3]) or math.huge)
            end)
            return group, unpack(found[#found - most])
        end
    end
end

function checks.same(namespace, groups, owner, member, wanted, own)
    local value, ends = current_record(namespace, groups[1], member)
    local holds = (value or cjson.null) == wanted or is_owned_by(value, owner)
    for _, put in ipairs(own) do
        holds = holds or value == put
    end
    if not holds then
        return groups[1], member, value or false, ends or ''
    end
end

function checks.before(_, _, _, until_, at)
    local time = redis.call('TIME')
    if (tonumber(at) or time[1] * 1000000 + time[2]) >= tonumber(until_) then
        return '', '', false, ''
    end
end

local function failure(condition)
    return checks[condition[1]](unpack(condition, 2))
end

local function key_of(write)
    return write.kind == 'insert' and optional(write.job.unique_key) or ''
end

local function revision_of(write)
    local tried = trial.revisions[write.id]
    if tried ~= nil then
        return tried
    end
    return redis.call('HGET', base_of(write.queue) .. ':job:' .. write.id, 'rev')
end

local function was_written(write)
    if write.kind == 'insert' then
        return revision_of(write) and true
    elseif write.kind == 'replace' then
        return revision_of(write) == write.job.revision
    elseif write.kind == 'delete' then
        return not revision_of(write)
    end
    for _, condition in ipairs(write.conditions) do
        local kind, namespace, groups, _, member, value, own = unpack(condition)
        local newest = kind == 'same' and own[#own]
        if newest and newest ~= value and newest == current_record(namespace, groups[1], member) then
            return true
        end
    end
    return false
end

local function owner_of_key(write)
    local of, key = base_of(write.queue), key_of(write)
    local tried = trial.keys[of .. NUL .. key]
    if tried then
        return {'exists', tried.id, tried.job.body_digest, tried.job.state, ''}
    end
    local owner = redis.call('HGET', of .. ':keys', key)
    if owner then
        local head = redis.call('HMGET', of .. ':job:' .. owner, 'digest', 'state')
        -- Nobody knows whether a lost job was called.
        return {'exists', owner, head[1] or '', head[2] or 'in_doubt', ''}
    end
    local tombstone = tombstone_of(of, key, now)
    return tombstone and {'exists', '', '', '', tombstone}
end

-- Whether the owner of a unique key, as `owner_of_key` returns it, is the one that gives it up, and is as it was.
local function gives_up(write, owner)
    local over = write.over
    if not over then
        return false
    elseif owner[5] ~= '' then
        return not over.old and string.match(owner[5], '^[^|]*|([^|]*)|') == over.owner
    end
    return owner[2] == over.owner and redis.call('HGET', base_of(write.queue) .. ':job:' .. over.owner, 'rev') == over.old
end

-- nil if the write may be written, else its answer.
local function refused(write)
    if was_written(write) then
        return {'done'}
    end
    if key_of(write) ~= '' then
        local owner = owner_of_key(write)
        if owner and not gives_up(write, owner) then
            return owner
        end
    elseif (write.kind == 'replace' or write.kind == 'delete') and revision_of(write) ~= write.old then
        return {'stale'}
    end
    for index, condition in ipairs(write.conditions) do
        local group, member, value, ends = failure(condition)
        if group then
            return {'not free', index - 1, group, member, value, ends}
        end
    end
    -- What became of a job is stored as long as there is a byte, and nothing new leaves.
    local is_evidence = (write.kind == 'replace' or write.kind == 'delete') and #write.conditions == 0
    if full and not is_evidence and (write.kind or #write.puts > 0) then
        return {'full', full}
    end
    return nil
end

-- The value and the end of a record after a put, or nil if the put changes nothing.
local function after_put(put)
    local namespace, group, member, value, ends, mode = unpack(put)
    local was, was_ends = current_record(namespace, group, member)
    if was == nil or mode == 'always' then
        return value, ends
    end
    local later = (tonumber(was_ends) or math.huge) >= (tonumber(ends) or math.huge)
    if mode == 'keep' or (mode == 'longer' and later) then
        return nil
    end
    return value, (mode == 'extend' and later) and was_ends or ends
end

-- Remembers a record as it would be, by its group; false for one that would be dropped.
local function try_record(namespace, group, member, record)
    local key = namespace .. NUL .. group
    trial.groups[key] = trial.groups[key] or {}
    trial.groups[key][member] = record
end

local function try(write)
    for _, put in ipairs(write.puts) do
        local value, ends = after_put(put)
        if value then
            try_record(put[1], put[2], put[3], {value, ends})
        end
    end
    for _, drop in ipairs(write.drops) do
        local value = current_record(drop[1], drop[2], drop[3])
        if value and (drop[4] == '' or drop[4] == '=' .. value) then
            try_record(drop[1], drop[2], drop[3], false)
        end
    end
    if write.kind == 'insert' or write.kind == 'replace' then
        trial.revisions[write.id] = write.job.revision
    elseif write.kind == 'delete' then
        trial.revisions[write.id] = false
    end
    if key_of(write) ~= '' then
        trial.keys[base_of(write.queue) .. NUL .. key_of(write)] = write
    end
end

-- The fields of a job that its next version may change, as they are kept.
local function moved(head, job)
    head.state, head.due, head.active = job.state, job.due_at, job.active_until or ''
    head.worker, head.outcome = optional(job.worker_id), optional(job.outcome)
    if job.urgency then -- of a new job, or of an edit
        head.prio, head.valid = string.format('%.0f', job.urgency), job.valid_until or ''
    end
    return head
end

local function insert(write)
    local id, job, over = write.id, write.job, write.over
    local head = moved({batch = optional(job.batch_id), dest = optional(job.destination), key = key_of(write)}, job)
    if over and redis.call('HGET', base .. ':keys', head.key) == over.owner then
        redis.call('HSET', job_key(over.owner), 'rev', over.job.revision, 'record', over.job.record, 'key', '')
    end
    redis.call('HSET', job_key(id), 'rev', job.revision, 'state', head.state, 'due', head.due, 'worker', head.worker,
        'prio', head.prio, 'batch', head.batch, 'dest', head.dest, 'key', head.key, 'valid', head.valid, 'active', head.active,
        'record', job.record, 'body', write.body, 'digest', job.body_digest, 'outcome', head.outcome)
    for _, number in ipairs(write.numbers) do
        zadd(base .. ':number:' .. number, 0, id)
    end
    if head.batch ~= '' then
        zadd(batch_base(head.batch) .. ':ids', 0, id)
    end
    if head.key ~= '' then
        redis.call('HSET', base .. ':keys', head.key, id)
        redis.call('HDEL', base .. ':tombstones', head.key)
        zrem(base .. ':tombstones:until', head.key)
    end
    enter(id, head)
    return head.batch
end

-- The next version of a job. Its batch and number stay as they are, and but for an edit its urgency and validity.
local function replace(write)
    local id, job, head = write.id, write.job, head_of(write.id)
    leave(id, head)
    moved(head, job)
    if write.body then
        redis.call('HSET', job_key(id), 'prio', head.prio, 'valid', head.valid, 'body', write.body)
    end
    enter(id, head)
    redis.call('HSET', job_key(id), 'rev', job.revision, 'state', head.state, 'due', head.due, 'worker', head.worker,
        'active', head.active, 'record', job.record, 'outcome', head.outcome)
    return head.batch
end

local function delete(write)
    local id, head = write.id, head_of(write.id)
    leave(id, head)
    for _, number in ipairs(write.numbers) do
        zrem(base .. ':number:' .. number, id)
    end
    if head.key ~= '' then
        redis.call('HDEL', base .. ':keys', head.key)
        if write.tombstone then
            local until_, text = unpack(write.tombstone)
            redis.call('HSET', base .. ':tombstones', head.key, until_ .. '|' .. text)
            zadd(base .. ':tombstones:until', until_, head.key)
        end
    end
    redis.call('DEL', job_key(id))
    if head.batch ~= '' then
        zrem(batch_base(head.batch) .. ':ids', id)
        for field, amount in pairs(write.tally) do
            add(batch_base(head.batch) .. ':pruned', field, -amount)
        end
    end
    return head.batch
end

local changes = {insert = insert, replace = replace, delete = delete}

local function change(write)
    switch(write.queue)
    local batch = changes[write.kind](write)
    for field, amount in pairs(write.tally) do
        count(batch, field, amount)
    end
    if write.kind == 'delete' and batch ~= '' and redis.call('EXISTS', batch_base(batch) .. ':ids') == 0 then
        settle_queue(now)
        redis.call('DEL', batch_base(batch) .. ':totals', batch_base(batch) .. ':pruned')
    end
end

-- The next lease checks a batch again whose gate has changed, or one of whose starts has ended.
local function look_again(namespace, queue, member)
    local batch = namespace == 'gate' and member or namespace == 'start' and '=' .. string.match(member, '^%S* (.*)$') or ''
    if batch ~= '' then
        redis.call('ZADD', base_of(queue) .. ':held_batches', 'XX', 0, batch)
    end
end

-- Counts a change of the queue and wakes its listeners. The stream has one entry, whose id is the count. A listener
-- that was disconnected asks for an entry newer than the count it knows, so it misses no change.
local function wake(queue)
    local changed = redis.call('INCRBY', base_of(queue) .. ':changes', 1)
    redis.call('XADD', base_of(queue) .. ':wake', 'MAXLEN', 1, changed .. '-0', 'changes', changed)
end

-- The next send slot at the rate of a queue (generic cell rate algorithm), as model.jobs.gcra has it, and the next free time
-- after it; nil and the next free time if no slot is free in time.
local CLOCKS_DIFFER = 10.0 -- as in model.jobs.gcra
local function allot(slot)
    local after, latest = slot.after, slot['until']
    local rate, burst = limits_at(slot.queue, now)
    if rate == '-' then
        return string.format('%.17g', after), string.format('%.17g', after)
    end
    local key = base_of(slot.queue) .. ':pace'
    local pace = redis.call('HMGET', key, 'tat', 'last', 'at', 'unreached')
    local tat, last, at = tonumber(pace[1] or '0'), pace[2] or '0', rate .. ' ' .. burst
    local interval = 1.0 / tonumber(rate)
    local tolerance, kept = (tonumber(burst) - 1) * interval, tat
    if pace[3] ~= at then
        -- A queue whose rate changes from one call an hour to ten a second must not wait for the rest of the hour.
        tat = math.min(tat, tonumber(last) + tonumber(burst) / tonumber(rate))
    end
    -- If the pace is further ahead than slots can bring it, a clock was set, and some workers do not know it yet.
    local furthest = latest + tonumber(burst) * interval
    if tat > furthest + CLOCKS_DIFFER then
        local unreached = math.min(tonumber(pace[4] or '') or latest, latest)
        if latest < unreached + CLOCKS_DIFFER then
            redis.call('HSET', key, 'tat', string.format('%.17g', tat), 'at', at, 'unreached', string.format('%.17g', unreached))
            return nil, string.format('%.17g', unreached + CLOCKS_DIFFER)
        end
        tat = furthest
    elseif 0 < tat and tat < after - CLOCKS_DIFFER then
        after = latest
    end
    local found = math.max(after, math.min(tonumber(last), latest), tat - tolerance)
    local next_at, is_free = found, found <= latest
    if is_free then
        -- 17 digits restore a double exactly.
        last = string.format('%.17g', found)
        tat = math.max(tat, found) + interval
        next_at = math.max(found, tat - tolerance)
    end
    if tat ~= kept or pace[3] ~= at or (pace[4] or '') ~= '' then
        redis.call('HSET', key, 'tat', string.format('%.17g', tat), 'last', last, 'at', at, 'unreached', '')
    end
    return is_free and last or nil, string.format('%.17g', next_at)
end

local function apply(write)
    if write.kind then
        change(write)
    end
    for _, put in ipairs(write.puts) do
        local namespace, group, member = put[1], put[2], put[3]
        local field = group .. NUL .. member
        local value, ends = after_put(put)
        if value then
            if redis.call('HSET', records_of(namespace), field, ends .. '|' .. value) == 1 and member ~= '' then
                count_members(namespace, group, 1)
            end
            zadd(keys_of(namespace), 0, field)
            if ends == '' then
                zrem(root .. ':ends', namespace .. NUL .. field)
            else
                zadd(root .. ':ends', ends, namespace .. NUL .. field)
            end
            look_again(namespace, group, member)
        end
    end
    for _, drop in ipairs(write.drops) do
        local value = current_record(drop[1], drop[2], drop[3])
        if value and (drop[4] == '' or drop[4] == '=' .. value) then
            forget_record(drop[1], drop[2], drop[3])
            look_again(drop[1], drop[2], drop[3])
        end
    end
    for _, event in ipairs(write.events) do
        -- No two events of a store have the same sequence, so that other kinds of stores can take them over.
        local of = base_of(write.queue)
        local last = tonumber(redis.call('GET', of .. ':sequence') or '0')
        local sequence = string.format('%.0f', math.max(redis.call('INCRBY', root .. ':sequence', 1), last + 1))
        redis.call('SET', root .. ':sequence', sequence)
        redis.call('SET', of .. ':sequence', sequence)
        zadd(of .. ':events', sequence, sequence .. '|' .. event[2])
        zadd(of .. ':events:at', event[1], sequence)
    end
    if write.wakes then
        wake(write.wakes)
    end
end

-- Whether the store was not rolled back: it is the same process, and has the record that it certainly had.
local function is_verified(guard)
    local is_same = guard.server == '' or guard.server == string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
    return is_same and not failure(guard.known)
end

-- Whether the answer to one write refuses the others of its bulk write too: not if the owner of its key has the same body.
local function refuses_all(write, answer)
    if not answer or answer[1] == 'done' then
        return false
    end
    local digest = answer[3]
    if answer[1] == 'exists' and answer[5] ~= '' then
        digest = string.match(answer[5], '^[^|]*|[^|]*|([^|]*)|')
    end
    return answer[1] ~= 'exists' or digest ~= write.job.body_digest
end

local answers = {}
if asked.guard and not is_verified(asked.guard) then
    for index, write in ipairs(asked.writes) do
        answers[index] = was_written(write) and {'done'} or {'not_verified'}
    end
elseif asked.together then
    local refusals, is_refused = {}, false
    for index, write in ipairs(asked.writes) do
        answers[index] = refused(write)
        if not answers[index] then
            try(write)
        end
        refusals[index] = refuses_all(write, answers[index])
        is_refused = is_refused or refusals[index]
    end
    trial = {groups = {}, revisions = {}, keys = {}}
    for index, write in ipairs(asked.writes) do
        if is_refused and not refusals[index] and (not answers[index] or answers[index][1] == 'done') then
            answers[index] = {'rolled_back'}
        elseif not answers[index] then
            apply(write)
        end
    end
else
    for index, write in ipairs(asked.writes) do
        answers[index] = refused(write)
        if not answers[index] and write.slot then
            local slot, next_at = allot(write.slot)
            answers[index] = slot and {'done', slot, next_at} or {'no slot', next_at}
            if slot then
                apply(write)
            end
        elseif not answers[index] then
            apply(write)
        end
    end
end
for index = 1, #asked.writes do
    answers[index] = answers[index] or {'done'}
end
settle_queue(now)
if asked.confirms then
    -- WAITAOF and WAIT wait only for writes of their own connection, and for all that was written before those.
    redis.call('SET', room, '')
end
return packed(answers)
