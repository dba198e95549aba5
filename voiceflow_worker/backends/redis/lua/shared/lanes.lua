-- Lanes. A lane holds the queued jobs of one priority and one batch by due time; `batch:…:lanes` lists those of a batch.
-- The first job of each lane stands in `heads:<priority>` by due time, as 'id NUL lane': jobs due at the same time are
-- then in the order of their ids, and a lane that is not due is never looked at. `urgent` holds the priorities that had a
-- head due, `later` the others by the time of their first head. `shelves` holds closed batches by the time they open:
-- their heads are put aside when a lease meets them. A head that no longer is the first of its lane is put right by the
-- lease that meets it. `cancelling` holds cancelled batches that may have queued jobs.
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

-- Puts the head of a lane right: `was` and `was_due` are the job that stands there, if any.
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

-- Every script that changes lanes ends with this.
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

-- Takes in lanes that the release before this one has written, at most so many; answers how many.
local function adopt(most)
    local lanes = redis.call('ZRANGE', base .. ':lanes', 0, most - 1)
    for _, lane in ipairs(lanes) do
        settle(lane)
        local batch = batch_of(lane)
        if batch ~= '' and is_cancelled(batch) then
            redis.call('ZADD', base .. ':cancelling', 0, batch)
        end
        redis.call('ZREM', base .. ':lanes', lane)
    end
    return #lanes
end
