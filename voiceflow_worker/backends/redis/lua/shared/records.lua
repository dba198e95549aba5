-- Records of one namespace. A record is stored as 'expiry|value', with the expiry in microseconds or ''. All keys begin
-- with KEYS[1], which has the hash tag.
local values, keys, expiries = KEYS[1] .. ':values', KEYS[1] .. ':keys', KEYS[1] .. ':until'

-- The value of a record, and its expiry or ''; nil if there is no record or it has expired.
local function standing(key, now)
    local kept = redis.call('HGET', values, key)
    if not kept then
        return nil
    end
    local bar = string.find(kept, '|', 1, true)
    if bar > 1 and tonumber(string.sub(kept, 1, bar - 1)) <= now then
        return nil
    end
    return string.sub(kept, bar + 1), string.sub(kept, 1, bar - 1)
end

local function keep(key, value, expiry)
    redis.call('HSET', values, key, expiry .. '|' .. value)
    redis.call('ZADD', keys, 0, key)
    if expiry == '' then
        redis.call('ZREM', expiries, key)
    else
        redis.call('ZADD', expiries, expiry, key)
    end
end

local function drop(key)
    redis.call('HDEL', values, key)
    redis.call('ZREM', keys, key)
    redis.call('ZREM', expiries, key)
end
