-- Stores records whose keys are free, or whose present record ends earlier.
-- @include packed expiring records
-- ARGV: now, expiry or '', then key, value, … Returns the values that the keys now have.
local now, expiry = tonumber(ARGV[1]), tonumber(ARGV[2]) or math.huge
local answers = {}
for place = 3, #ARGV, 2 do
    local value, ends = standing(ARGV[place], now)
    if value == nil or (tonumber(ends) or math.huge) < expiry then
        value = ARGV[place + 1]
        keep(ARGV[place], value, ARGV[2])
    end
    answers[#answers + 1] = value
end
return answers
