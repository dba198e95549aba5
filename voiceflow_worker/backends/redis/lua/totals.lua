-- Reads the counters of a queue or of a batch, or counts its jobs that are due by a time.
-- @include store queue
-- Asked: queue, batch, due_before, states. Returns {{field, amount, …}, {field, amount of deleted jobs, …}}.
base = base_of(asked.queue)
local of = asked.batch == '' and base or batch_base(asked.batch)
if asked.due_before == '' then
    return packed({redis.call('HGETALL', of .. ':totals'), redis.call('HGETALL', of .. ':pruned')})
end
local counts = {}
for _, state in ipairs(asked.states) do
    counts[#counts + 1] = 'state:' .. state
    counts[#counts + 1] = redis.call('ZCOUNT', of .. ':state:' .. state, '-inf', asked.due_before)
end
return packed({counts, {}})
