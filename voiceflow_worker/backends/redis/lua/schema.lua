-- Writes the schema version of a new store, its id and the history in which it is made, before all else. KEYS: their
-- keys. ARGV: their values, and '1' if a store that is not there is made. Returns the values that the store now has, else
-- nothing.
if ARGV[4] ~= '1' and redis.call('EXISTS', KEYS[1]) == 0 then
    return {}
end
local stored = {}
for i, key in ipairs(KEYS) do
    redis.call('SET', key, ARGV[i], 'NX')
    stored[i] = redis.call('GET', key)
end
return stored
