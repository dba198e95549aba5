-- Deletes gates of batches without jobs, and their records. A gate is deleted only if it still has the given text.
-- @include queue
-- ARGV: beginning of the keys of the records; then gate, text, key of its record, …. Returns the number of deleted gates.
local dropped = 0
for place = 2, #ARGV, 3 do
    local batch = string.sub(ARGV[place], 6)
    if redis.call('HGET', base .. ':gates', ARGV[place]) == ARGV[place + 1]
        and redis.call('EXISTS', base .. ':batch:' .. batch .. ':ids') == 0 then
        redis.call('HDEL', base .. ':gates', ARGV[place])
        redis.call('ZREM', base .. ':cancelling', batch)
        redis.call('ZREM', base .. ':shelves', batch)
        redis.call('HDEL', ARGV[1] .. ':values', ARGV[place + 2])
        redis.call('ZREM', ARGV[1] .. ':keys', ARGV[place + 2])
        redis.call('ZREM', ARGV[1] .. ':until', ARGV[place + 2])
        dropped = dropped + 1
    end
end
return dropped
