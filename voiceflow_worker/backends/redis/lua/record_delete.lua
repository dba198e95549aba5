-- Deletes records. If a value is given, its record is deleted only if it has that value.
-- @include packed records
-- ARGV: key, '' or '=' .. value, …
for place = 1, #ARGV, 2 do
    local kept = redis.call('HGET', values, ARGV[place])
    local wanted = ARGV[place + 1]
    if kept and (wanted == '' or '=' .. string.sub(kept, string.find(kept, '|', 1, true) + 1) == wanted) then
        drop(ARGV[place])
    end
end
