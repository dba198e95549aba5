-- Takes departure times at the rate of the queue (generic cell rate algorithm), as model.jobs.gcra.departures does.
-- @include queue
-- ARGV: the number of times wanted, now, horizon, in epoch seconds. Returns {} for a queue without a rate, else {next
-- free time, time, …}.
local rate, burst = unpack(redis.call('HMGET', base .. ':limits', 'rate', 'burst'))
if not rate or rate == '' then
    return {}
end
local pace = redis.call('HMGET', base .. ':pace', 'tat', 'last')
local tat, last = tonumber(pace[1] or '0'), pace[2] or '0'
local wanted, now, horizon = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local interval = 1.0 / tonumber(rate)
local tolerance = (tonumber(burst) - 1) * interval
-- If the pace is further ahead than departures can bring it, a clock was set back.
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
    -- 17 digits restore a double exactly.
    last = string.format('%.17g', departure)
    answer[#answer + 1] = last
    tat = math.max(tat, departure) + interval
end
answer[1] = string.format('%.17g', math.max(now, tat - tolerance))
if tat ~= kept then
    redis.call('HSET', base .. ':pace', 'tat', string.format('%.17g', tat), 'last', last)
end
return answer
