-- Reads one page of the jobs of a read (core/ports/reads.py).
-- @include store queue
-- Asked, one of:
--   ids, of any queues;
--   queue, keys (unique keys), now;
--   queue, times (the end of the key of an index of ids by time), latest ('' for none), most (entries to examine),
--     behind ({time, id} of the last entry of the page before, or nothing);
--   queue, ages (the end of the key of an index of ids), is_newest, after (an id or ''), most (rows), looks (most heads to
--     examine); filters: states ('' or ',queued,leased,'), outcomes ('' or '\n=name\n=name\n'); sets (the ends of the keys
--     of the sets of these states, if there are any), few (the most ids of them that are sorted here).
-- Returns {where the next page begins or '' at the end, row, …}; a row with one field is a tombstone.
local answer = {''}

-- Whether a job passes the filters; true for one that is gone.
local function is_wanted(id)
    if (asked.states or '') == '' and (asked.outcomes or '') == '' then
        return true
    end
    local state, outcome = unpack(redis.call('HMGET', job_key(id), 'state', 'outcome'))
    return not state
        or (asked.states == '' or string.find(asked.states, ',' .. state .. ',', 1, true) ~= nil)
        and (asked.outcomes == '' or string.find(asked.outcomes, '\n' .. outcome .. '\n', 1, true) ~= nil)
end

-- Adds a job to the answer if it is wanted. `index` is an index that has the job, from which it goes if the server has
-- dropped the job: the next reader finds what stands behind it.
local function look(id, index)
    local row = is_wanted(id) and row_of(id)
    if row then
        answer[#answer + 1] = row
    elseif row == nil and index then
        redis.call('ZREM', index, id)
    end
end

local function by_time(index)
    local first = 0
    if asked.behind then
        -- The place behind this entry, which may have left: between the first and the last with its time, by halving.
        local time, id = unpack(asked.behind)
        local last = redis.call('ZCOUNT', index, '-inf', time)
        first = redis.call('ZCOUNT', index, '-inf', '(' .. time)
        while first < last do
            local middle = math.floor((first + last) / 2)
            if redis.call('ZRANGE', index, middle, middle)[1] <= id then
                first = middle + 1
            else
                last = middle
            end
        end
    end
    local last = first + asked.most
    if asked.latest ~= '' then
        last = math.min(last, redis.call('ZCOUNT', index, '-inf', asked.latest))
    end
    local found = last > first and redis.call('ZRANGE', index, first, last - 1, 'WITHSCORES') or {}
    for place = 1, #found, 2 do
        look(found[place], index)
    end
    if #found == 2 * asked.most then
        answer[1] = {found[#found], found[#found - 1]}
    end
end

-- Examines ids in their order, until the page is full; `index_of` gives an index of each.
local function examine(ids, index_of, is_all)
    for place, id in ipairs(ids) do
        if #answer > asked.most then
            return
        end
        answer[1] = (place < #ids or not is_all) and id or ''
        look(id, index_of(id))
    end
end

-- The ids in the sets of some states that are behind the last page, if they are few. So rare states cost no walk.
local function by_state()
    local amount = 0
    for _, set in ipairs(asked.sets) do
        amount = amount + redis.call('ZCARD', base .. set)
    end
    if amount > asked.few then
        return false
    end
    local ids, indexes = {}, {}
    for _, set in ipairs(asked.sets) do
        for _, id in ipairs(redis.call('ZRANGE', base .. set, 0, -1)) do
            if asked.after == '' or (id ~= asked.after and (id < asked.after) == asked.is_newest) then
                ids[#ids + 1], indexes[id] = id, base .. set
            end
        end
    end
    table.sort(ids, asked.is_newest and function(one, other)
        return one > other
    end or nil)
    examine(ids, function(id)
        return indexes[id]
    end, true)
    return true
end

local function by_age(index)
    if asked.sets and by_state() then
        return
    end
    local is_filtered = (asked.states or '') ~= '' or (asked.outcomes or '') ~= ''
    local looks = is_filtered and asked.looks or math.min(asked.most, asked.looks)
    local behind, ids = asked.after ~= '' and '(' .. asked.after, nil
    if asked.is_newest then
        ids = redis.call('ZREVRANGEBYLEX', index, behind or '+', '-', 'LIMIT', 0, looks)
    else
        ids = redis.call('ZRANGEBYLEX', index, behind or '-', '+', 'LIMIT', 0, looks)
    end
    examine(ids, function()
        return index
    end, #ids < looks)
end

if asked.ids then
    for _, id in ipairs(asked.ids) do
        base = base_of(string.match(id, '^[^.]*'))
        look(id)
    end
    return packed(answer)
end
base = base_of(asked.queue)
if asked.times then
    by_time(base .. asked.times)
elseif asked.ages then
    by_age(base .. asked.ages)
end
for _, key in ipairs(asked.keys or {}) do
    local id = redis.call('HGET', base .. ':keys', key)
    local tombstone = not id and tombstone_of(base, key, tonumber(asked.now))
    if id then
        look(id)
    elseif tombstone then
        answer[#answer + 1] = {tombstone}
    end
end
return packed(answer)
