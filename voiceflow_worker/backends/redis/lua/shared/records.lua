-- Records of one namespace. All keys begin with KEYS[1], which has the hash tag.
local values, keys, expiries = KEYS[1] .. ':values', KEYS[1] .. ':keys', KEYS[1] .. ':until'

local function standing(key, now)
    return standing_in(values, key, now)
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
