-- Writes the schema version of a new store, its id and the history in which it is made, before all else, and the history of its
-- server each time that another has taken over: a restart of that one forgets it. KEYS: the keys of the schema, of the id, of
-- the history in which the store was made, and of its history now. ARGV: the schema, an id, the history that the server names
-- (zeros for none), and '1' if a store that is not there is made. Returns the values that the store now has, else nothing; of a
-- store of another schema, which stays as it is, the schema alone.
if ARGV[4] ~= '1' and redis.call('EXISTS', KEYS[1]) == 0 then
    return {}
end
local schema = redis.call('GET', KEYS[1])
if schema and schema ~= ARGV[1] then
    return {schema}
end
local stored = {}
for i, key in ipairs(KEYS) do
    stored[i] = redis.call('GET', key)
    if not stored[i] then -- a full server refuses each SET, and what it has can still be read
        stored[i] = ARGV[math.min(i, 3)]
        redis.call('SET', key, stored[i])
    end
end
if string.find(ARGV[3], '[^0]') and stored[4] ~= ARGV[3] then
    redis.call('SET', KEYS[4], ARGV[3])
    stored[4] = ARGV[3]
end
return stored
