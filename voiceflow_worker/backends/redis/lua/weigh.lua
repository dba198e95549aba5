-- Counts the entries of some indexes, and all jobs.
-- @include queue
-- ARGV: the key suffix of the index of all ids, then the key suffix and the highest score for each other index. Returns
-- {number of all jobs, number of entries}.
local held = 0
for place = 2, #ARGV, 2 do
    held = held + redis.call('ZCOUNT', base .. ARGV[place], '-inf', ARGV[place + 1])
end
return {redis.call('ZCARD', base .. ARGV[1]), held}
