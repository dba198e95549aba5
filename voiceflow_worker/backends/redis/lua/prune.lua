-- Deletes what is over: events of a queue, and tombstones and records of the whole store.
-- @include store queue
-- Asked: queue, now, events_before, limit. Returns the number of deleted entries.
base = base_of(asked.queue)
local deleted = 0

local function each(index, until_, delete)
    for _, member in ipairs(redis.call('ZRANGEBYSCORE', index, '-inf', until_, 'LIMIT', 0, asked.limit - deleted)) do
        delete(member)
        deleted = deleted + 1
    end
end

each(root .. ':ends', asked.now, function(member)
    forget_record(string.match(member, '^(%Z*)%z(%Z*)%z(%Z*)$'))
end)
each(root .. ':tombstones:until', asked.now, function(key)
    redis.call('HDEL', root .. ':tombstones', key)
    redis.call('ZREM', root .. ':tombstones:until', key)
end)
each(base .. ':events:at', '(' .. asked.events_before, function(sequence)
    redis.call('ZREMRANGEBYSCORE', base .. ':events', sequence, sequence)
    redis.call('ZREM', base .. ':events:at', sequence)
end)
return packed(deleted)
