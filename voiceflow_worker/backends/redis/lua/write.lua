-- Writes units: each is checked as a whole, and then written as a whole, or refused.
-- @include store room rights queue sub_queues
-- Asked: now, together, guard (server: its id, or '' if the user may not see it; known: a condition), units.
--   A unit has: kind ('insert', 'move', 'delete' or ''), queue of its change or events, id, old and new revision, key (unique
--   key or ''), job (its new fields), tally (amounts by field), needs, puts, drops, events ({time, text}), wakes (a queue),
--   and perhaps slot (queue, after and latest: texts in epoch seconds).
--   An insert may have `over`: the owner that gives its unique key up, its old revision ('' for a tombstone), and then its new
--   revision and record.
--   A condition has a kind: 'absent' (namespace, groups, owner or ''), 'most' (namespace, group, most, owner or ''), 'same'
--   (namespace, group, member, values: '' for no record, else '=' and the value; own: '=' and its own new value, or ''),
--   'gate' (group: the queue, batch: '' or '=' and the batch). A put is {namespace, group, member, value, end, mode}. A drop
--   is {namespace, group, member, '' or '=' and the value}.
-- Returns the answers: each is {'done'}, {'stale'}, {'exists', owner or '', digest, state, tombstone or ''},
-- {'not free', place of the condition, group, member, value, end}, {'not_verified'}, {'rolled_back'} or {'full', error}. To a
-- unit with a slot: {'done', slot, next free time} or {'no slot', next free time}.
local now = tonumber(asked.now)

-- What the units of a `together` step would have written: checked first, because a script cannot be undone.
local trial = {records = {}, revisions = {}, keys = {}}

-- Whether a unit was written by an earlier try.
local asked_again = false

local function switch(queue)
    if base ~= base_of(queue) then
        settle_queue(now)
        base = base_of(queue)
    end
end

local function standing(namespace, group, member)
    local tried = trial.records[namespace .. NUL .. group .. NUL .. member]
    if tried ~= nil then
        return tried and tried[1] or nil, tried and tried[2] or nil
    end
    return record_at(namespace, group, member, now)
end

local function group_standing(namespace, group)
    local found = group_at(namespace, group, now)
    if not next(trial.records) then
        return found
    end
    local merged, beginning = {}, namespace .. NUL .. group .. NUL
    for _, record in ipairs(found) do
        if trial.records[beginning .. record[1]] == nil then
            merged[#merged + 1] = record
        end
    end
    for tried, record in pairs(trial.records) do
        if record and string.sub(tried, 1, #beginning) == beginning then
            merged[#merged + 1] = {string.sub(tried, #beginning + 1), record[1], record[2]}
        end
    end
    return merged
end

local function belongs(value, owner)
    if owner == '' then
        return false
    end
    return value == owner or string.sub(value, 1, #owner + 1) == owner .. '.'
end

-- The conditions, by kind. Each returns nil, or the group, the member, the value and the end by which it fails.
local checks = {}

function checks.absent(need)
    for _, group in ipairs(need.groups) do
        for _, record in ipairs(group_standing(need.namespace, group)) do
            if not belongs(record[2], need.owner) then
                return group, unpack(record)
            end
        end
    end
end

function checks.most(need)
    local found = {}
    for _, record in ipairs(group_standing(need.namespace, need.group)) do
        if not belongs(record[2], need.owner) then
            found[#found + 1] = record
        end
    end
    local over = #found - need.most
    if over > 0 then
        table.sort(found, function(one, other)
            return (tonumber(one[3]) or math.huge) < (tonumber(other[3]) or math.huge)
        end)
        return need.group, unpack(found[over])
    end
end

function checks.same(need)
    local value, ends = standing(need.namespace, need.group, need.member)
    local has = value and '=' .. value or ''
    for _, each in ipairs(need.values) do
        if has == each then
            return nil
        end
    end
    return need.group, need.member, value or false, ends or ''
end

function checks.gate(need)
    for _, batch in ipairs(need.batch == '' and {''} or {'', need.batch}) do
        local value, ends = standing('gate', need.group, batch)
        if is_closed(value) then
            return need.group, batch, value, ends
        end
    end
end

local function revision_of(unit)
    local tried = trial.revisions[unit.id]
    if tried ~= nil then
        return tried
    end
    return redis.call('HGET', base_of(unit.queue) .. ':job:' .. unit.id, 'rev')
end

local function was_written(unit)
    if unit.kind == 'insert' then
        return revision_of(unit) and true
    elseif unit.kind == 'move' then
        return revision_of(unit) == unit.new
    elseif unit.kind == 'delete' then
        return not revision_of(unit)
    end
    for _, need in ipairs(unit.needs) do
        if need.kind == 'same' and need.own ~= '' and need.own ~= need.values[1] then
            local value = standing(need.namespace, need.group, need.member)
            if value and '=' .. value == need.own then
                return true
            end
        end
    end
    return false
end

local function owner_of_key(unit)
    local of = base_of(unit.queue)
    local tried = trial.keys[of .. NUL .. unit.key]
    if tried then
        return {'exists', tried.id, tried.job.digest, tried.job.state, ''}
    end
    local owner = redis.call('HGET', of .. ':keys', unit.key)
    if owner then
        local head = redis.call('HMGET', of .. ':job:' .. owner, 'digest', 'state')
        -- Nobody knows whether a lost job was called.
        return {'exists', owner, head[1] or '', head[2] or 'in_doubt', ''}
    end
    local tombstone = tombstone_of(of, unit.key, now)
    return tombstone and {'exists', '', '', '', tombstone}
end

-- Whether the owner of a unique key, as `owner_of_key` returns it, is the one that gives it up, and is as it was.
local function gives_up(unit, owner)
    local over = unit.over
    if not over then
        return false
    elseif owner[5] ~= '' then
        return over.old == '' and string.match(owner[5], '^[^|]*|([^|]*)|') == over.owner
    end
    return owner[2] == over.owner and redis.call('HGET', base_of(unit.queue) .. ':job:' .. over.owner, 'rev') == over.old
end

-- nil if the unit may be written, else its answer.
local function refused(unit)
    if was_written(unit) then
        asked_again = true
        return {'done'}
    end
    if unit.kind == 'insert' and unit.key ~= '' then
        local owner = owner_of_key(unit)
        if owner and not gives_up(unit, owner) then
            return owner
        end
    elseif (unit.kind == 'move' or unit.kind == 'delete') and revision_of(unit) ~= unit.old then
        return {'stale'}
    end
    for place, need in ipairs(unit.needs) do
        local group, member, value, ends = checks[need.kind](need)
        if group then
            return {'not free', place - 1, group, member, value, ends}
        end
    end
    -- What became of a job is stored as long as there is a byte, and nothing new leaves.
    local is_evidence = (unit.kind == 'move' or unit.kind == 'delete') and #unit.needs == 0
    if full and not is_evidence and (unit.kind ~= '' or #unit.puts > 0) then
        return {'full', full}
    end
    return nil
end

-- The value and the end of a record after a put, or nil if the put changes nothing.
local function after_put(put)
    local namespace, group, member, value, ends, mode = unpack(put)
    local was, was_ends = standing(namespace, group, member)
    if was == nil or mode == 'always' then
        return value, ends
    end
    local later = (tonumber(was_ends) or math.huge) >= (tonumber(ends) or math.huge)
    if mode == 'keep' or (mode == 'longer' and later) then
        return nil
    end
    return value, (mode == 'extend' and later) and was_ends or ends
end

local function try(unit)
    for _, put in ipairs(unit.puts) do
        local value, ends = after_put(put)
        if value then
            trial.records[put[1] .. NUL .. put[2] .. NUL .. put[3]] = {value, ends}
        end
    end
    for _, drop in ipairs(unit.drops) do
        local value = standing(drop[1], drop[2], drop[3])
        if value and (drop[4] == '' or drop[4] == '=' .. value) then
            trial.records[drop[1] .. NUL .. drop[2] .. NUL .. drop[3]] = false
        end
    end
    if unit.kind == 'insert' or unit.kind == 'move' then
        trial.revisions[unit.id] = unit.new
    elseif unit.kind == 'delete' then
        trial.revisions[unit.id] = false
    end
    if unit.kind == 'insert' and unit.key ~= '' then
        trial.keys[base_of(unit.queue) .. NUL .. unit.key] = unit
    end
end

local function insert(unit)
    local id, job, over = unit.id, unit.job, unit.over
    if over and redis.call('HGET', base .. ':keys', job.key) == over.owner then
        redis.call('HSET', job_key(over.owner), 'rev', over.new, 'record', over.record, 'key', '')
    end
    redis.call('HSET', job_key(id), 'rev', unit.new, 'state', job.state, 'due', job.due, 'worker', job.worker,
        'prio', job.prio, 'batch', job.batch, 'dest', job.dest, 'key', job.key, 'valid', job.valid, 'active', job.active,
        'record', job.record, 'body', job.body, 'digest', job.digest, 'outcome', job.outcome)
    for _, number in ipairs(unit.numbers) do
        zadd(base .. ':number:' .. number, 0, id)
    end
    if job.batch ~= '' then
        zadd(batch_base(job.batch) .. ':ids', 0, id)
    end
    if job.key ~= '' then
        redis.call('HSET', base .. ':keys', job.key, id)
        redis.call('HDEL', base .. ':tombstones', job.key)
        zrem(base .. ':tombstones:until', job.key)
    end
    enter(id, job)
    return job.batch
end

-- The next version of a job. Its batch and number stay as they are, and but for an edit its priority and validity.
local function move(unit)
    local id, job, head = unit.id, unit.job, head_of(unit.id)
    leave(id, head)
    head.state, head.due, head.active, head.worker = job.state, job.due, job.active, job.worker
    if job.prio then
        head.prio, head.valid = job.prio, job.valid
        redis.call('HSET', job_key(id), 'prio', job.prio, 'valid', job.valid, 'body', job.body)
    end
    enter(id, head)
    redis.call('HSET', job_key(id), 'rev', unit.new, 'state', job.state, 'due', job.due, 'worker', job.worker,
        'active', job.active, 'record', job.record, 'outcome', job.outcome)
    return head.batch
end

local function delete(unit)
    local id, head = unit.id, head_of(unit.id)
    leave(id, head)
    for _, number in ipairs(unit.numbers) do
        zrem(base .. ':number:' .. number, id)
    end
    if head.key ~= '' then
        redis.call('HDEL', base .. ':keys', head.key)
        if unit.tombstone ~= '' then
            redis.call('HSET', base .. ':tombstones', head.key, unit.keep_until .. '|' .. unit.tombstone)
            zadd(base .. ':tombstones:until', unit.keep_until, head.key)
        end
    end
    redis.call('DEL', job_key(id))
    if head.batch ~= '' then
        zrem(batch_base(head.batch) .. ':ids', id)
        for field, amount in pairs(unit.tally) do
            add(batch_base(head.batch) .. ':pruned', field, -amount)
        end
    end
    return head.batch
end

local changes = {insert = insert, move = move, delete = delete}

local function change(unit)
    switch(unit.queue)
    local batch = changes[unit.kind](unit)
    for field, amount in pairs(unit.tally) do
        count(batch, field, amount)
    end
    if unit.kind == 'delete' and batch ~= '' and redis.call('EXISTS', batch_base(batch) .. ':ids') == 0 then
        settle_queue(now)
        redis.call('DEL', batch_base(batch) .. ':totals', batch_base(batch) .. ':pruned')
    end
end

-- The next lease looks again at a batch whose gate has changed, or one of whose starts has ended.
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
local function allot(slot)
    local after, latest = tonumber(slot.after), tonumber(slot.latest)
    local rate, burst = limits_at(slot.queue, now)
    if rate == '-' then
        return slot.after, slot.after
    end
    local key = base_of(slot.queue) .. ':pace'
    local pace = redis.call('HMGET', key, 'tat', 'last', 'at')
    local tat, last, at = tonumber(pace[1] or '0'), pace[2] or '0', rate .. ' ' .. burst
    local interval = 1.0 / tonumber(rate)
    local tolerance, kept = (tonumber(burst) - 1) * interval, tat
    if pace[3] ~= at then
        -- A queue whose rate changes from one call an hour to ten a second must not wait for the rest of the hour.
        tat = math.min(tat, tonumber(last) + tonumber(burst) / tonumber(rate))
    end
    -- If the pace is further ahead than slots can bring it, a clock was set back.
    local furthest = latest + tonumber(burst) * interval
    if tat > furthest + 10.0 then
        tat = furthest
    end
    local found = math.max(after, tat - tolerance)
    local next_at, is_free = found, found <= latest
    if is_free then
        -- 17 digits restore a double exactly.
        last = string.format('%.17g', found)
        tat = math.max(tat, found) + interval
        next_at = math.max(after, tat - tolerance)
    end
    if tat ~= kept or pace[3] ~= at then
        redis.call('HSET', key, 'tat', string.format('%.17g', tat), 'last', last, 'at', at)
    end
    return is_free and last or nil, string.format('%.17g', next_at)
end

local function write(unit)
    if unit.kind ~= '' then
        change(unit)
    end
    for _, put in ipairs(unit.puts) do
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
    for _, drop in ipairs(unit.drops) do
        local value = standing(drop[1], drop[2], drop[3])
        if value and (drop[4] == '' or drop[4] == '=' .. value) then
            forget_record(drop[1], drop[2], drop[3])
            look_again(drop[1], drop[2], drop[3])
        end
    end
    for _, event in ipairs(unit.events) do
        local of = base_of(unit.queue)
        local sequence = redis.call('INCRBY', of .. ':sequence', 1)
        zadd(of .. ':events', sequence, sequence .. '|' .. event[2])
        zadd(of .. ':events:at', event[1], sequence)
    end
    if unit.wakes ~= '' then
        wake(unit.wakes)
    end
end

-- Whether the store was not rolled back: it is the same process, and has the record that it certainly had.
local function is_verified(guard)
    local is_same = guard.server == '' or guard.server == string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
    return is_same and not checks.same(guard.known)
end

-- Whether the answer to one unit refuses the others of its step too: not if the owner of its key has the same body.
local function refuses_all(unit, answer)
    if not answer or answer[1] == 'done' then
        return false
    end
    local digest = answer[3]
    if answer[1] == 'exists' and answer[5] ~= '' then
        digest = string.match(answer[5], '^[^|]*|[^|]*|([^|]*)|')
    end
    return answer[1] ~= 'exists' or digest ~= unit.job.digest
end

local answers = {}
if asked.guard and not is_verified(asked.guard) then
    for place, unit in ipairs(asked.units) do
        answers[place] = was_written(unit) and {'done'} or {'not_verified'}
    end
elseif asked.together then
    local refusals, is_refused = {}, false
    for place, unit in ipairs(asked.units) do
        answers[place] = refused(unit)
        if not answers[place] then
            try(unit)
        end
        refusals[place] = refuses_all(unit, answers[place])
        is_refused = is_refused or refusals[place]
    end
    trial = {records = {}, revisions = {}, keys = {}}
    for place, unit in ipairs(asked.units) do
        if is_refused and not refusals[place] and (not answers[place] or answers[place][1] == 'done') then
            answers[place] = {'rolled_back'}
        elseif not answers[place] then
            write(unit)
        end
    end
else
    for place, unit in ipairs(asked.units) do
        answers[place] = refused(unit)
        if not answers[place] and unit.slot then
            local slot, next_at = allot(unit.slot)
            answers[place] = slot and {'done', slot, next_at} or {'no slot', next_at}
            if slot then
                write(unit)
            end
        elseif not answers[place] then
            write(unit)
        end
    end
end
for place = 1, #asked.units do
    answers[place] = answers[place] or {'done'}
end
settle_queue(now)
if asked_again then
    -- WAITAOF and WAIT wait only for writes of their own connection.
    redis.call('SET', room, '')
end
return packed(answers)
