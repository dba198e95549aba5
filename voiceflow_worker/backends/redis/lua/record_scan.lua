-- Reads some records, in the order of their keys.
-- @include expiring records
-- ARGV: now, the first and the last key of the range, the most records to return, the most records to examine.
-- Returns {the last key examined, or '' at the end, key, value, …}.
local now, wanted, looks = tonumber(ARGV[1]), tonumber(ARGV[4]), tonumber(ARGV[5])
local found = redis.call('ZRANGEBYLEX', keys, ARGV[2], ARGV[3], 'LIMIT', 0, looks)
local answer = {#found == looks and found[looks] or ''}
for _, key in ipairs(found) do
    if #answer >= 1 + 2 * wanted then
        answer[1] = ''
        break
    end
    local value = standing(key, now)
    if value then
        answer[#answer + 1] = key
        answer[#answer + 1] = value
    end
end
return answer
