-- Counts the jobs in an index by time that are due by a time.
-- @include store queue
-- Asked: queue, times (the end of the key of the index), by ('' for any time).
return packed(redis.call('ZCOUNT', base_of(asked.queue) .. asked.times, '-inf', asked.by == '' and '+inf' or asked.by))
