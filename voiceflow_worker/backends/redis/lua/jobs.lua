-- Reads jobs that match some filters.
-- @include store queue
-- Asked: queue, now, limit (-1 for none); filters, '' lets every job pass: states as ',queued,leased,', batch, due, valid
-- (both at the latest), outcomes as '\n=name\n=name\n'; and how jobs are found:
--   ids; or keys (unique keys);
--   or walk (the end of the key of an index of ids), is_newest, after (an id or ''), looks (most entries to examine);
--   or indexes (the ends of their keys), latest score, matches (whether every entry of them matches).
-- Returns {the last id examined or '' at the end, row, …}; a row with one field is a tombstone.
base = base_of(asked.queue)
local limit = asked.limit < 0 and math.huge or asked.limit

local function is_wanted(head)
    return (asked.states == '' or string.find(asked.states, ',' .. head.state .. ',', 1, true) ~= nil)
        and (asked.batch == '' or head.batch == asked.batch)
        and (asked.due == '' or tonumber(head.due) <= tonumber(asked.due))
        and (asked.valid == '' or (head.valid ~= '' and tonumber(head.valid) <= tonumber(asked.valid)))
        and (asked.outcomes == '' or string.find(asked.outcomes, '\n' .. head.outcome .. '\n', 1, true) ~= nil)
end

local answer = {''}

-- Adds a job to the answer if it matches. `index` is an index that has the job, from which it goes if the server has
-- dropped the job: the next reader finds what stands behind it.
local function look(id, index)
    local head = head_of(id)
    if head and is_wanted(head) then
        answer[#answer + 1] = row_of(id)
    elseif not head and index then
        redis.call('ZREM', index, id)
    end
end

local function walk(index)
    local behind, ids = asked.after ~= '' and '(' .. asked.after, nil
    if asked.is_newest then
        ids = redis.call('ZREVRANGEBYLEX', index, behind or '+', '-', 'LIMIT', 0, asked.looks)
    else
        ids = redis.call('ZRANGEBYLEX', index, behind or '-', '+', 'LIMIT', 0, asked.looks)
    end
    for place, id in ipairs(ids) do
        look(id, index)
        if place == asked.looks or #answer > limit then
            answer[1] = id
            return
        end
    end
end

local function by_score()
    local found, most = {}, asked.matches and asked.limit or -1
    for _, index in ipairs(asked.indexes) do
        local ids = redis.call('ZRANGEBYSCORE', base .. index, '-inf', asked.latest, 'WITHSCORES', 'LIMIT', 0, most)
        for place = 1, #ids, 2 do
            found[#found + 1] = {ids[place], tonumber(ids[place + 1]), base .. index}
        end
    end
    table.sort(found, function(one, other)
        return one[2] < other[2] or (one[2] == other[2] and one[1] < other[1])
    end)
    for _, entry in ipairs(found) do
        if #answer > limit then
            return
        end
        look(entry[1], entry[3])
    end
end

if asked.walk then
    walk(base .. asked.walk)
elseif asked.indexes then
    by_score()
end
for _, id in ipairs(asked.ids or {}) do
    look(id)
end
for _, key in ipairs(asked.keys or {}) do
    local id = redis.call('HGET', base .. ':keys', key)
    local grave = not id and grave_of(base, key, tonumber(asked.now))
    if id then
        look(id)
    elseif grave then
        answer[#answer + 1] = {grave}
    end
end
return packed(answer)
