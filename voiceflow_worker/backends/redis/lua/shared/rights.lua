-- A script that is refused a command in its middle leaves its first half written, and the rights of a user may be taken
-- away at any time. So a script that writes several times first tries each of its commands, in a form that changes
-- nothing. Redis 7.0 and newer only checks the rights; an older one runs the command.
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
