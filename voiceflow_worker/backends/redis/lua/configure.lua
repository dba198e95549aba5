-- Sets the limits of a queue, and adapts its pace as backends.departures.repaced does.
-- @include queue wake
-- ARGV: rate or '', burst, max_active or ''.
redis.call('HSET', base .. ':limits', 'rate', ARGV[1], 'burst', ARGV[2], 'max_active', ARGV[3])
if ARGV[1] ~= '' then
    local pace = redis.call('HMGET', base .. ':pace', 'tat', 'last')
    local tat, last = tonumber(pace[1] or '0'), tonumber(pace[2] or '0')
    tat = math.min(tat, last + tonumber(ARGV[2]) / tonumber(ARGV[1]))
    redis.call('HSET', base .. ':pace', 'tat', string.format('%.17g', tat), 'last', string.format('%.17g', last))
end
wake()
