-- Deletes jobs with all their index entries, each only while it has the revision given; its unique key answers on.
-- @include queue lanes indexes orphans
-- ARGV: keep keys until, then per job: id, rev, what its grave says. Answers 1 (deleted) or 0 for each.
local results = {}
for place = 2, #ARGV, 3 do
    local id = ARGV[place]
    local head = head_of(id)
    if not head then
        lose(id)
        results[#results + 1] = 0
    elseif head.rev ~= ARGV[place + 1] then
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
        redis.call('DEL', job_key(id))
        results[#results + 1] = 1
    end
end
settle_lanes()
return results
