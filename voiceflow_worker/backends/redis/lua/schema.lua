-- Marks a new store with the version of its schema, and lifts an older one to it. ARGV: version, the oldest that can be
-- lifted. Answers the version that stands. KEYS[1]: the marker. What an older version has laid out otherwise is taken
-- over queue by queue by the scripts that need it (`adopt`).
redis.call('SETNX', KEYS[1], ARGV[1])
local stands = redis.call('GET', KEYS[1])
local version = string.match(stands, '^%d+$') and tonumber(stands)
if version and version >= tonumber(ARGV[2]) and version < tonumber(ARGV[1]) then
    redis.call('SET', KEYS[1], ARGV[1])
    return ARGV[1]
end
return stands
