-- Writes the schema version of a new store, its id and the history in which it is made, before all else, and the history of its
-- server each time that another has taken over: a restart of that one forgets it. KEYS: the keys of the schema, of the id, of
-- the history in which the store was made, and of its history now. ARGV: the schema, an id, the history that the server names
-- (zeros for none), and '1' if a store that is not there is made. Returns the values that the store now has, else nothing; of a
-- store of another schema, which stays as it is, the schema alone.
-- Before that, each command of the scripts is tried in a form that changes nothing: a script that is refused one in its middle
-- leaves its first half written. Redis 7.0 and newer only checks the rights; an older one runs the command.
local root = string.sub(KEYS[1], 1, -#':schema' - 1)

local function may(...)
    if redis.acl_check_cmd then
        return redis.acl_check_cmd(...)
    end
    local answer = redis.pcall(...)
    return not (type(answer) == 'table' and answer.err and string.find(answer.err, "user executing the script can't", 1, true))
end

local some = root .. ':queue:'
for _, form in ipairs({
    {'GET', some}, {'HGET', some, '-'}, {'HMGET', some, '-'}, {'HSET', some, '-', '-', '-'}, {'HDEL', some, '-'},
    {'HINCRBY', some, '-', 'x'}, {'INCRBY', some, 'x'}, {'DEL', some}, {'EXISTS', some}, {'SET', some, '', 'NX', 'XX'},
    {'SETRANGE', some, 0, ''}, {'XADD', some, 'NOMKSTREAM', 'MAXLEN', 1, '1-0', '-', '-'},
    {'ZADD', some, 'XX', 0, '-'}, {'ZREM', some, '-'}, {'ZCARD', some}, {'ZCOUNT', some, 0, 0},
    {'ZRANGE', some, 0, 0}, {'ZREVRANGE', some, 0, 0}, {'ZRANGEBYSCORE', some, 0, 0}, {'ZRANGEBYLEX', some, '-', '+'},
    {'ZREVRANGEBYLEX', some, '+', '-'}, {'HGETALL', some}, {'XREAD', 'STREAMS', some, '0'},
    {'ZREMRANGEBYSCORE', some, 0, 0}, {'TIME'},
    {'SET', root .. ':room', '', 'NX', 'XX'}, {'HSET', root .. ':records:', '-', '-', '-'},
    {'ZADD', root .. ':ends', 'XX', 0, '-'}, {'ZADD', root .. ':record-keys:', 'XX', 0, '-'},
}) do
    if not may(unpack(form)) then
        return redis.error_reply('NOPERM this user has no permissions to run the ' .. form[1] .. ' command')
    end
end

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
