-- Reads a part of an index, in the order of its scores: ids of jobs by time, or events by sequence.
-- @include store queue
-- ARGV: queue, key suffix of the index, first and last score, the most entries (-1 for all).
return packed(redis.call('ZRANGEBYSCORE', base_of(ARGV[1]) .. ARGV[2], ARGV[3], ARGV[4], 'LIMIT', 0, ARGV[5]))
