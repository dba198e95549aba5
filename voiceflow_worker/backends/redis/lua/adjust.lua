-- Adds amounts to fields of live totals.
-- @include queue lanes totals
-- ARGV: per amount: the hash (behind KEYS[1]), the field, the amount.
for place = 1, #ARGV, 3 do
    add(base .. ARGV[place], ARGV[place + 1], tonumber(ARGV[place + 2]))
end
settle_totals()
