-- Deletes records; where a value is given, only if it is the one that stands.
-- @include records
-- ARGV: key, value as '' or '=' .. value, …
for place = 1, #ARGV, 2 do
    local kept = redis.call('HGET', values, ARGV[place])
    local wanted = ARGV[place + 1]
    if kept and (wanted == '' or '=' .. string.sub(kept, string.find(kept, '|', 1, true) + 1) == wanted) then
        drop(ARGV[place])
    end
end
