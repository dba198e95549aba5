-- Stores records whose keys are free. Of a record that is there: with mode 'longer', one that ends earlier is replaced;
-- else one that has the same value gets the new expiry, but with mode 'later' it keeps an expiry that is later.
-- @include packed expiring records
-- ARGV: now, expiry or '', mode or '', then key, value, … Returns the values that the keys now have.
local now, expiry, mode = tonumber(ARGV[1]), tonumber(ARGV[2]) or math.huge, ARGV[3]
local answers = {}
for place = 4, #ARGV, 2 do
    local value, ends = standing(ARGV[place], now)
    local is_later = (tonumber(ends) or math.huge) >= expiry
    local is_renewed = value == ARGV[place + 1] and not (mode == 'later' and is_later)
    if mode == 'longer' then
        is_renewed = not is_later
    end
    if value == nil or is_renewed then
        value = ARGV[place + 1]
        keep(ARGV[place], value, ARGV[2])
    end
    answers[#answers + 1] = value
end
return answers
