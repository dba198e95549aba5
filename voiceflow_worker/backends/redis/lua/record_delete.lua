-- Deletes records. If a value or an expiry is given, a record is deleted only if it has that value and that expiry.
-- @include packed expiring records
-- ARGV: '' or expiry, then key, '' or '=' .. value, …
for place = 2, #ARGV, 2 do
    local kept = redis.call('HGET', values, ARGV[place])
    local wanted = ARGV[place + 1]
    local bar = kept and string.find(kept, '|', 1, true)
    local ends = kept and (ARGV[1] == '' or string.sub(kept, 1, bar - 1) == ARGV[1])
    if ends and (wanted == '' or '=' .. string.sub(kept, bar + 1) == wanted) then
        drop(ARGV[place])
    end
end
