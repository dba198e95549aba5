-- Counts a change of the queue and wakes its listeners. The stream has one entry with the count as its id, so a listener
-- that was disconnected asks for anything newer than the count it knows, and misses nothing.
local function wake()
    local count = redis.call('INCR', base .. ':changes')
    redis.call('XADD', base .. ':wake', 'MAXLEN', 1, count .. '-0', 'changes', count)
end
