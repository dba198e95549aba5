-- Deletes what is over: events and tombstones of a queue, and records of the whole store.
-- @include store queue
-- ARGV: queue, now, before when events are old, the most entries to delete. Returns their number.
base = base_of(ARGV[1])
local deleted, most = 0, tonumber(ARGV[4])

local function each(index, until_, delete)
    for _, member in ipairs(redis.call('ZRANGEBYSCORE', index, '-inf', until_, 'LIMIT', 0, most - deleted)) do
        delete(member)
        deleted = deleted + 1
    end
end

each(root .. ':ends', ARGV[2], function(member)
    local bar = string.find(member, '\0', 1, true)
    forget_record(string.sub(member, 1, bar - 1), string.sub(member, bar + 1))
end)
each(base .. ':graves:until', ARGV[2], function(key)
    redis.call('HDEL', base .. ':graves', key)
    redis.call('ZREM', base .. ':graves:until', key)
end)
each(base .. ':events:at', '(' .. ARGV[3], function(sequence)
    redis.call('ZREMRANGEBYSCORE', base .. ':events', sequence, sequence)
    redis.call('ZREM', base .. ':events:at', sequence)
end)
return deleted
