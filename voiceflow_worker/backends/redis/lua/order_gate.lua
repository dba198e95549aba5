-- Replaces the text of a gate, if it has not changed since the caller read it, and counts a change of the queue.
-- @include queue wake
-- ARGV: the gate, its old text ('' for open), its new text ('' for open). Returns 1, or 0 if the gate has changed.
if (redis.call('HGET', base .. ':gates', ARGV[1]) or '') ~= ARGV[2] then
    return 0
end
if ARGV[3] == '' then
    redis.call('HDEL', base .. ':gates', ARGV[1])
else
    redis.call('HSET', base .. ':gates', ARGV[1], ARGV[3])
end
if ARGV[1] ~= 'queue' then
    local batch = string.sub(ARGV[1], 6)
    if redis.call('ZSCORE', base .. ':shelves', batch) then
        redis.call('ZADD', base .. ':shelves', 0, batch)
    end
    if string.find(ARGV[3], 'cancelled|', 1, true) == 1
        and redis.call('EXISTS', base .. ':batch:' .. batch .. ':state:queued') == 1 then
        redis.call('ZADD', base .. ':cancelling', 0, batch)
    end
end
wake()
return 1
