-- Reads records of several namespaces that stand.
-- @include store
-- Asked: now, wanted: for each namespace {namespace, keys} or {namespace, prefix, first, most}, where `first` begins the
-- range of keys. Returns a list for each namespace: {key, value, end or '', …}, or false if it would be empty.
local now, answers = tonumber(asked.now), {}
for place, wanted in ipairs(asked.wanted) do
    local namespace, keys, most = wanted.namespace, wanted.keys, wanted.most or math.huge
    if not keys then
        -- No text has the byte 0xFF, so it comes after every key with the prefix.
        keys = redis.call('ZRANGEBYLEX', keys_of(namespace), wanted.first, '(' .. wanted.prefix .. '\255')
    end
    local found = {}
    for _, key in ipairs(keys) do
        if #found >= 3 * most then
            break
        end
        local value, ends = record_at(namespace, key, now)
        if value then
            found[#found + 1], found[#found + 2], found[#found + 3] = key, value, ends
        end
    end
    answers[place] = #found > 0 and found or false
end
return packed(answers)
