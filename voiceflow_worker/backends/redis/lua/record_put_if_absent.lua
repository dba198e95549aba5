-- Stores records whose keys are free. A record that has the same value gets the new expiry.
-- @include packed expiring records
-- ARGV: now, expiry or '', then key, value, … Returns the values that the keys now have.
local now = tonumber(ARGV[1])
local answers = {}
for place = 3, #ARGV, 2 do
    local value = standing(ARGV[place], now)
    if value == nil or value == ARGV[place + 1] then
        value = ARGV[place + 1]
        keep(ARGV[place], value, ARGV[2])
    end
    answers[#answers + 1] = value
end
return answers
