-- Reads records of several namespaces that stand.
-- @include store
-- Asked: now, wanted: for each namespace {namespace, keys: groups and {group, member}} or {namespace, first, last, most},
-- a range of fields. Returns a list for each namespace: {group, member, value, end or '', …}, or false if it would be empty.
local now, answers = tonumber(asked.now), {}

local function read(wanted)
    local namespace, found = wanted.namespace, {}
    local function add(group, member, value, ends)
        local size = #found
        found[size + 1], found[size + 2], found[size + 3], found[size + 4] = group, member, value, ends
    end
    for _, key in ipairs(wanted.keys or {}) do
        if type(key) == 'string' then
            for _, record in ipairs(group_at(namespace, key, now)) do
                add(key, unpack(record))
            end
        else
            local value, ends = record_at(namespace, key[1], key[2], now)
            if value then
                add(key[1], key[2], value, ends)
            end
        end
    end
    local first = wanted.first
    while first and #found < 4 * wanted.most do
        local left = wanted.most - #found / 4
        local fields = redis.call('ZRANGEBYLEX', keys_of(namespace), first, wanted.last, 'LIMIT', 0, left)
        for _, field in ipairs(fields) do
            local group, member = string.match(field, '^(%Z*)%z(%Z*)$')
            local value, ends = record_at(namespace, group, member, now)
            if value then
                add(group, member, value, ends)
            end
        end
        first = #fields == left and '(' .. fields[#fields]
    end
    return found
end

for position, wanted in ipairs(asked.wanted) do
    local found = read(wanted)
    answers[position] = #found > 0 and found or false
end
return packed(answers)
