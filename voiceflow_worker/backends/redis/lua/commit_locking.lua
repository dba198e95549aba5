-- Locks records and makes moves of jobs. A move is made only if all its locks are free, no record forbids it, and the job
-- still has the old revision. Nothing is stored of the other moves.
-- @include packed queue lanes totals indexes wake expiring moves
-- ARGV: now, the expiry of the locks, the beginning of their namespace's keys, the id of the server process or '', the id
-- of a job or '', a text that the record of that job must contain, the number of other namespaces, the beginnings of their
-- keys, then for each move: the value of its locks, their number, their keys, for each other namespace the number of
-- keys that must be absent and these keys, then the move. If the server process is another or the text is absent, makes no
-- move, and returns {} unless a move was made before. Otherwise returns 1 (made, now or before), 0 (the job has another
-- revision) or 2 (not free) for each move.
local now, expiry, locks, process, witness, text, count = take(7)
now = tonumber(now)
local others = {}
for place = 1, tonumber(count) do
    others[place] = take(1) .. ':values'
end
local known = process == '' or string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') == process
if known and witness ~= '' then
    known = string.find(redis.call('HGET', job_key(witness), 'record') or '', text, 1, true) ~= nil
end
-- A full server refuses this command, which changes nothing. It would not refuse the moves, because each first removes an
-- entry of an index.
redis.call('SETRANGE', base .. ':room', 0, '')
local empty = {}
for place, values in ipairs(others) do
    empty[place] = redis.call('EXISTS', values) == 0
end

-- The keys that come next in ARGV, preceded by their number.
local function take_keys()
    local wanted = tonumber(take(1))
    return wanted == 0 and {} or {take(wanted)}
end

local results, any = {}, false
while at <= #ARGV do
    local owner = take(1)
    local wanted, free, later = take_keys(), known, {}
    for _, key in ipairs(wanted) do
        local value, ends = standing_in(locks .. ':values', key, now)
        free = free and (value == nil or value == owner)
        later[key] = value == owner and (tonumber(ends) or math.huge) >= tonumber(expiry)
    end
    for place, values in ipairs(others) do
        local keys = take_keys()
        if not empty[place] then
            for _, key in ipairs(keys) do
                free = free and standing_in(values, key, now) == nil
            end
        end
    end
    local result = make_move(free)
    if result == 1 and free then
        for _, key in ipairs(wanted) do
            if not later[key] then
                redis.call('HSET', locks .. ':values', key, expiry .. '|' .. owner)
                redis.call('ZADD', locks .. ':keys', 0, key)
                redis.call('ZADD', locks .. ':until', expiry, key)
            end
        end
    end
    results[#results + 1] = result
    any = any or result == 1
end
end_moves()
-- The known POST may be missing if a move was made before and its answer was lost: the results are then returned.
return (known or any) and results or {}
