-- Stores records. A record under the same key is replaced.
-- @include packed expiring records
-- ARGV: expiry or '', then key, value, …
for place = 2, #ARGV, 2 do
    keep(ARGV[place], ARGV[place + 1], ARGV[1])
end
