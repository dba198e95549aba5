-- Takes send slots at the rate of the queue (generic cell rate algorithm), as model.jobs.gcra.take_slots does.
-- @include store queue
-- Asked: queue, wanted (how many times), now; now and horizon as texts in epoch seconds. Returns {} for a queue without a
-- rate, else {next free time, time, …}.
local now, horizon = tonumber(asked.now_seconds), tonumber(asked.horizon_seconds)
local rate, burst = limits_at(asked.queue, tonumber(asked.now))
if rate == '-' then
    return packed({})
end
base = base_of(asked.queue)
local pace = redis.call('HMGET', base .. ':pace', 'tat', 'last', 'at')
local tat, last, at = tonumber(pace[1] or '0'), pace[2] or '0', rate .. ' ' .. burst
local interval = 1.0 / tonumber(rate)
local tolerance = (tonumber(burst) - 1) * interval
local kept = tat
if pace[3] ~= at then
    -- A queue whose rate changes from one call an hour to ten a second must not wait for the rest of the hour.
    tat = math.min(tat, tonumber(last) + tonumber(burst) / tonumber(rate))
end
-- If the pace is further ahead than slots can bring it, a clock was set back.
local furthest = now + horizon + tonumber(burst) * interval
if tat > furthest + 10.0 then
    tat = furthest
end
local answer = {''}
while #answer <= asked.wanted do
    local slot = math.max(now, tat - tolerance)
    if slot > now + horizon then
        break
    end
    -- 17 digits restore a double exactly.
    last = string.format('%.17g', slot)
    answer[#answer + 1] = last
    tat = math.max(tat, slot) + interval
end
answer[1] = string.format('%.17g', math.max(now, tat - tolerance))
if tat ~= kept or pace[3] ~= at then
    redis.call('HSET', base .. ':pace', 'tat', string.format('%.17g', tat), 'last', last, 'at', at)
end
return packed(answer)
