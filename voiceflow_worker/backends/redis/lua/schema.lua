-- Writes the schema version of a new store, and raises that of an older store. KEYS[1]: the key of the version. ARGV:
-- the version, the oldest version that can be raised. Returns the version that the store now has. Scripts convert the
-- data of an older version later, queue by queue (`adopt`).
redis.call('SETNX', KEYS[1], ARGV[1])
local stands = redis.call('GET', KEYS[1])
local version = string.match(stands, '^%d+$') and tonumber(stands)
if version and version >= tonumber(ARGV[2]) and version < tonumber(ARGV[1]) then
    redis.call('SET', KEYS[1], ARGV[1])
    return ARGV[1]
end
return stands
