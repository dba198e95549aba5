-- Writes units: each is checked as a whole, and then written as a whole, or refused.
-- @include store queue lanes
-- ARGV: now, the server's id or '', 1 if the units belong together, 1 if a unit has conditions, the known condition or ''
-- (a condition, see below, whose values are several), then the units. Each list begins with its number of entries.
--   A unit is: kind ('insert', 'move', 'delete' or ''), queue of its change or events, job id, old revision, new revision,
--   unique key or '', conditions, puts, drops, events (time, text), queue to wake or '', tally (field, amount), arguments of
--   its change.
--   A condition is: 'absent', namespace, owner or '', keys; 'most', namespace, owner or '', prefix, most; 'same',
--   namespace, key, values ('' for no record, else '=' and the value), '=' and its own new value or ''; 'gate', keys.
--   A put is: namespace, key, value, end or '', mode. A drop is: namespace, key, '' or '=' and the value.
-- Returns {server id, answer, …}; an answer is {'done'}, {'stale'}, {'exists', owner or '', digest, state, grave or ''},
-- {'not free', place of the condition, key, value, end}, {'unvetted'} or {'withheld'}.
local at = 1
-- Places of the state and of the digest among the arguments of a new job.
local STATE, DIGEST = 1, 13

local function take(count)
    at = at + count
    return unpack(ARGV, at - count, at - 1)
end

local now, server, together = take(3)
now = tonumber(now)
local run_id = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') or ''

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

local function standing(namespace, key)
    local tried = trial.records[namespace .. '\0' .. key]
    if tried ~= nil then
        return tried and tried[1] or nil, tried and tried[2] or nil
    end
    return record_at(namespace, key, now)
end

local function belongs(value, owner)
    if owner == '' then
        return false
    end
    local holder = string.match(value, '^[^ ]*')
    return holder == owner or string.sub(holder, 1, #owner + 1) == owner .. '.'
end

local function take_list()
    local wanted = tonumber((take(1)))
    return wanted == 0 and {} or {take(wanted)}
end

-- A list whose entries have several arguments each.
local function take_each(size)
    local found = {}
    for place = 1, tonumber((take(1))) do
        found[place] = {take(size)}
    end
    return found
end

-- Reads a condition. A condition is a function that returns nil, or the key, value and expiry by which it fails.
local checks = {
    absent = function()
        local namespace, owner = take(2)
        local keys = take_list()
        return function()
            for _, key in ipairs(keys) do
                local value, ends = standing(namespace, key)
                if value and not belongs(value, owner) then
                    return key, value, ends
                end
            end
        end
    end,
    most = function()
        local namespace, owner, prefix, most = take(4)
        return function()
            local found = {}
            local function count(key)
                local value, ends = standing(namespace, key)
                if value and not belongs(value, owner) then
                    found[#found + 1] = {key, value, ends}
                end
            end
            for _, key in ipairs(redis.call('ZRANGEBYLEX', keys_of(namespace), '[' .. prefix, '(' .. prefix .. '\255')) do
                count(key)
            end
            for tried, record in pairs(trial.records) do
                local of, key = string.match(tried, '^(.-)%z(.*)$')
                if of == namespace and record and string.sub(key, 1, #prefix) == prefix
                    and not redis.call('ZSCORE', keys_of(namespace), key) then
                    count(key)
                end
            end
            local over = #found - tonumber(most)
            if over > 0 then
                table.sort(found, function(one, other)
                    return (tonumber(one[3]) or math.huge) < (tonumber(other[3]) or math.huge)
                end)
                return unpack(found[over])
            end
        end
    end,
    same = function()
        local namespace, key = take(2)
        local wanted = take_list()
        local own = take(1)
        return function()
            local value, ends = standing(namespace, key)
            local has = value and '=' .. value or ''
            for _, each in ipairs(wanted) do
                if has == each then
                    return nil
                end
            end
            return key, value or false, ends or ''
        end, function()
            local value = standing(namespace, key)
            return own ~= '' and value ~= nil and '=' .. value == own and own ~= wanted[1]
        end
    end,
    gate = function()
        local keys = take_list()
        return function()
            for _, key in ipairs(keys) do
                local value, ends = standing('gate', key)
                if is_closed(value) then
                    return key, value, ends
                end
            end
        end
    end,
}

local function take_unit()
    local unit = {needs = {}, swaps = {}}
    unit.kind, unit.queue, unit.id, unit.old, unit.new, unit.key = take(6)
    unit.base = base_of(unit.queue)
    for place = 1, tonumber((take(1))) do
        local check, swapped = checks[take(1)]()
        unit.needs[place] = check
        unit.swaps[#unit.swaps + 1] = swapped
    end
    unit.puts, unit.drops, unit.events = take_each(5), take_each(3), take_each(2)
    unit.wakes = take(1)
    unit.tally = take_each(2)
    unit.change = take_list()
    return unit
end

local function revision_of(unit)
    local tried = trial.revisions[unit.id]
    if tried ~= nil then
        return tried
    end
    return redis.call('HGET', unit.base .. ':job:' .. unit.id, 'rev')
end

local function was_written(unit)
    if unit.kind == 'insert' then
        return revision_of(unit) and true
    elseif unit.kind == 'move' then
        return revision_of(unit) == unit.new
    elseif unit.kind == 'delete' then
        return not revision_of(unit)
    end
    for _, swapped in ipairs(unit.swaps) do
        if swapped() then
            return true
        end
    end
    return false
end

local function owner_of_key(unit)
    local tried = trial.keys[unit.base .. '\0' .. unit.key]
    if tried then
        return {'exists', tried[1], tried[2], tried[3], ''}
    end
    local owner = redis.call('HGET', unit.base .. ':keys', unit.key)
    if owner then
        local head = redis.call('HMGET', unit.base .. ':job:' .. owner, 'digest', 'state')
        -- Nobody knows whether a lost job was called.
        return {'exists', owner, head[1] or '', head[2] or 'in_doubt', ''}
    end
    local grave = grave_of(unit.base, unit.key, now)
    return grave and {'exists', '', '', '', grave}
end

-- nil if the unit may be written, else its answer.
local function refused(unit)
    if was_written(unit) then
        asked_again = true
        return {'done'}
    end
    if unit.kind == 'insert' and unit.key ~= '' then
        local owner = owner_of_key(unit)
        if owner then
            return owner
        end
    elseif (unit.kind == 'move' or unit.kind == 'delete') and revision_of(unit) ~= unit.old then
        return {'stale'}
    end
    for place, failed in ipairs(unit.needs) do
        local key, value, ends = failed()
        if key then
            return {'not free', place - 1, key, value, ends}
        end
    end
    return nil
end

-- The value and the expiry of a record after a put, or nil if the put changes nothing.
local function after_put(put)
    local namespace, key, value, ends, mode = unpack(put)
    local was, was_ends = standing(namespace, key)
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
            trial.records[put[1] .. '\0' .. put[2]] = {value, ends}
        end
    end
    for _, drop in ipairs(unit.drops) do
        local value = standing(drop[1], drop[2])
        if value and (drop[3] == '' or drop[3] == '=' .. value) then
            trial.records[drop[1] .. '\0' .. drop[2]] = false
        end
    end
    if unit.kind == 'insert' or unit.kind == 'move' then
        trial.revisions[unit.id] = unit.new
    elseif unit.kind == 'delete' then
        trial.revisions[unit.id] = false
    end
    if unit.kind == 'insert' and unit.key ~= '' then
        trial.keys[unit.base .. '\0' .. unit.key] = {unit.id, unit.change[DIGEST], unit.change[STATE]}
    end
end

local function insert(unit)
    local state, due, rev, worker, prio, batch, dest, key, valid, active, record, body, digest, outcome = unpack(unit.change)
    local id = unit.id
    redis.call('HSET', job_key(id), 'rev', rev, 'state', state, 'due', due, 'worker', worker, 'prio', prio,
        'batch', batch, 'dest', dest, 'key', key, 'valid', valid, 'active', active, 'record', record, 'body', body,
        'digest', digest, 'outcome', outcome)
    zadd(base .. ':ids', 0, id)
    zadd(base .. ':dest:' .. dest, 0, id)
    if batch ~= '' then
        zadd(batch_base(batch) .. ':ids', 0, id)
    end
    if key ~= '' then
        redis.call('HSET', base .. ':keys', key, id)
        redis.call('HDEL', base .. ':graves', key)
        zrem(base .. ':graves:until', key)
    end
    enter(id, {state = state, due = due, prio = prio, batch = batch, valid = valid, active = active})
    return batch
end

-- The next version of a job. Its batch, number, priority and validity stay as they are.
local function move(unit)
    local state, due, worker, active, record, outcome = unpack(unit.change)
    local head = head_of(unit.id)
    leave(unit.id, head)
    head.state, head.due, head.active = state, due, active
    enter(unit.id, head)
    redis.call('HSET', job_key(unit.id), 'state', state, 'due', due, 'rev', unit.new, 'worker', worker, 'active', active,
        'record', record, 'outcome', outcome)
    return head.batch
end

local function delete(unit)
    local until_, grave = unpack(unit.change)
    local id, head = unit.id, head_of(unit.id)
    leave(id, head)
    zrem(base .. ':ids', id)
    zrem(base .. ':dest:' .. head.dest, id)
    if head.key ~= '' then
        redis.call('HDEL', base .. ':keys', head.key)
        redis.call('HSET', base .. ':graves', head.key, until_ .. '|' .. grave)
        zadd(base .. ':graves:until', until_, head.key)
    end
    redis.call('DEL', job_key(id))
    if head.batch ~= '' then
        zrem(batch_base(head.batch) .. ':ids', id)
        for _, each in ipairs(unit.tally) do
            add(batch_base(head.batch) .. ':pruned', each[1], -each[2])
        end
    end
    return head.batch
end

local changes = {insert = insert, move = move, delete = delete}

local function change(unit)
    switch(unit.queue)
    local batch = changes[unit.kind](unit)
    for _, each in ipairs(unit.tally) do
        count(batch, each[1], each[2])
    end
    if unit.kind == 'delete' and batch ~= '' and redis.call('EXISTS', batch_base(batch) .. ':ids') == 0 then
        settle_queue(now)
        redis.call('DEL', batch_base(batch) .. ':totals', batch_base(batch) .. ':pruned')
    end
end

-- The next lease looks again at a batch whose gate has changed.
local function look_again(namespace, key)
    local queue, batch = string.match(key, '^(%S+) (.*)$')
    if namespace == 'gate' and queue then
        redis.call('ZADD', base_of(queue) .. ':shelves', 'XX', 0, '=' .. batch)
    end
end

-- Counts a change of the queue and wakes its listeners. The stream has one entry, whose id is the count. A listener
-- that was disconnected asks for an entry newer than the count it knows, so it misses no change.
local function wake(queue)
    local changed = redis.call('INCR', base_of(queue) .. ':changes')
    redis.call('XADD', base_of(queue) .. ':wake', 'MAXLEN', 1, changed .. '-0', 'changes', changed)
end

local function write(unit)
    if unit.kind ~= '' then
        change(unit)
    end
    for _, put in ipairs(unit.puts) do
        local namespace, key = put[1], put[2]
        local value, ends = after_put(put)
        if value then
            redis.call('HSET', records_of(namespace), key, ends .. '|' .. value)
            zadd(keys_of(namespace), 0, key)
            if ends == '' then
                zrem(root .. ':ends', namespace .. NUL .. key)
            else
                zadd(root .. ':ends', ends, namespace .. NUL .. key)
            end
            look_again(namespace, key)
        end
    end
    for _, drop in ipairs(unit.drops) do
        local value = standing(drop[1], drop[2])
        if value and (drop[3] == '' or drop[3] == '=' .. value) then
            forget_record(drop[1], drop[2])
            look_again(drop[1], drop[2])
        end
    end
    for _, event in ipairs(unit.events) do
        local sequence = redis.call('INCR', unit.base .. ':sequence')
        zadd(unit.base .. ':events', sequence, sequence .. '|' .. event[2])
        zadd(unit.base .. ':events:at', event[1], sequence)
    end
    if unit.wakes ~= '' then
        wake(unit.wakes)
    end
end

-- A full server refuses this command, which changes nothing. It would not refuse the moves of jobs, because each first
-- removes an entry of an index: evidence is stored as long as there is a byte, and nothing new leaves.
local room = root .. ':room'
if take(1) == '1' then
    redis.call('SETRANGE', room, 0, '')
end

local vetted = server == '' or server == run_id
if take(1) ~= '' then
    local failed = checks.same()
    vetted = vetted and not failed()
end

local answers = {run_id}
if not vetted then
    while at <= #ARGV do
        answers[#answers + 1] = was_written(take_unit()) and {'done'} or {'unvetted'}
    end
    return packed(answers)
end
if together == '1' then
    local first, units, refuses = at, {}, false
    while at <= #ARGV do
        local unit = take_unit()
        local answer = refused(unit)
        units[#units + 1] = {unit, answer}
        if not answer then
            try(unit)
        end
        local digest = answer and answer[1] == 'exists' and (answer[5] == '' and answer[3] or string.match(answer[5], '^[^|]*|[^|]*|([^|]*)|'))
        if answer and answer[1] ~= 'done' and digest ~= unit.change[DIGEST] then
            units[#units][3], refuses = true, true
        end
    end
    trial = {records = {}, revisions = {}, keys = {}}
    for _, each in ipairs(units) do
        local unit, answer, is_refused = unpack(each, 1, 3)
        if not answer and not refuses then
            write(unit)
        end
        if refuses and not is_refused and (not answer or answer[1] == 'done') then
            answer = {'withheld'}
        end
        answers[#answers + 1] = answer or {'done'}
    end
else
    while at <= #ARGV do
        local unit = take_unit()
        local answer = refused(unit)
        if not answer then
            write(unit)
        end
        answers[#answers + 1] = answer or {'done'}
    end
end
settle_queue(now)
if asked_again then
    -- WAITAOF and WAIT wait only for writes of their own connection.
    redis.call('SET', room, '')
end
return packed(answers)
