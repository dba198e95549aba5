-- Whether a gate lets nothing pass. A gate is kept as 'state|until|since|reason'; an open one is not kept at all.
-- Answers nil, or when the gate opens by itself: a time, or 'inf' for never.
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
