-- Reads the totals of a queue or of a batch.
-- @include queue
-- ARGV: the key suffix of the live totals, that of the pruned totals or '', then the key suffixes of the states'
-- indexes. Returns {1 if all jobs have their tallies, live pairs, pruned pairs, a count for each state}.
local counts = {}
for place = 3, #ARGV do
    counts[#counts + 1] = redis.call('ZCARD', base .. ARGV[place])
end
return {
    redis.call('EXISTS', base .. ':tallied') == 1 and 1 or 1 - redis.call('EXISTS', base .. ':ids'),
    redis.call('HGETALL', base .. ARGV[1]),
    ARGV[2] == '' and {} or redis.call('HGETALL', base .. ARGV[2]),
    counts,
}
