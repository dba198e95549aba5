-- Reads the ids of an index up to a score.
-- @include queue
-- ARGV: the key suffix of the index, the highest score. Returns ids.
return redis.call('ZRANGEBYSCORE', base .. ARGV[1], '-inf', ARGV[2])
