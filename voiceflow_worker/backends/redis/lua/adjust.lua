-- Adds amounts to fields of live totals.
-- @include queue lanes totals
-- ARGV: for each amount: the key suffix of the hash, the field, the amount.
for place = 1, #ARGV, 3 do
    add(base .. ARGV[place], ARGV[place + 1], tonumber(ARGV[place + 2]))
end
settle_totals()
