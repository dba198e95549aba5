-- Returns nil for an open gate, and for a closed gate the time at which it opens by itself, or 'inf' for never. A gate
-- is stored as 'state|until|since|reason'; open gates are not stored.
local function closed_until(field, now)
    local gate = redis.call('HGET', base .. ':gates', field)
    if not gate then
        return nil
    end
    local state, untilled = string.match(gate, '^(%a+)|(%-?%d*)|')
    if state == 'cancelled' or untilled == '' then
        return 'inf'
    end
    return now < tonumber(untilled) and untilled or nil
end
