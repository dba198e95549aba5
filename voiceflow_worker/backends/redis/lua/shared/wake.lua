-- Counts a change of the queue and wakes its listeners. The stream has one entry, whose id is the count. A listener
-- that was disconnected asks for an entry newer than the count it knows, so it misses no change.
local function wake()
    local count = redis.call('INCR', base .. ':changes')
    redis.call('XADD', base .. ':wake', 'MAXLEN', 1, count .. '-0', 'changes', count)
end
