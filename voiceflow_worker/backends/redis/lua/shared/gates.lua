-- Whether a gate lets nothing pass. A gate is kept as 'state|until|since|reason'; an open one is not kept at all.
local function is_closed(field, now)
    local gate = redis.call('HGET', base .. ':gates', field)
    if not gate then
        return false
    end
    local state, untilled = string.match(gate, '^(%a+)|(%-?%d*)|')
    return state == 'cancelled' or untilled == '' or now < tonumber(untilled)
end
