-- Reads one page of the jobs of a read (core/ports/reads.py).
-- @include store queue
-- Asked, one of:
--   ids, of any queues;
--   keys (unique keys, of any queues), now;
--   queue, times (the end of the key of an index of ids by time), latest ('' for none), most (entries to examine),
--     behind ({time, id} of the last entry of the page before, or nothing);
--   queue, ages (the end of the key of an index of ids), sets (those of the indexes of states; the fewer ids are taken), is_newest,
--     after (an id or ''), most (rows), checks (most heads to examine); is_filtered, and then states ('' or ',queued,leased,'),
--     outcomes ('' or '\n=name\n=name\n') and batch ('' or '=' .. batch).
-- Returns {where the next page begins or '' at the end, row, …}; a row with one field is a tombstone.
local answer = {''}

-- Whether a job passes the filters; true for one that is gone.
local function is_wanted(id)
    if not asked.is_filtered then
        return true
    end
    local state, outcome, batch = unpack(redis.call('HMGET', job_key(id), 'state', 'outcome', 'batch'))
    return not state
        or (asked.states == '' or string.find(asked.states, ',' .. state .. ',', 1, true) ~= nil)
        and (asked.outcomes == '' or string.find(asked.outcomes, '\n' .. outcome .. '\n', 1, true) ~= nil)
        and (asked.batch == '' or asked.batch == batch)
end

-- Adds a job to the answer if it is wanted. `index` is an index that has the job, from which it goes if the server has
-- dropped the job: the next reader finds what is behind it.
local function check(id, index)
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
        -- The position behind this entry, which may have left: between the first and the last with its time, by halving.
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
    for position = 1, #found, 2 do
        check(found[position], index)
    end
    if #found == 2 * asked.most then
        answer[1] = {found[#found], found[#found - 1]}
    end
end

-- Examines ids in their order, until the page is full; `index_of` gives an index of each.
local function examine(ids, index_of, is_all)
    for position, id in ipairs(ids) do
        if #answer > asked.most then
            return
        end
        answer[1] = (position < #ids or not is_all) and id or ''
        check(id, index_of(id))
    end
end

-- So many ids in an index of ids that are behind the last page.
local function behind(index, amount)
    local position = asked.after ~= '' and '(' .. asked.after
    if asked.is_newest then
        return redis.call('ZREVRANGEBYLEX', index, position or '+', '-', 'LIMIT', 0, amount)
    end
    return redis.call('ZRANGEBYLEX', index, position or '-', '+', 'LIMIT', 0, amount)
end

local function is_before(one, other)
    if asked.is_newest then
        return one > other
    end
    return one < other
end

-- The ids in the indexes of states, merged: as far as the one that ends first goes.
local function by_state(sets)
    local ids, indexes, last = {}, {}, nil
    local share = math.max(math.floor(asked.checks / #sets), 1)
    share = asked.is_filtered and share or math.min(share, asked.most)
    for _, set in ipairs(sets) do
        local found = behind(set, share)
        for _, id in ipairs(found) do
            ids[#ids + 1], indexes[id] = id, set
        end
        if #found == share and (not last or is_before(found[share], last)) then
            last = found[share]
        end
    end
    table.sort(ids, is_before)
    while last and is_before(last, ids[#ids]) do
        ids[#ids] = nil
    end
    examine(ids, function(id)
        return indexes[id]
    end, not last)
end

local function by_age()
    local sets, amount = {}, 0
    for _, set in ipairs(asked.sets or {}) do
        local size = redis.call('ZCARD', base .. set)
        if size > 0 then
            sets[#sets + 1], amount = base .. set, amount + size
        end
    end
    local index = asked.ages and base .. asked.ages
    if not index or (asked.sets and amount < redis.call('ZCARD', index)) then
        by_state(sets)
        return
    end
    local checks = asked.is_filtered and asked.checks or math.min(asked.most, asked.checks)
    local ids = behind(index, checks)
    examine(ids, function()
        return index
    end, #ids < checks)
end

if asked.ids then
    for _, id in ipairs(asked.ids) do
        base = base_of(string.match(id, '^[^.]*'))
        check(id)
    end
    return packed(answer)
end
for _, key in ipairs(asked.keys or {}) do
    local id = redis.call('HGET', root .. ':keys', key)
    local tombstone = not id and tombstone_of(key, tonumber(asked.now))
    if id then
        base = base_of(string.match(id, '^[^.]*'))
        check(id)
    elseif tombstone then
        answer[#answer + 1] = {tombstone}
    end
end
if asked.keys then
    return packed(answer)
end
base = base_of(asked.queue)
if asked.times then
    by_time(base .. asked.times)
else
    by_age()
end
return packed(answer)
