-- Drops the events of a queue from before a time, a bounded number of them.
-- @include queue
-- ARGV: before, how many at most. Answers how many.
local sequences = redis.call('ZRANGEBYSCORE', base .. ':events:at', '-inf', '(' .. ARGV[1], 'LIMIT', 0, ARGV[2])
for _, sequence in ipairs(sequences) do
    redis.call('ZREMRANGEBYSCORE', base .. ':events', sequence, sequence)
    redis.call('ZREM', base .. ':events:at', sequence)
end
return #sequences
