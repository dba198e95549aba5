-- Reads the counters of batches of a queue, and of the queue itself.
-- @include store queue
-- Asked: queue, batches ('' for the queue). Returns {field, amount, …} for each.
base = base_of(asked.queue)
local answers = {}
for position, batch in ipairs(asked.batches) do
    local of = batch == '' and base or batch_base(batch)
    answers[position] = redis.call('HGETALL', of .. ':totals')
end
return packed(answers)
