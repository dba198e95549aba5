-- The beginning of every script. All keys of a store begin with KEYS[1]. What a script is asked is one JSON object, and its
-- answer is JSON too, which takes both sides less time. Texts in them, such as records
-- and bodies, are not decoded. An optional text is '' or '=' .. text. A time is a text: microseconds since 1970 UTC, or ''.
local root = KEYS[1]
local asked = cjson.decode(ARGV[1])

local function packed(answer)
    return cjson.encode(answer)
end

-- A record is a text 'end|value' in the hash of its namespace, in the field 'group NUL member': no text has NUL. A group
-- whose records have members has their number in the field 'group', so that one command finds the only record of a group.
-- The fields of records are in `record-keys:`, by name, and the records that end in `ends`, as 'namespace NUL field'.
local NUL = '\0'

local function records_of(namespace)
    return root .. ':records:' .. namespace
end

local function keys_of(namespace)
    return root .. ':record-keys:' .. namespace
end

-- Counts the members of a group.
local function count_members(namespace, group, amount)
    if redis.call('HINCRBY', records_of(namespace), group, amount) == 0 then
        redis.call('HDEL', records_of(namespace), group)
    end
end

local function forget_record(namespace, group, member)
    local field = group .. NUL .. member
    if redis.call('HDEL', records_of(namespace), field) == 1 and member ~= '' then
        count_members(namespace, group, -1)
    end
    redis.call('ZREM', keys_of(namespace), field)
    redis.call('ZREM', root .. ':ends', namespace .. NUL .. field)
end

-- The value and the end (or '') of a record as it is kept; nil if there is none, or its end has come.
local function standing_in(kept, now)
    if not kept then
        return nil
    end
    local bar = string.find(kept, '|', 1, true)
    if bar > 1 and tonumber(string.sub(kept, 1, bar - 1)) <= now then
        return nil
    end
    return string.sub(kept, bar + 1), string.sub(kept, 1, bar - 1)
end

local function record_at(namespace, group, member, now)
    return standing_in(redis.call('HGET', records_of(namespace), group .. NUL .. member), now)
end

-- The records of a group that stand, in the order of their members: {member, value, end} of each.
local function group_at(namespace, group, now)
    local found = {}
    local only, has_members = unpack(redis.call('HMGET', records_of(namespace), group .. NUL, group))
    local value, ends = standing_in(only, now)
    if value then
        found[1] = {'', value, ends}
    end
    if has_members then
        local first, last = '(' .. group .. NUL, '(' .. group .. '\1'
        for _, field in ipairs(redis.call('ZRANGEBYLEX', keys_of(namespace), first, last)) do
            local member = string.sub(field, #group + 2)
            value, ends = record_at(namespace, group, member, now)
            if value then
                found[#found + 1] = {member, value, ends}
            end
        end
    end
    return found
end

-- The rate, burst and most open calls of a queue, as texts; '-' is no limit. A record that cannot be read lets no call
-- leave (`limits_from` in core/ports/controls.py).
local function limits_at(queue, now)
    local text = record_at('limit', queue, '', now)
    if text == nil then
        return '-', '1', '-'
    end
    local rate, burst, most = string.match(text, '^(%S+) (%d+) (%S+)$')
    local known = rate and (rate == '-' or (string.match(rate, '^%d[%d.e+-]*$') and (tonumber(rate) or 0) > 0)) and tonumber(burst) > 0
        and (most == '-' or (string.match(most, '^%d+$') and tonumber(most) > 0))
    if not known then
        return '1e-06', '1', '0'
    end
    return rate, burst, most
end

-- Whether the record of a gate says that it is closed (`is_closed` in core/ports/controls.py).
local function is_closed(gate)
    return gate ~= nil and string.sub(gate, 1, 5) ~= 'open '
end
