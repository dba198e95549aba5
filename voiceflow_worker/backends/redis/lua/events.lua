-- Reads events of a queue, the oldest first.
-- @include store queue
-- Asked: queue, after (a sequence), most.
return packed(redis.call('ZRANGEBYSCORE', base_of(asked.queue) .. ':events', '(' .. asked.after, '+inf', 'LIMIT', 0, asked.most))
