-- Reads the ids of an index up to a score.
-- @include queue
-- ARGV: the index (behind KEYS[1]), the highest score. Answers ids.
return redis.call('ZRANGEBYSCORE', base .. ARGV[1], '-inf', ARGV[2])
