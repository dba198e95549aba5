-- Drops tombstones of a queue whose time has passed, a bounded number of them.
-- @include queue
-- ARGV: now, how many at most. Answers how many.
local keys = redis.call('ZRANGEBYSCORE', base .. ':graves:until', '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
for _, key in ipairs(keys) do
    redis.call('HDEL', base .. ':graves', key)
    redis.call('ZREM', base .. ':graves:until', key)
end
return #keys
