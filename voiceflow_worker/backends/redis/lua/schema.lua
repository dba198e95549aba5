-- Marks a new store with the version of its schema. ARGV: version. Answers the version that stands.
-- KEYS[1]: the marker.
redis.call('SETNX', KEYS[1], ARGV[1])
return redis.call('GET', KEYS[1])
