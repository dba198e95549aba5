-- Counts a change of the queue and wakes who waits: the stream's one entry carries the count as its id, so a reader that
-- was away asks for what is behind the count it knows and misses nothing.
local function wake()
    local count = redis.call('INCR', base .. ':changes')
    redis.call('XADD', base .. ':wake', 'MAXLEN', 1, count .. '-0', 'changes', count)
end
