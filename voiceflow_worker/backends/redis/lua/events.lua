-- Reads events of the outbox, oldest first.
-- @include queue
-- ARGV: after which sequence, how many. Returns 'sequence|text' for each event.
return redis.call('ZRANGEBYSCORE', base .. ':events', ARGV[1], '+inf', 'LIMIT', 0, ARGV[2])
