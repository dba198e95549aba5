-- Reads the counters of batches of a queue, and of the queue itself.
-- @include store queue
-- Asked: queue, batches ('' for the queue). Returns {{field, amount, …}, {field, amount of deleted jobs, …}} for each.
base = base_of(asked.queue)
local answers = {}
for position, batch in ipairs(asked.batches) do
    local of = batch == '' and base or batch_base(batch)
    answers[position] = {redis.call('HGETALL', of .. ':totals'), redis.call('HGETALL', of .. ':pruned')}
end
return packed(answers)
