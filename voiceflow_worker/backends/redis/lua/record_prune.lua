-- Drops records whose time has passed, a bounded number of them.
-- @include records
-- ARGV: now, how many at most. Answers how many.
local passed = redis.call('ZRANGEBYSCORE', expiries, '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
for _, key in ipairs(passed) do
    drop(key)
end
return #passed
