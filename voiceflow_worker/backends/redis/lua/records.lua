-- Reads records of several namespaces that stand.
-- @include store
-- ARGV: now, then for each namespace: its name, 'keys', number, keys; or its name, 'page', first key of the range,
-- prefix, most records. Returns a list for each namespace: {key, value, end or '', …}, or false if it would be empty.
local now = tonumber(ARGV[1])
local at, answers = 2, {}
while at <= #ARGV do
    local namespace, kind = ARGV[at], ARGV[at + 1]
    local found, keys, most = {}, {}, math.huge
    if kind == 'keys' then
        for place = at + 3, at + 2 + tonumber(ARGV[at + 2]) do
            keys[#keys + 1] = ARGV[place]
        end
        at = at + 3 + #keys
    else
        -- No text has the byte 0xFF, so it comes after every key with the prefix.
        keys = redis.call('ZRANGEBYLEX', keys_of(namespace), ARGV[at + 2], '(' .. ARGV[at + 3] .. '\255')
        most = tonumber(ARGV[at + 4])
        at = at + 5
    end
    for _, key in ipairs(keys) do
        if #found >= 3 * most then
            break
        end
        local value, ends = record_at(namespace, key, now)
        if value then
            found[#found + 1], found[#found + 2], found[#found + 3] = key, value, ends
        end
    end
    answers[#answers + 1] = #found > 0 and found or false
end
return packed(answers)
