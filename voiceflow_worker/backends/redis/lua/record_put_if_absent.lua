-- Stores records whose keys are free. A record that already has the same value gets the new expiry, but keeps a later
-- one if this is asked for.
-- @include packed expiring records
-- ARGV: now, expiry or '', 1 to keep a later expiry or 0, then key, value, … Returns the values that the keys now have.
local now, expiry = tonumber(ARGV[1]), tonumber(ARGV[2]) or math.huge
local answers = {}
for place = 4, #ARGV, 2 do
    local value, ends = standing(ARGV[place], now)
    local keeps = value ~= nil and ARGV[3] == '1' and (tonumber(ends) or math.huge) >= expiry
    if value == nil or (value == ARGV[place + 1] and not keeps) then
        value = ARGV[place + 1]
        keep(ARGV[place], value, ARGV[2])
    end
    answers[#answers + 1] = value
end
return answers
