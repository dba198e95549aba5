-- Reads records that have not expired.
-- @include packed expiring records
-- ARGV: now, then keys. Returns a value or false for each key.
local now = tonumber(ARGV[1])
local answers = {}
for place = 2, #ARGV do
    answers[#answers + 1] = standing(ARGV[place], now) or false
end
return answers
