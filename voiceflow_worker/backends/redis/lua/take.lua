-- Takes departure times at the queue's rate (generic cell rate algorithm), the same as model.gcra.departures does.
-- @include queue
-- ARGV: wanted, now, horizon, in epoch seconds. Answers {} for an unlimited queue, else {next free, time, …}.
local rate, burst = unpack(redis.call('HMGET', base .. ':limits', 'rate', 'burst'))
if not rate or rate == '' then
    return {}
end
local pace = redis.call('HMGET', base .. ':pace', 'tat', 'last')
local tat, last = tonumber(pace[1] or '0'), pace[2] or '0'
local wanted, now, horizon = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local interval = 1.0 / tonumber(rate)
local tolerance = (tonumber(burst) - 1) * interval
-- Further ahead than takers could have brought it: a clock was set back.
local kept, furthest = tat, now + horizon + tonumber(burst) * interval
if tat > furthest + 10.0 then
    tat = furthest
end
local answer = {''}
while #answer <= wanted do
    local departure = math.max(now, tat - tolerance)
    if departure > now + horizon then
        break
    end
    -- 17 digits bring a double back exactly.
    last = string.format('%.17g', departure)
    answer[#answer + 1] = last
    tat = math.max(tat, departure) + interval
end
answer[1] = string.format('%.17g', math.max(now, tat - tolerance))
if tat ~= kept then
    redis.call('HSET', base .. ':pace', 'tat', string.format('%.17g', tat), 'last', last)
end
return answer
