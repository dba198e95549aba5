-- Reads a part of an index, in the order of its scores: ids of jobs by time, or events by sequence.
-- @include store queue
-- Asked: queue, index (the end of its key), first and last score, most entries (-1 for all).
return packed(redis.call('ZRANGEBYSCORE', base_of(asked.queue) .. asked.index, asked.first, asked.last,
    'LIMIT', 0, asked.most))
