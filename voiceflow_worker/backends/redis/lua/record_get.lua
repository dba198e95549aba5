-- Reads the records that stand at a time.
-- @include records
-- ARGV: now, then keys. Answers a value, or false, for each.
local now = tonumber(ARGV[1])
local answers = {}
for place = 2, #ARGV do
    answers[#answers + 1] = standing(ARGV[place], now) or false
end
return answers
