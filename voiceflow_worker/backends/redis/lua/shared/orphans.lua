-- Orphans: index entries of jobs whose keys the server has dropped (by an evicting maxmemory-policy). A script that
-- finds an orphan removes the entry and records the loss: `lost` has up to 1000 ids, with the states from the indexes,
-- and `lost:counts` the counts by state. Both are kept for 30 days after the last loss.
local STATES = {
    'queued', 'leased', 'sending', 'submitted', 'in_doubt', 'completed', 'unreached', 'failed', 'expired', 'cancelled',
    'accepted',
}
local LOST_KEPT, LOST_FOR = 1000, 2592000

-- Removes the index entries of a job that was dropped. It changes nothing for a deleted job or an unknown id.
local function lose(id)
    local state
    for _, each in ipairs(STATES) do
        if redis.call('ZREM', base .. ':state:' .. each, id) == 1 then
            state = each
        end
    end
    local listed = redis.call('ZREM', base .. ':ids', id) == 1
    redis.call('ZREM', base .. ':valid', id)
    redis.call('ZREM', base .. ':lapsed', id)
    redis.call('ZREM', base .. ':active', id)
    if state or listed then
        redis.call('HINCRBY', base .. ':lost:counts', state or 'unknown', 1)
        redis.call('EXPIRE', base .. ':lost:counts', LOST_FOR)
        if redis.call('HLEN', base .. ':lost') < LOST_KEPT then
            redis.call('HSET', base .. ':lost', id, state or 'unknown')
        end
        redis.call('EXPIRE', base .. ':lost', LOST_FOR)
    end
end
