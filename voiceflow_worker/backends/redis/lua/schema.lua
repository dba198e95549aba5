-- Writes the schema version of a new store. KEYS[1]: the key of the version. ARGV: the version. Returns the version that
-- the store now has.
redis.call('SET', KEYS[1], ARGV[1], 'NX')
return redis.call('GET', KEYS[1])
