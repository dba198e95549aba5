-- Reads the gates of cancelled batches that have queued jobs.
-- @include queue
-- ARGV: the most gates to read. Returns {gate, text, …}.
-- The most batches that one script examines.
local MOST = 1000
local limit, looks = tonumber(ARGV[1]), 0
local answer = {}
while #answer < 2 * limit and looks < MOST do
    -- Batches that are returned stay in the set, before the batches that are still to be examined.
    local batch = redis.call('ZRANGE', base .. ':cancelling', #answer / 2, #answer / 2)[1]
    if not batch then
        break
    end
    looks = looks + 1
    local gate = redis.call('HGET', base .. ':gates', 'batch' .. batch) or ''
    if string.find(gate, 'cancelled|', 1, true) == 1
        and redis.call('EXISTS', base .. ':batch:' .. batch .. ':state:queued') == 1 then
        answer[#answer + 1] = 'batch' .. batch
        answer[#answer + 1] = gate
    else
        redis.call('ZREM', base .. ':cancelling', batch)
    end
end
return answer
