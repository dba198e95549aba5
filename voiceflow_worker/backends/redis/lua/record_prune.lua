-- Deletes some records that have expired.
-- @include expiring records
-- ARGV: now, the most records to delete. Returns the number of deleted records.
local passed = redis.call('ZRANGEBYSCORE', expiries, '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
for _, key in ipairs(passed) do
    drop(key)
end
return #passed
