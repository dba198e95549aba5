-- Reads records in order of their keys, looking at a bounded number of them.
-- @include records
-- ARGV: now, the lexicographical range from and to, how many to find, how many to look at.
-- Answers {the last key looked at, or '' at the end, key, value, …}.
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
