-- Returns the schema number of the store. With `known`, one that is one less is raised to it first.
-- @include store
local key = root .. ':schema'
if asked.known and tonumber(redis.call('GET', key)) == asked.known - 1 then
    redis.call('SET', key, asked.known)
end
return redis.call('GET', key)
