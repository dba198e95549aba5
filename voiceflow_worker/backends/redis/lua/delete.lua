-- Deletes jobs with their index entries, and stores tombstones for their unique keys. A job is deleted only if it still
-- has the given revision.
-- @include queue lanes totals indexes
-- ARGV: keep keys until, then for each job: id, rev, tombstone. Returns 1 (deleted) or 0 for each job.
local results = {}
local batches = {}
for place = 2, #ARGV, 3 do
    local id = ARGV[place]
    local head = head_of(id)
    if not head or head.rev ~= ARGV[place + 1] then
        results[#results + 1] = 0
    else
        leave(id, head)
        redis.call('ZREM', base .. ':ids', id)
        redis.call('ZREM', base .. ':dest:' .. head.dest, id)
        if head.batch ~= '' then
            redis.call('ZREM', batch_base(head.batch) .. ':ids', id)
        end
        if head.key ~= '' then
            redis.call('HDEL', base .. ':keys', head.key)
            redis.call('HSET', base .. ':graves', head.key, ARGV[1] .. '|' .. ARGV[place + 2])
            redis.call('ZADD', base .. ':graves:until', ARGV[1], head.key)
        end
        add_tally(head.batch, head.tally, -1)
        if head.batch ~= '' then
            batches[head.batch] = true
            local pruned = batch_base(head.batch) .. ':pruned'
            add(pruned, 'state:' .. head.state, 1)
            add_all(pruned, head.tally, 1)
        end
        redis.call('DEL', job_key(id))
        results[#results + 1] = 1
    end
end
settle_lanes()
settle_totals()
-- With the last job of a batch, its totals are deleted.
for batch in pairs(batches) do
    if redis.call('EXISTS', batch_base(batch) .. ':ids') == 0 then
        redis.call('DEL', batch_base(batch) .. ':totals', batch_base(batch) .. ':pruned')
    end
end
return results
