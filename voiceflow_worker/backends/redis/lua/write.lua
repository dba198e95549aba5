-- Writes writes: each is checked as a whole, and then written as a whole, or refused.
-- @include store room queue sub_queues
-- Asked: now, confirms (whether WAIT or WAITAOF follows), guard (server: its id, or '' if the user may not see it; known: a
-- condition), writes.
--   A write is as backends/plain.py has it, and what is missing is left out: changes, conditions, puts, drops, events ({queue,
--   time, text}), wakes (a queue), slot (queue, after and until in epoch seconds).
--   A change has a kind ('insert', 'replace' or 'delete'), id, queue, tally (amounts by field), old (the revision that is replaced or
--   deleted), job (its columns, or those that change), numbers (and those that an edited one had, if they are others), and body
--   if it is new or edited; a deletion may have its tombstone ({its end, text}).
--   A condition is an array: 'most' or 'same', a namespace, groups, an owner or null, and then: the most records; or
--   the member, the value or null, and what its own writes put there.
--   A put is {namespace, group, member, value, end, mode}. A drop is {namespace, group, member, '' or '=' and the value}.
-- Returns the answers: each is {'done'}, {'stale'}, {'exists', {owner, digest, state} by the ids of the new jobs}, {'not free',
-- index of the condition, group, member, value, end}, {'not_verified'} or {'full', error}. To a write with a slot: {'done',
-- slot, next free time} or {'no slot', next free time}.
local now = tonumber(asked.now)

local function switch(queue)
    if base ~= base_of(queue) then
        settle_queue(now)
        base = base_of(queue)
    end
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
        for _, record in ipairs(group_at(namespace, group, now)) do
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
    local value, ends = record_at(namespace, groups[1], member, now)
    local holds = (value or cjson.null) == wanted or is_owned_by(value, owner)
    for _, put in ipairs(own) do
        holds = holds or value == put
    end
    if not holds then
        return groups[1], member, value or false, ends or ''
    end
end

local function failure(condition)
    return checks[condition[1]](unpack(condition, 2))
end

local function revision_of(change)
    return redis.call('HGET', base_of(change.queue) .. ':job:' .. change.id, 'rev')
end

local function was_written(write)
    local are_gone = #write.changes > 0
    for _, change in ipairs(write.changes) do
        local revision = revision_of(change)
        if change.kind == 'insert' and revision or change.kind == 'replace' and revision == change.job.revision then
            return true
        end
        are_gone = are_gone and change.kind == 'delete' and not revision
    end
    for _, condition in ipairs(#write.changes == 0 and write.conditions or {}) do
        local kind, namespace, groups, _, member, value, own = unpack(condition)
        local newest = kind == 'same' and own[#own]
        if newest and newest ~= value and newest == record_at(namespace, groups[1], member, now) then
            return true
        end
    end
    return are_gone
end

-- The id, digest and state of the job that owns the unique key of a new job, if one does.
local function owner_of_key(change)
    local key = optional(change.job.unique_key)
    if key == '' then
        return nil
    end
    local id, digest, state = redis.call('HGET', root .. ':keys', key)
    if id then
        local head = redis.call('HMGET', base_of(string.match(id, '^[^.]*')) .. ':job:' .. id, 'digest', 'state')
        digest, state = head[1] or '', head[2] or 'in_doubt' -- nobody knows whether a lost job was called
    else
        id, digest, state = string.match(tombstone_of(key, now) or '', '^[^|]*|([^|]*)|([^|]*)|([^|]*)|')
    end
    return id and {id, digest, state}
end

-- nil if the write may be written, else its answer.
local function refused(write)
    if was_written(write) then
        return {'done'}
    end
    local owners, is_evidence = {}, #write.changes > 0 and #write.conditions == 0
    for _, change in ipairs(write.changes) do
        if change.kind == 'insert' then
            is_evidence, owners[change.id] = false, owner_of_key(change)
        else
            local revision = revision_of(change)
            if revision ~= change.old then
                return {'stale'}
            end
        end
    end
    if next(owners) then
        return {'exists', owners}
    end
    for index, condition in ipairs(write.conditions) do
        local group, member, value, ends = failure(condition)
        if group then
            return {'not free', index - 1, group, member, value, ends}
        end
    end
    -- What became of a job is stored as long as there is a byte, and nothing new leaves.
    if full and not is_evidence and #write.changes + #write.puts > 0 then
        return {'full', full}
    end
    return nil
end

-- The value and the end of a record after a put, or nil if the put changes nothing.
local function after_put(put)
    local namespace, group, member, value, ends, mode = unpack(put)
    local was, was_ends = record_at(namespace, group, member, now)
    if was == nil or mode == 'always' then
        return value, ends
    end
    local later = (tonumber(was_ends) or math.huge) >= (tonumber(ends) or math.huge)
    if mode == 'keep' or (mode == 'longer' and later) then
        return nil
    end
    return value, (mode == 'extend' and later) and was_ends or ends
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

local function insert(change)
    local id, job = change.id, change.job
    local key = optional(job.unique_key)
    local head = moved({batch = optional(job.batch_id), dest = optional(job.destination), key = key}, job)
    redis.call('HSET', job_key(id), 'rev', job.revision, 'state', head.state, 'due', head.due, 'worker', head.worker,
        'prio', head.prio, 'batch', head.batch, 'dest', head.dest, 'key', head.key, 'valid', head.valid, 'active', head.active,
        'record', job.record, 'body', change.body, 'digest', job.body_digest, 'outcome', head.outcome)
    for _, number in ipairs(change.numbers) do
        zadd(base .. ':number:' .. number, 0, id)
    end
    if head.batch ~= '' then
        zadd(batch_base(head.batch) .. ':ids', 0, id)
    end
    if key ~= '' then
        redis.call('HSET', root .. ':keys', key, id)
        redis.call('HDEL', root .. ':tombstones', key)
        zrem(root .. ':tombstones:until', key)
    end
    enter(id, head)
    return head.batch
end

-- The next version of a job. Only an edit, which has a body, changes its urgency, validity and numbers.
local function replace(change)
    local id, job, head = change.id, change.job, head_of(change.id)
    leave(id, head)
    moved(head, job)
    if change.body then
        redis.call('HSET', job_key(id), 'prio', head.prio, 'valid', head.valid, 'body', change.body,
            'dest', optional(job.destination))
        for _, number in ipairs(change.had or {}) do
            zrem(base .. ':number:' .. number, id)
        end
        for _, number in ipairs(change.had and change.numbers or {}) do
            zadd(base .. ':number:' .. number, 0, id)
        end
    end
    enter(id, head)
    redis.call('HSET', job_key(id), 'rev', job.revision, 'state', head.state, 'due', head.due, 'worker', head.worker,
        'active', head.active, 'record', job.record, 'outcome', head.outcome)
    return head.batch
end

local function delete(change)
    local id, head = change.id, head_of(change.id)
    if not head then
        return nil
    end
    leave(id, head)
    for _, number in ipairs(change.numbers) do
        zrem(base .. ':number:' .. number, id)
    end
    if head.key ~= '' then
        redis.call('HDEL', root .. ':keys', head.key)
        if change.tombstone then
            local until_, text = unpack(change.tombstone)
            redis.call('HSET', root .. ':tombstones', head.key, until_ .. '|' .. text)
            zadd(root .. ':tombstones:until', until_, head.key)
        end
    end
    redis.call('DEL', job_key(id))
    if head.batch ~= '' then
        zrem(batch_base(head.batch) .. ':ids', id)
    end
    return head.batch
end

local kinds = {insert = insert, replace = replace, delete = delete}

local function make(change)
    switch(change.queue)
    local batch = kinds[change.kind](change)
    for field, amount in pairs(batch and change.tally or {}) do
        count(batch, field, amount)
    end
    if change.kind == 'delete' and batch and batch ~= '' and redis.call('EXISTS', batch_base(batch) .. ':ids') == 0 then
        settle_queue(now)
        redis.call('DEL', batch_base(batch) .. ':totals')
    end
end

-- The next lease checks a batch again whose gate or holds have changed. The group of a hold is '<queue>=<batch>'.
local function look_again(namespace, group, member)
    local queue, batch = group, namespace == 'gate' and member or ''
    if namespace == 'hold' then
        queue, batch = string.match(group, '^([^=]*)(.*)$')
    end
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
    for _, change in ipairs(write.changes) do
        make(change)
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
        local value = record_at(drop[1], drop[2], drop[3], now)
        if value and (drop[4] == '' or drop[4] == '=' .. value) then
            forget_record(drop[1], drop[2], drop[3])
            look_again(drop[1], drop[2], drop[3])
        end
    end
    for _, event in ipairs(write.events) do
        -- No two events of a store have the same sequence, so that other kinds of stores can take them over.
        local of = base_of(event[1])
        local last = tonumber(redis.call('GET', of .. ':sequence') or '0')
        local sequence = string.format('%.0f', math.max(redis.call('INCRBY', root .. ':sequence', 1), last + 1))
        redis.call('SET', root .. ':sequence', sequence)
        redis.call('SET', of .. ':sequence', sequence)
        zadd(of .. ':events', sequence, sequence .. '|' .. event[3])
        zadd(of .. ':events:at', event[2], sequence)
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

local answers = {}
if asked.guard and not is_verified(asked.guard) then
    for index, write in ipairs(asked.writes) do
        answers[index] = was_written(write) and {'done'} or {'not_verified'}
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
