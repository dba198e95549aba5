-- Orphans: index entries of jobs whose keys the server has dropped (by an evicting maxmemory-policy). A script that
-- finds an orphan removes its entries.
local STATES = {
    'queued', 'leased', 'sending', 'submitted', 'in_doubt', 'completed', 'unreached', 'failed', 'expired', 'cancelled',
    'accepted',
}

-- Removes the index entries of a job that was dropped. It changes nothing for a deleted job or an unknown id.
local function lose(id)
    for _, state in ipairs(STATES) do
        redis.call('ZREM', base .. ':state:' .. state, id)
    end
    redis.call('ZREM', base .. ':ids', id)
    redis.call('ZREM', base .. ':valid', id)
    redis.call('ZREM', base .. ':lapsed', id)
    redis.call('ZREM', base .. ':active', id)
end
