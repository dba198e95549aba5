-- Counts the jobs of a queue, or of a batch, in one state that are due by a time.
-- @include store queue
-- Asked: queue, batch, state, by.
base = base_of(asked.queue)
local of = asked.batch == '' and base or batch_base(asked.batch)
return packed(redis.call('ZCOUNT', of .. ':state:' .. asked.state, '-inf', asked.by))
