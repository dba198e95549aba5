-- Counts jobs by state.
-- @include queue
-- ARGV: due before or '', then the keys of the states' indexes (behind KEYS[1]). Answers a count for each.
local counts = {}
for place = 2, #ARGV do
    if ARGV[1] == '' then
        counts[#counts + 1] = redis.call('ZCARD', base .. ARGV[place])
    else
        counts[#counts + 1] = redis.call('ZCOUNT', base .. ARGV[place], '-inf', ARGV[1])
    end
end
return counts
