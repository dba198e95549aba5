-- Reads the counters of a queue or of a batch, or counts its jobs that are due by a time.
-- @include store queue
-- ARGV: queue, batch or '', due by or '', the states. Returns {{field, amount, …}, {field, amount of deleted jobs, …}}.
base = base_of(ARGV[1])
local of = ARGV[2] == '' and base or base .. ':batch:' .. ARGV[2]
if ARGV[3] == '' then
    return packed({redis.call('HGETALL', of .. ':totals'), redis.call('HGETALL', of .. ':pruned')})
end
local counts = {}
for place = 4, #ARGV do
    counts[#counts + 1] = 'state:' .. ARGV[place]
    counts[#counts + 1] = redis.call('ZCOUNT', of .. ':state:' .. ARGV[place], '-inf', ARGV[3])
end
return packed({counts, {}})
