-- Deletes some tombstones of a queue that have expired.
-- @include queue
-- ARGV: now, the most tombstones to delete. Returns the number of deleted tombstones.
local keys = redis.call('ZRANGEBYSCORE', base .. ':graves:until', '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
for _, key in ipairs(keys) do
    redis.call('HDEL', base .. ':graves', key)
    redis.call('ZREM', base .. ':graves:until', key)
end
return #keys
