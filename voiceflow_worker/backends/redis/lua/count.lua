-- Counts jobs by state.
-- @include queue
-- ARGV: due before or '', then the key suffixes of the states' indexes. Returns a count for each state.
local counts = {}
for place = 2, #ARGV do
    if ARGV[1] == '' then
        counts[#counts + 1] = redis.call('ZCARD', base .. ARGV[place])
    else
        counts[#counts + 1] = redis.call('ZCOUNT', base .. ARGV[place], '-inf', ARGV[1])
    end
end
return counts
