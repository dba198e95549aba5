-- Writes units: each is checked as a whole, and then written as a whole, or refused.
-- @include packed queue lanes totals indexes wake expiring
-- ARGV: now, the server's id or '', 1 if the units belong together, 1 if a unit has conditions, the known condition or ''
-- (a condition, see below, whose values are several), then the units. A unit is:
--   kind ('insert', 'move', 'delete' or ''), beginning of its queue's keys, job id, old revision, new revision, unique key
--   or '', number of conditions, conditions; number of puts, puts; number of drops, drops; number of gates and limits, these;
--   number of events, events (time, text); beginning of the keys of the queue to wake or '',
--   number of arguments of its change, arguments.
-- A condition is: 'absent', namespace, owner or '', number of keys, keys; 'most', namespace, owner or '', prefix, most;
--   'same', namespace, key, number of values, values ('' for no record, else '=' and the value), '=' and its own new value
--   or ''; 'gate', namespace, number of keys, keys.
-- A put is: namespace, key, value, expiry or '', mode. A drop is: namespace, key, '' or '=' and the value.
-- Returns {server id, answer, …}; an answer is {'done'}, {'stale'}, {'exists', owner or '', digest, state, grave or ''},
-- {'not free', place of the condition, key, value, expiry}, {'unvetted'} or {'withheld'}.
local at = 1

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

local function switch(to)
    if to ~= base then
        settle_lanes()
        settle_totals()
        base = to
    end
end

local function standing(namespace, key)
    local tried = trial.records[namespace .. '\0' .. key]
    if tried ~= nil then
        return tried and tried[1] or nil, tried and tried[2] or nil
    end
    return standing_in(namespace .. ':values', key, now)
end

local function belongs(value, owner)
    if owner == '' then
        return false
    end
    local holder = string.match(value, '^[^ ]*')
    return holder == owner or string.sub(holder, 1, #owner + 1) == owner .. '.'
end

local function take_list()
    local wanted = tonumber(take(1))
    return wanted == 0 and {} or {take(wanted)}
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
            for _, key in ipairs(redis.call('ZRANGEBYLEX', namespace .. ':keys', '[' .. prefix, '(' .. prefix .. '\255')) do
                count(key)
            end
            for tried, record in pairs(trial.records) do
                local of, key = string.match(tried, '^(.-)%z(.*)$')
                if of == namespace and record and string.sub(key, 1, #prefix) == prefix
                    and not redis.call('ZSCORE', namespace .. ':keys', key) then
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
        local namespace = take(1)
        local keys = take_list()
        return function()
            for _, key in ipairs(keys) do
                local value, ends = standing(namespace, key)
                if value and string.sub(value, 1, 5) ~= 'open ' then
                    return key, value, ends
                end
            end
        end
    end,
}

local function take_unit()
    local unit = {needs = {}, swaps = {}, puts = {}, drops = {}, follows = {}, events = {}}
    unit.kind, unit.base, unit.id, unit.old, unit.new, unit.key = take(6)
    for place = 1, tonumber((take(1))) do
        local check, swapped = checks[take(1)]()
        unit.needs[place] = check
        unit.swaps[#unit.swaps + 1] = swapped
    end
    for place = 1, tonumber((take(1))) do
        unit.puts[place] = {take(5)}
    end
    for place = 1, tonumber((take(1))) do
        unit.drops[place] = {take(3)}
    end
    for place = 1, tonumber((take(1))) do
        unit.follows[place] = {take(5)}
    end
    for place = 1, tonumber((take(1))) do
        unit.events[place] = {take(2)}
    end
    unit.wakes = take(1)
    local count = tonumber((take(1)))
    unit.at = at
    at = at + count
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
    local grave = redis.call('HGET', unit.base .. ':graves', unit.key)
    if grave and now < tonumber(string.match(grave, '^(%-?%d+)|')) then
        return {'exists', '', '', '', grave}
    end
    return nil
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
        -- The digest and the state are among the arguments of `insert`.
        trial.keys[unit.base .. '\0' .. unit.key] = {unit.id, ARGV[unit.at + 13], ARGV[unit.at + 1]}
    end
end

local function insert()
    local id, state, due, rev, worker, prio, batch, dest, key, valid, active, record, body, digest, tally = take(15)
    local head = {
        state = state, due = due, prio = prio, batch = batch, dest = dest, key = key, valid = valid, active = active,
    }
    redis.call('HSET', job_key(id), 'rev', rev, 'state', state, 'due', due, 'worker', worker, 'prio', prio,
        'batch', batch, 'dest', dest, 'key', key, 'valid', valid, 'active', active, 'record', record, 'body', body,
        'digest', digest)
    zadd(base .. ':ids', 0, id)
    zadd(base .. ':dest:' .. dest, 0, id)
    if batch ~= '' then
        zadd(batch_base(batch) .. ':ids', 0, id)
    end
    if key ~= '' then
        redis.call('HSET', base .. ':keys', key, id)
        redis.call('HDEL', base .. ':graves', key)
        redis.call('ZREM', base .. ':graves:until', key)
    end
    enter(id, head)
    change_tally(id, batch, '', tally)
end

-- The next version of a job. Its batch, number, priority and validity stay as they are.
local function move()
    local id, rev, state, due, worker, active, record, tally = take(8)
    local head = head_of(id)
    leave(id, head)
    head.state, head.due, head.active = state, due, active
    enter(id, head)
    redis.call('HSET', job_key(id), 'state', state, 'due', due, 'rev', rev, 'worker', worker, 'active', active,
        'record', record)
    change_tally(id, head.batch, head.tally, tally)
end

local function delete()
    local id, until_, grave = take(3)
    local head = head_of(id)
    leave(id, head)
    redis.call('ZREM', base .. ':ids', id)
    redis.call('ZREM', base .. ':dest:' .. head.dest, id)
    if head.key ~= '' then
        redis.call('HDEL', base .. ':keys', head.key)
        redis.call('HSET', base .. ':graves', head.key, until_ .. '|' .. grave)
        redis.call('ZADD', base .. ':graves:until', until_, head.key)
    end
    add_tally(head.batch, head.tally, -1)
    redis.call('DEL', job_key(id))
    if head.batch ~= '' then
        local pruned = batch_base(head.batch) .. ':pruned'
        redis.call('ZREM', batch_base(head.batch) .. ':ids', id)
        add(pruned, 'state:' .. head.state, 1)
        add_all(pruned, head.tally, 1)
        settle_totals()
        if redis.call('EXISTS', batch_base(head.batch) .. ':ids') == 0 then
            redis.call('DEL', batch_base(head.batch) .. ':totals', pruned)
        end
    end
end

-- Sets the gate or the limits that leases and departure times read.
local function follow(is_limit, queue, first, second, third)
    switch(queue)
    if is_limit == '1' then
        redis.call('HSET', base .. ':limits', 'rate', first, 'burst', second, 'max_active', third)
        if first ~= '' then
            local pace = redis.call('HMGET', base .. ':pace', 'tat', 'last')
            local tat, last = tonumber(pace[1] or '0'), tonumber(pace[2] or '0')
            tat = math.min(tat, last + tonumber(second) / tonumber(first))
            redis.call('HSET', base .. ':pace', 'tat', string.format('%.17g', tat), 'last', string.format('%.17g', last))
        end
        return
    end
    if second == '' then
        redis.call('HDEL', base .. ':gates', first)
    else
        redis.call('HSET', base .. ':gates', first, second)
    end
    if first ~= 'queue' then
        local batch = string.sub(first, 6)
        if redis.call('ZSCORE', base .. ':shelves', batch) then
            redis.call('ZADD', base .. ':shelves', 0, batch)
        end
        if string.find(second, 'cancelled|', 1, true) == 1
            and redis.call('EXISTS', base .. ':batch:' .. batch .. ':state:queued') == 1 then
            redis.call('ZADD', base .. ':cancelling', 0, batch)
        end
    end
end

local function write(unit)
    if unit.kind ~= '' then
        switch(unit.base)
        local kept = at
        at = unit.at
        if unit.kind == 'insert' then
            insert()
        elseif unit.kind == 'move' then
            move()
        else
            delete()
        end
        at = kept
    end
    for _, put in ipairs(unit.puts) do
        local value, ends = after_put(put)
        if value then
            redis.call('HSET', put[1] .. ':values', put[2], ends .. '|' .. value)
            redis.call('ZADD', put[1] .. ':keys', 0, put[2])
            if ends == '' then
                redis.call('ZREM', put[1] .. ':until', put[2])
            else
                redis.call('ZADD', put[1] .. ':until', ends, put[2])
            end
        end
    end
    for _, drop in ipairs(unit.drops) do
        local value = standing(drop[1], drop[2])
        if value and (drop[3] == '' or drop[3] == '=' .. value) then
            redis.call('HDEL', drop[1] .. ':values', drop[2])
            redis.call('ZREM', drop[1] .. ':keys', drop[2])
            redis.call('ZREM', drop[1] .. ':until', drop[2])
        end
    end
    for _, each in ipairs(unit.follows) do
        follow(unpack(each))
    end
    for _, event in ipairs(unit.events) do
        switch(unit.base)
        local sequence = redis.call('INCR', base .. ':sequence')
        redis.call('ZADD', base .. ':events', sequence, sequence .. '|' .. event[2])
        redis.call('ZADD', base .. ':events:at', event[1], sequence)
    end
    if unit.wakes ~= '' then
        switch(unit.wakes)
        wake()
    end
end

-- A full server refuses this command, which changes nothing. It would not refuse the moves of jobs, because each first
-- removes an entry of an index: evidence is stored as long as there is a byte, and nothing new leaves.
local room = base .. ':room'
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
        if answer and answer[1] ~= 'done' and digest ~= ARGV[unit.at + 13] then
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
settle_lanes()
settle_totals()
if asked_again then
    -- WAITAOF and WAIT wait only for writes of their own connection.
    redis.call('SET', room, '')
end
return packed(answers)
