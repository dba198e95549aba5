-- Lanes. A lane has the queued jobs of one priority and one batch, by due time. `batch:…:lanes` lists the lanes of a
-- batch. `heads:<priority>` has the first job of each lane by due time, as 'id NUL lane'. So jobs with the same due
-- time are in the order of their ids, and no lease reads a lane that is not due. A lease corrects a head that is no
-- longer the first job of its lane. `urgent` has the priorities with a head that was due, `later` the rest, by the
-- time of their first head. `shelves` has closed batches by the time at which they open: a lease removes the heads of
-- their lanes when it finds them. `cancelling` has cancelled batches that may have queued jobs.
local NUL = '\0'
local touched = {}

local function priority_of(lane)
    return string.match(lane, '^%-?%d+')
end

local function batch_of(lane)
    return string.match(lane, '^%-?%d+(.*)$')
end

local function batch_base(batch)
    return base .. ':batch:' .. batch
end

local function first_of(lane)
    return unpack(redis.call('ZRANGE', base .. ':lane:' .. lane, 0, 0, 'WITHSCORES'))
end

local function hide(lane, id)
    redis.call('ZREM', base .. ':heads:' .. priority_of(lane), id .. NUL .. lane)
end

local function show(lane, id, due)
    local priority = priority_of(lane)
    redis.call('ZADD', base .. ':heads:' .. priority, due, id .. NUL .. lane)
    if not redis.call('ZSCORE', base .. ':urgent', priority) then
        redis.call('ZADD', base .. ':later', 'LT', due, priority)
    end
end

local function is_cancelled(batch)
    return string.find(redis.call('HGET', base .. ':gates', 'batch' .. batch) or '', 'cancelled|', 1, true) == 1
end

local function close_lane(lane, batch)
    local priority = priority_of(lane)
    if redis.call('EXISTS', base .. ':heads:' .. priority) == 0 then
        redis.call('ZREM', base .. ':urgent', priority)
        redis.call('ZREM', base .. ':later', priority)
    end
    if batch ~= '' then
        redis.call('ZREM', batch_base(batch) .. ':lanes', lane)
        if redis.call('EXISTS', batch_base(batch) .. ':lanes') == 0 then
            redis.call('ZREM', base .. ':shelves', batch)
        end
    end
end

-- Corrects the head of a lane. `was` and `was_due` are the id and the due time in the old head, if there is one.
local function settle(lane, was, was_due)
    local id, due = first_of(lane)
    if was and was == id and was_due == due then
        return
    end
    if was and was ~= id then
        hide(lane, was)
    end
    local batch = batch_of(lane)
    if not id then
        close_lane(lane, batch)
        return
    end
    show(lane, id, due)
    if batch ~= '' then
        redis.call('ZADD', batch_base(batch) .. ':lanes', priority_of(lane), lane)
    end
end

-- Remembers the first job of a lane before the script changes the lane.
local function touch(lane)
    if not touched[lane] then
        touched[lane] = {first_of(lane)}
    end
end

-- Corrects the heads of all lanes that the script has changed. Every script that changes lanes calls it at its end.
local function settle_lanes()
    for lane, was in pairs(touched) do
        settle(lane, was[1], was[2])
        local batch = batch_of(lane)
        if batch ~= '' and is_cancelled(batch) and redis.call('EXISTS', base .. ':lane:' .. lane) == 1 then
            redis.call('ZADD', base .. ':cancelling', 0, batch)
        end
    end
    touched = {}
end
