-- Reads the totals of a queue or of a batch.
-- @include queue
-- ARGV: the key suffix of the live totals, that of the pruned totals or '', then the key suffixes of the states'
-- indexes. Returns {live pairs, pruned pairs, a count for each state}.
local counts = {}
for place = 3, #ARGV do
    counts[#counts + 1] = redis.call('ZCARD', base .. ARGV[place])
end
return {
    redis.call('HGETALL', base .. ARGV[1]),
    ARGV[2] == '' and {} or redis.call('HGETALL', base .. ARGV[2]),
    counts,
}
