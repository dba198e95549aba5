-- Deletes some events of a queue that are older than a time.
-- @include queue
-- ARGV: the time, the most events to delete. Returns the number of deleted events.
local sequences = redis.call('ZRANGEBYSCORE', base .. ':events:at', '-inf', '(' .. ARGV[1], 'LIMIT', 0, ARGV[2])
for _, sequence in ipairs(sequences) do
    redis.call('ZREMRANGEBYSCORE', base .. ':events', sequence, sequence)
    redis.call('ZREM', base .. ':events:at', sequence)
end
return #sequences
