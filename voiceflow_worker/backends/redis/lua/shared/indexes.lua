-- The indexes that follow a job's state. A lane holds the queued jobs of one priority and one batch by due time, so that
-- neither a closed batch nor a later priority is ever read through. `lapsed` keeps queued jobs whose validity has passed
-- out of the lanes until the sweep takes them.
local function batch_base(batch)
    return base .. ':batch:' .. batch
end

local function lane_of(head)
    return head.prio .. head.batch
end

local function into_lane(id, head)
    local lane = lane_of(head)
    redis.call('ZADD', base .. ':lane:' .. lane, head.due, id)
    redis.call('ZADD', base .. ':lanes', head.prio, lane)
end

local function out_of_lane(id, lane)
    redis.call('ZREM', base .. ':lane:' .. lane, id)
    if redis.call('EXISTS', base .. ':lane:' .. lane) == 0 then
        redis.call('ZREM', base .. ':lanes', lane)
    end
end

local function enter(id, head)
    redis.call('ZADD', base .. ':state:' .. head.state, head.due, id)
    if head.batch ~= '' then
        redis.call('ZADD', batch_base(head.batch) .. ':state:' .. head.state, head.due, id)
    end
    if head.state == 'queued' then
        into_lane(id, head)
        if head.valid ~= '' then
            redis.call('ZADD', base .. ':valid', head.valid, id)
        end
    end
    -- Leased jobs are counted by their state: here they would count twice.
    if head.active ~= '' and head.state ~= 'leased' then
        redis.call('ZADD', base .. ':active', head.active, id)
    end
end

local function leave(id, head)
    redis.call('ZREM', base .. ':state:' .. head.state, id)
    if head.batch ~= '' then
        redis.call('ZREM', batch_base(head.batch) .. ':state:' .. head.state, id)
    end
    if head.state == 'queued' then
        out_of_lane(id, lane_of(head))
        if head.valid ~= '' then
            redis.call('ZREM', base .. ':valid', id)
            redis.call('ZREM', base .. ':lapsed', id)
        end
    end
    if head.active ~= '' and head.state ~= 'leased' then
        redis.call('ZREM', base .. ':active', id)
    end
end
