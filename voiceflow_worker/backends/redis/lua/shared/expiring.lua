-- The value of a record in the hash `values`, and its expiry or ''; nil if there is no record or it has expired. A record
-- is stored as 'expiry|value', with the expiry in microseconds or ''.
local function standing_in(values, key, now)
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
