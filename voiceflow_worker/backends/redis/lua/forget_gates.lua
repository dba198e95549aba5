-- Deletes gates of batches without jobs. A gate is deleted only if it still has the given text.
-- @include queue
-- ARGV: gate, text, …. Returns the number of deleted gates.
local dropped = 0
for place = 1, #ARGV, 2 do
    local batch = string.sub(ARGV[place], 6)
    if redis.call('HGET', base .. ':gates', ARGV[place]) == ARGV[place + 1]
        and redis.call('EXISTS', base .. ':batch:' .. batch .. ':ids') == 0 then
        redis.call('HDEL', base .. ':gates', ARGV[place])
        redis.call('ZREM', base .. ':cancelling', batch)
        redis.call('ZREM', base .. ':shelves', batch)
        dropped = dropped + 1
    end
end
return dropped
