-- Reads jobs that match some filters.
-- @include store queue
-- ARGV: queue, now, states as ',queued,leased,', batch, destination, due before, valid before, outcomes as
-- '\nname\nname\n', the most jobs to return or '', and how jobs are found:
--   'ids', ids; 'keys', unique keys; 'walk', key suffix of an index of ids, 'newest' or '', after which id or '', the most
--   entries to examine; 'due', '1' if every entry matches, the highest score or '', key suffixes of indexes.
-- A filter that is '' lets every job pass. Returns {the last id examined or '' at the end, row, …}; a row with one field
-- is a tombstone.
local now, limit, how = tonumber(ARGV[2]), tonumber(ARGV[9]) or math.huge, ARGV[10]
base = base_of(ARGV[1])

local function is_wanted(head)
    return (ARGV[3] == '' or string.find(ARGV[3], ',' .. head.state .. ',', 1, true) ~= nil)
        and (ARGV[4] == '' or head.batch == ARGV[4])
        and (ARGV[5] == '' or head.dest == ARGV[5])
        and (ARGV[6] == '' or tonumber(head.due) <= tonumber(ARGV[6]))
        and (ARGV[7] == '' or (head.valid ~= '' and tonumber(head.valid) <= tonumber(ARGV[7])))
        and (ARGV[8] == '' or string.find(ARGV[8], '\n' .. head.outcome .. '\n', 1, true) ~= nil)
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

local function by_score(indexes_from)
    local found, last = {}, ARGV[12] == '' and '+inf' or ARGV[12]
    for place = indexes_from, #ARGV do
        local most = ARGV[11] == '1' and limit < math.huge and limit or -1
        local ids = redis.call('ZRANGEBYSCORE', base .. ARGV[place], '-inf', last, 'WITHSCORES', 'LIMIT', 0, most)
        for entry = 1, #ids, 2 do
            found[#found + 1] = {ids[entry], tonumber(ids[entry + 1]), base .. ARGV[place]}
        end
    end
    table.sort(found, function(one, other)
        return one[2] < other[2] or (one[2] == other[2] and one[1] < other[1])
    end)
    return found
end

if how == 'ids' then
    for place = 11, #ARGV do
        look(ARGV[place])
    end
elseif how == 'keys' then
    for place = 11, #ARGV do
        local id = redis.call('HGET', base .. ':keys', ARGV[place])
        local grave = not id and grave_of(base, ARGV[place], now)
        if id then
            look(id)
        elseif grave then
            answer[#answer + 1] = {grave}
        end
    end
elseif how == 'walk' then
    local index, behind, looks = base .. ARGV[11], ARGV[13] ~= '' and '(' .. ARGV[13], tonumber(ARGV[14])
    local ids
    if ARGV[12] == 'newest' then
        ids = redis.call('ZREVRANGEBYLEX', index, behind or '+', '-', 'LIMIT', 0, looks)
    else
        ids = redis.call('ZRANGEBYLEX', index, behind or '-', '+', 'LIMIT', 0, looks)
    end
    for place, id in ipairs(ids) do
        look(id, index)
        if place == looks or #answer > limit then
            answer[1] = id
            break
        end
    end
else
    for _, entry in ipairs(by_score(13)) do
        if #answer > limit then
            break
        end
        look(entry[1], entry[3])
    end
end
return packed(answer)
