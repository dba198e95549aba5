-- Writes the schema version and the id of a new store, before all else. KEYS: the keys of both. ARGV: the version, an
-- id, and '1' if a store that is not there is made. Returns the version and the id that the store now has, else nothing.
if ARGV[3] ~= '1' and redis.call('EXISTS', KEYS[1]) == 0 then
    return {}
end
redis.call('SET', KEYS[1], ARGV[1], 'NX')
redis.call('SET', KEYS[2], ARGV[2], 'NX')
return {redis.call('GET', KEYS[1]), redis.call('GET', KEYS[2])}
