-- Reads matching jobs in order of their due time, then id.
-- @include queue filter
-- ARGV: six filters, limit or '', whether the indexes alone decide ('1'), then the keys of the states' indexes (behind
-- KEYS[1]). Answers rows.
local limit = tonumber(ARGV[7]) or math.huge
local latest = ARGV[5] == '' and '+inf' or ARGV[5]
local found = {}
for place = 9, #ARGV do
    local ids
    if ARGV[8] == '1' and limit < math.huge then
        ids = redis.call('ZRANGEBYSCORE', base .. ARGV[place], '-inf', latest, 'WITHSCORES', 'LIMIT', 0, limit)
    else
        ids = redis.call('ZRANGEBYSCORE', base .. ARGV[place], '-inf', latest, 'WITHSCORES')
    end
    for entry = 1, #ids, 2 do
        found[#found + 1] = {ids[entry], tonumber(ids[entry + 1])}
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
    if head and is_wanted(head) then
        rows[#rows + 1] = row_of(entry[1])
    end
end
return rows
