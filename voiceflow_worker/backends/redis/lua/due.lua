-- Reads matching jobs from some indexes, in the order of their scores and ids.
-- @include queue filter
-- ARGV: seven filters, limit or '', '1' if every entry of the indexes matches, the highest score or '', then the key
-- suffixes of the indexes. Returns rows.
local limit = tonumber(ARGV[8]) or math.huge
local latest = ARGV[10] == '' and '+inf' or ARGV[10]

local found = {}
for place = 11, #ARGV do
    local ids
    if ARGV[9] == '1' and limit < math.huge then
        ids = redis.call('ZRANGEBYSCORE', base .. ARGV[place], '-inf', latest, 'WITHSCORES', 'LIMIT', 0, limit)
    else
        ids = redis.call('ZRANGEBYSCORE', base .. ARGV[place], '-inf', latest, 'WITHSCORES')
    end
    for entry = 1, #ids, 2 do
        found[#found + 1] = {ids[entry], tonumber(ids[entry + 1]), ARGV[place]}
    end
end
table.sort(found, function(one, other)
    return one[2] < other[2] or (one[2] == other[2] and one[1] < other[1])
end)

local rows = {}
for _, entry in ipairs(found) do
    if #rows >= limit then
        break
    end
    local head = head_of(entry[1])
    if not head then -- the server has dropped the job: the next reader finds what stands behind it
        redis.call('ZREM', base .. entry[3], entry[1])
    elseif is_wanted(head) then
        rows[#rows + 1] = row_of(entry[1])
    end
end
return rows
