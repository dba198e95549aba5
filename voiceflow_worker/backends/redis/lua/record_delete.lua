-- Deletes records. If a value is given, a record is deleted only if it has that value.
-- @include packed expiring records
-- ARGV: key, '' or '=' .. value, …
for place = 1, #ARGV, 2 do
    local kept = redis.call('HGET', values, ARGV[place])
    local wanted = ARGV[place + 1]
    local bar = kept and string.find(kept, '|', 1, true)
    if kept and (wanted == '' or '=' .. string.sub(kept, bar + 1) == wanted) then
        drop(ARGV[place])
    end
end
