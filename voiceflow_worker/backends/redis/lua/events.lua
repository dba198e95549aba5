-- Reads events of the outbox, oldest first.
-- @include queue
-- ARGV: behind this sequence, how many. Answers 'sequence|text' for each.
return redis.call('ZRANGEBYSCORE', base .. ':events', ARGV[1], '+inf', 'LIMIT', 0, ARGV[2])
