-- The indexes that depend on the state of a job. `lapsed` has the queued jobs whose validity has ended: they are in no
-- lane, and wait for the sweep.
local function lane_of(head)
    return head.prio .. head.batch
end

local function zadd(key, score, id)
    redis.call('ZADD', key, score, id)
end

local function into_lane(id, head)
    local lane = lane_of(head)
    touch(lane)
    zadd(base .. ':lane:' .. lane, head.due, id)
end

local function out_of_lane(id, head)
    local lane = lane_of(head)
    touch(lane)
    redis.call('ZREM', base .. ':lane:' .. lane, id)
end

local function enter(id, head)
    zadd(base .. ':state:' .. head.state, head.due, id)
    if head.batch ~= '' then
        zadd(batch_base(head.batch) .. ':state:' .. head.state, head.due, id)
    end
    if head.state == 'queued' then
        into_lane(id, head)
        if head.valid ~= '' then
            zadd(base .. ':valid', head.valid, id)
        end
    end
    -- Leased jobs are left out, because open calls are the jobs in `active` plus the leased jobs.
    if head.active ~= '' and head.state ~= 'leased' then
        zadd(base .. ':active', head.active, id)
    end
end

-- `laneless`: the caller has taken the job out of its lane.
local function leave(id, head, laneless)
    redis.call('ZREM', base .. ':state:' .. head.state, id)
    if head.batch ~= '' then
        redis.call('ZREM', batch_base(head.batch) .. ':state:' .. head.state, id)
    end
    if head.state == 'queued' then
        if not laneless then
            out_of_lane(id, head)
        end
        if head.valid ~= '' then
            redis.call('ZREM', base .. ':valid', id)
            redis.call('ZREM', base .. ':lapsed', id)
        end
    end
    if head.active ~= '' and head.state ~= 'leased' then
        redis.call('ZREM', base .. ':active', id)
    end
end
